public import ApusCore
public import ApusRuntime
import CApusHost

extension CPUDevice {
  /// Measures what the threads multiply and add in registers, read from memory, and take to come together, some tenths of a second.
  public func ceilings() throws(DeviceError) -> DeviceCeilings? {
    let probes = apus_find_probes()
    let byteCount = min(max(4 * identity.cacheByteCount, 128 << 20), 512 << 20)
    let source = try allocate(byteCount: byteCount)
    source.base.initializeMemory(as: UInt8.self, repeating: 1, count: byteCount)
    let read = ProbeLaunch(probes.read, byteCount, source: source.base)
    let bytes = Self.best(of: 12) { read.run(on: pool) }
    let steps = 400_000
    let multiply = Self.best(of: 12) { [probe = ProbeLaunch(probes.multiply, steps)] in probe.run(on: pool) }
    let nothing = Self.best(of: 400) { [probe = ProbeLaunch(probes.nothing, 0)] in probe.run(on: pool) }
    return DeviceCeilings(
      operationsPerSecond: [.f32: Double(threadCount * steps) * Double(probes.operations) / multiply],
      bytesPerSecond: Double(byteCount) / bytes, launchSeconds: nothing, isComputeMeasured: true)
  }

  /// Seconds of the fastest of some runs.
  private static func best(of count: Int, _ body: () -> Void) -> Double {
    var best = Duration.seconds(1000)
    for _ in 0..<count {
      let start = ContinuousClock.now
      body()
      best = min(best, ContinuousClock.now - start)
    }
    return max(best / .seconds(1), 1e-9)
  }
}

/// A probe on all threads of a pool, a block for each.
struct ProbeLaunch {
  private let probe: apus_kernel?
  private let parameter: Int64
  private let source: UnsafeMutableRawPointer?

  /// - Parameter source: what it reads; nil for two factors.
  init(_ probe: apus_kernel?, _ parameter: Int, source: UnsafeMutableRawPointer? = nil) {
    self.probe = probe
    self.parameter = Int64(parameter)
    self.source = source
  }

  func run(on pool: ThreadPool) {
    guard let probe else { return }
    let blocks = pool.threadCount
    let handle = unsafeBitCast(probe, to: UnsafeMutableRawPointer.self)
    withUnsafeTemporaryAllocation(byteCount: 64 * (blocks + 1), alignment: 64) { memory in
      guard let base = memory.baseAddress else { return }
      base.initializeMemory(as: Float.self, repeating: 0.5, count: 2)
      withUnsafeTemporaryAllocation(of: UnsafeMutableRawPointer?.self, capacity: 2) { buffers in
        _ = buffers.initialize(fromContentsOf: [source ?? base, base + 64])
        guard let first = buffers.baseAddress else { return }
        withUnsafePointer(to: parameter) { parameter in
          pool.run(
            DeviceLaunch(
              function: DeviceFunction(handle: handle), buffers: UnsafePointer(first), bufferCount: 2,
              parameters: parameter, parameterCount: 1, blocks: blocks, scratch: nil, scratchStride: 0))
        }
      }
    }
  }
}
