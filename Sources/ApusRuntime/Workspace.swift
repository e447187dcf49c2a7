import ApusCore

/// Memory that the profiles of a context use in turn: the arena, scratch for each thread, and a staging buffer.
final class Workspace {
  private let device: any Device
  private let scratchCount: Int
  private(set) var arena: DeviceBuffer?
  private(set) var scratch: DeviceBuffer?
  /// Holds `next` values while a loop hands them on.
  private(set) var staging: DeviceBuffer?
  /// Counts changes of the arena's address.
  private(set) var epoch = 0

  init(device: any Device, stream: any DeviceStream) {
    self.device = device
    scratchCount = stream.scratchCount
  }

  var byteCount: Int { [arena, scratch, staging].reduce(0) { $0 + ($1?.byteCount ?? 0) } }

  func reserveArena(_ byteCount: Int) throws(RunError) {
    if byteCount <= arena?.byteCount ?? 0 { return }
    arena = nil
    arena = try allocate(byteCount, "the arena")
    epoch += 1
  }

  /// Makes sure that every thread has the scratch bytes a launch needs.
  func reserveScratch(_ byteCount: Int) throws(RunError) {
    let needed = saturatingMultiply(Self.stride(byteCount), scratchCount)
    if needed <= scratch?.byteCount ?? 0 { return }
    scratch = nil
    scratch = try allocate(needed, "scratch")
  }

  func reserveStaging(_ byteCount: Int) throws(RunError) -> DeviceBuffer {
    if let staging, staging.byteCount >= byteCount { return staging }
    let buffer = try allocate(byteCount, "the values of a loop")
    staging = buffer
    return buffer
  }

  func allocate(_ byteCount: Int, _ what: String) throws(RunError) -> DeviceBuffer {
    let limit = device.memoryByteCount
    if byteCount > limit { throw RunError.tooLarge(byteCount, what, limit: limit) }
    do { return try device.allocate(byteCount: max(byteCount, 64)) } catch {
      throw RunError(device: error).at(what)
    }
  }

  static func stride(_ byteCount: Int) -> Int {
    byteCount > .max - 63 ? .max : (byteCount + 63) / 64 * 64
  }
}
