/// What a process holds of a device's memory.
public struct DeviceMemoryUse: Sendable, Hashable {
  /// The most bytes that were allocated at one time since the device was opened or ``Device/resetMemoryPeak()``.
  public var peakByteCount: Int
  /// Bytes allocated now.
  public var byteCount: Int
  /// Bytes that the driver took beside what was allocated: code of loaded images, recorded launches. What other processes
  /// took since the device was opened is counted in, since no driver tells it apart.
  public var driverByteCount: Int

  public init(peakByteCount: Int, byteCount: Int, driverByteCount: Int) {
    self.peakByteCount = peakByteCount
    self.byteCount = byteCount
    self.driverByteCount = driverByteCount
  }
}

/// Which queues of a device go first when several have work.
public enum StreamPriority: Sendable, Hashable, CaseIterable {
  case low, normal, high
}
