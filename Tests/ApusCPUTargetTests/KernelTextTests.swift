import ApusCPUTarget
import Testing

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Compiles the C checks of the kernel texts and runs a few rounds: `Kernels/test.c` compares every template with plain
/// f64 loops on random shapes, `Kernels/test_math.c` sweeps the functions of `math.h`.
@Suite struct KernelTextTests {
  private static let folder = #filePath.split(separator: "/").dropLast().map { "/" + $0 }.joined()

  @Test(arguments: TemplateTests.targets) func templatesAgreeWithPlainLoops(_ target: String) throws {
    #expect(try run("test.c", target, arguments: ["40", "1"]).hasSuffix("all ok\n"))
  }

  @Test(arguments: TemplateTests.targets) func functionsAreAccurate(_ target: String) throws {
    #expect(try run("test_math.c", target, arguments: ["199967"]).hasSuffix("math ok\n"))
  }

  /// What the program of a source prints.
  private func run(_ source: String, _ target: String, arguments: [String]) throws -> String {
    let compiler = try #require(CCompiler.find("clang"))
    let base = "/tmp/apus-kernels-\(getpid())-\(target)-\(source.dropLast(2))"
    defer { for suffix in ["", ".log", ".out"] { unlink(base + suffix) } }
    let flags = [
      "-O3", "-std=gnu11", "-fno-math-errno", "-ffp-contract=fast", "-fno-trapping-math", "-fwrapv", "-w",
      "-march=\(target)", "-mprefer-vector-width=512", "-I\(Self.folder)/../../Sources/ApusCPUTarget",
    ]
    let compiled = spawn([compiler] + flags + ["\(Self.folder)/Kernels/\(source)", "-o", base, "-lm"], "\(base).log")
    try #require(compiled == 0, "\(text(of: "\(base).log"))")
    let status = spawn([base] + arguments, "\(base).out")
    let output = text(of: "\(base).out")
    #expect(status == 0, "\(output)")
    return output
  }

  /// The exit status of a program whose output goes to a file.
  private func spawn(_ arguments: [String], _ log: String) -> Int32 {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
    posix_spawn_file_actions_adddup2(&actions, 1, 2)
    let words = arguments.map { strdup($0) }
    defer { for word in words { free(word) } }
    var pid: pid_t = 0
    if posix_spawn(&pid, arguments[0], &actions, nil, words + [nil], environ) != 0 { return -1 }
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0 { if errno != EINTR { return -1 } }
    return status
  }

  private func text(of path: String) -> String {
    guard let file = fopen(path, "r") else { return "" }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 1 << 20)
    let count = fread(&bytes, 1, bytes.count, file)
    return String(decoding: bytes.prefix(count), as: UTF8.self)
  }
}
