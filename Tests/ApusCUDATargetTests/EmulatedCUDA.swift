import ApusCPUDevice
import ApusCUDATarget
import ApusCompiler
import ApusCore
import ApusKernel
import ApusPlan
import Foundation

/// CUDA kernels compiled for the processor of this machine, where the threads of a block take turns.
struct EmulatedCUDA: Target {
  private let cuda: CUDACodeTarget
  private let cpu: Fingerprint

  /// - Parameter threads: how many the kernels take a GPU to have; none makes strips as wide as they can be.
  init(threads: Int) throws {
    cuda = try CUDACodeTarget(name: "sm_80", native: nil, jobs: 1, threads: threads, isPlain: true)
    cpu = Fingerprint(backend: "cpu", target: CPUFeatures().level, features: [])
  }

  var fingerprint: Fingerprint { cpu }
  /// Products, convolutions and attentions use instructions that are not emulated: loops compute them.
  var templates: [any KernelTemplate] { cuda.templates }
  var hostIsElsewhere: Bool { true }
  var launchElements: Int { 1 << 20 }
  var joinsLargeProducts: Bool { false }

  func loops(_ kernel: Kernel) -> KernelCode { cuda.loops(kernel) }
  func loops(beside kernels: [Kernel]) -> KernelCode? { cuda.loops(beside: kernels) }

  /// The source with a function, in the place of the kernel around a body, that the processor's device calls for each block.
  private static func emulated(_ given: String) throws(BuildError) -> String {
    // Kernels share one program here, and with it one form of each function: what is defined before the prelude is left out.
    var source = given[...]
    while source.hasPrefix("#define"), let line = source.firstIndex(of: "\n") {
      source = source[source.index(after: line)...]
    }
    guard source.hasPrefix(CUDAText.prelude), let kernel = source.range(of: "extern \"C\" __global__"),
      let match = source[kernel.lowerBound...].firstMatch(of: /__launch_bounds__\((\d+)\) (\w+)\(/)
    else { throw BuildError("APUS-B-0012", "a kernel is expected: \(source.suffix(500))") }
    let (threads, name) = (match.output.1, match.output.2)
    let own = source[..<kernel.lowerBound].dropFirst(CUDAText.prelude.count)
    let threadsMeet = ["apus_shuffle", "__sync", "_sync("].contains { own.contains($0) }
    return CUDAText.prelude.replacing(CUDAText.ptx, with: file("emulated_ptx.h")) + own + """
      struct \(name)_call { void *const *buffers; const i64 *params; i64 block, blockCount; u8 *shared; };
      static void \(name)_thread(void *argument) {
        const \(name)_call *c = (const \(name)_call *)argument;
        \(name)_body(c->buffers, c->params, c->block, c->blockCount, c->shared);
      }
      extern "C" void \(name)(void *const *buffers, const i64 *params, i64 block, i64 blockCount, void *) {
        static thread_local u8 shared[1 << 18] __attribute__((aligned(1024)));
        memset(shared, 0xff, sizeof shared);
        \(name)_call c = {buffers, params, block, blockCount, shared};
        emulated_run(\(threads), \(threadsMeet), \(name)_thread, &c);
      }

      """
  }

  func compile(_ sources: [String], progress: (Int, Int) -> Void) throws(BuildError) -> [KernelImage] {
    let folder = NSTemporaryDirectory() + "apus-emulated-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: folder) }
    do {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      var source = Self.file("emulation.h")
      for kernel in sources { source += try Self.emulated(kernel) }
      try source.write(toFile: folder + "/kernels.cpp", atomically: true, encoding: .utf8)
      let compiler = Process()
      compiler.executableURL = URL(fileURLWithPath: "/usr/bin/env")
      compiler.arguments = [
        "clang++", "-std=gnu++17", "-O1", "-march=x86-64-v3", "-fwrapv", "-ffp-contract=off", "-fPIC", "-shared", "-w",
        "-o", folder + "/image.so", folder + "/kernels.cpp",
      ]
      let output = Pipe()
      compiler.standardError = output
      try compiler.run()
      let log = output.fileHandleForReading.readDataToEndOfFile()
      compiler.waitUntilExit()
      if compiler.terminationStatus != 0 {
        throw BuildError("APUS-B-0012", String(decoding: log.prefix(3000), as: UTF8.self))
      }
      let image = try Data(contentsOf: URL(fileURLWithPath: folder + "/image.so"))
      return [KernelImage(target: cpu.target, bytes: Array(image))]
    } catch let error as BuildError { throw error } catch { throw BuildError("APUS-B-0012", "\(error)") }
  }

  private static func file(_ name: String) -> String {
    let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(name)
    return (try? String(contentsOf: path, encoding: .utf8)) ?? ""
  }
}
