public import ApusCore

/// What a device can do at most: the two lines of its roofline, and what a launch takes.
public struct DeviceCeilings: Sendable {
  /// Operations in a second by element type, a multiplication with an addition counting as two; others compute as `f32`.
  public var operationsPerSecond: [DType: Double]
  /// Bytes that are read from memory in a second.
  public var bytesPerSecond: Double
  /// What a launch that does nothing takes.
  public var launchSeconds: Double
  /// Whether the operations were measured, or follow from the device's clock and units.
  public var isComputeMeasured: Bool

  public init(
    operationsPerSecond: [DType: Double], bytesPerSecond: Double, launchSeconds: Double, isComputeMeasured: Bool
  ) {
    self.operationsPerSecond = operationsPerSecond
    self.bytesPerSecond = bytesPerSecond
    self.launchSeconds = launchSeconds
    self.isComputeMeasured = isComputeMeasured
  }

  /// Operations in a second on elements of a type.
  public func operations(on dtype: DType?) -> Double {
    dtype.flatMap { operationsPerSecond[$0] } ?? operationsPerSecond[.f32] ?? 0
  }
}

/// Where a step stands below the ceilings.
public struct RooflinePosition: Sendable {
  /// What keeps a step from being faster.
  public enum Bound: String, Sendable {
    /// The arithmetic units; the memory; the launch itself.
    case compute, memory, launch
  }

  public var bound: Bound
  /// The time that the ceilings allow, divided by the time that it took. Above 1 where operands are in a cache, or the step does
  /// less than it is counted for.
  public var share: Double
  /// What would be saved if it were as fast as the ceilings and a launch allow.
  public var gain: Double

  /// - Parameters:
  ///   - work: arithmetic operations.
  ///   - traffic: bytes that are read and written.
  public init(work: Int, traffic: Int, dtype: DType?, seconds: Double, _ ceilings: DeviceCeilings) {
    let compute = Double(work) / max(ceilings.operations(on: dtype), 1)
    let memory = Double(traffic) / max(ceilings.bytesPerSecond, 1)
    let ideal = max(compute, memory)
    bound = ideal < ceilings.launchSeconds ? .launch : compute > memory ? .compute : .memory
    share = seconds > 0 ? ideal / seconds : 0
    gain = max(0, seconds - max(ideal, ceilings.launchSeconds))
  }
}

extension Device {
  /// Bytes in a second that copies within the device's memory move: each is read and written.
  package func measuredCopyRate() throws(DeviceError) -> Double {
    let byteCount = min(max(8 * identity.cacheByteCount, 256 << 20), memoryByteCount / 8)
    let (source, target) = (try allocate(byteCount: byteCount), try allocate(byteCount: byteCount))
    let stream = try makeStream()
    stream.fill(source.base, with: 1, byteCount: byteCount)
    var best = Double.infinity
    for _ in 0..<8 {
      let start = try stream.mark()
      stream.copy(from: source.base, to: target.base, byteCount: byteCount)
      let end = try stream.mark()
      try stream.synchronize()
      best = min(best, try end.seconds(since: start))
    }
    return 2 * Double(byteCount) / max(best, 1e-9)
  }
}
