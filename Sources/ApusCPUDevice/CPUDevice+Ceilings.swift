public import ApusCore
public import ApusRuntime
import CApusHost

extension CPUDevice {
  /// Measures what the threads multiply and add in registers, read from memory, and take to come together, some tenths of a second.
  public func ceilings() throws(DeviceError) -> DeviceCeilings? {
    let probes = apus_find_probes()
    let byteCount = min(max(4 * identity.cacheByteCount, 128 << 20), 512 << 20)
    let source = try allocate(byteCount: byteCount)
    let results = try allocate(byteCount: 64 * threadCount)
    source.base.initializeMemory(as: UInt8.self, repeating: 1, count: byteCount)
    source.base.initializeMemory(as: Float.self, repeating: 0.5, count: 2)
    let bytes = Self.best(of: 12) { try? launch(probes.read, source, results, byteCount) }
    let steps = 400_000
    let multiply = Self.best(of: 12) { try? launch(probes.multiply, source, results, steps) }
    let nothing = Self.best(of: 400) { try? launch(probes.nothing, source, results, 0) }
    return DeviceCeilings(
      operationsPerSecond: [.f32: Double(threadCount * steps) * Double(probes.operations) / multiply],
      bytesPerSecond: Double(byteCount) / bytes, launchSeconds: nothing, isComputeMeasured: true)
  }

  /// Runs a probe on all threads.
  private func launch(
    _ probe: apus_kernel?, _ source: DeviceBuffer, _ results: DeviceBuffer, _ parameter: Int
  ) throws(DeviceError) {
    guard let probe else { return }
    let handle = unsafeBitCast(probe, to: UnsafeMutableRawPointer.self)
    let buffers: [UnsafeMutableRawPointer?] = [source.base, results.base]
    let parameters = [Int64(parameter)]
    buffers.withUnsafeBufferPointer { buffers in
      parameters.withUnsafeBufferPointer { parameters in
        guard let first = buffers.baseAddress, let number = parameters.baseAddress else { return }
        pool.run(
          DeviceLaunch(
            function: DeviceFunction(handle: handle), buffers: first, bufferCount: 2, parameters: number,
            parameterCount: 1, blocks: threadCount, scratch: nil, scratchStride: 0))
      }
    }
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
