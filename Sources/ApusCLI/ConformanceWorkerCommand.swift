import Apus
import ApusTesting
import ArgumentParser

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Runs the cases whose folders arrive on standard input, for `apus conformance`.
struct ConformanceWorkerCommand: ParsableCommand {
  static let name = "conformance-worker"
  static let configuration = CommandConfiguration(commandName: name, shouldDisplay: false)

  @Option(help: "Modes, separated by commas.")
  var modes: String

  @Option(help: "What to run on.")
  var backend: String

  @Option(help: "Address space in MiB that this process may take.")
  var memory: Int

  func run() throws {
    let backend = try Backend.named(backend)
    // Drivers of accelerators reserve address space by the terabyte.
    if backend.name == Backend.cpu.name {
      var limit = rlimit()
      limit.rlim_cur = rlim_t(memory) << 20
      limit.rlim_max = limit.rlim_cur
      setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
    }
    let modes = modes.split(separator: ",").compactMap { ConformanceMode(rawValue: String($0)) }
    let runner = try ConformanceRunner(backend: backend, threads: 2)
    while let folder = readLine() {
      runner.run(folder, modes: modes) { Self.send($0.line) }
      Self.send("")
    }
  }

  private static func send(_ line: String) {
    print(line)
    fflush(nil)
  }
}
