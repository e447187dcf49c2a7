import ApusCore
import ApusRuntime

/// A stream that does everything at once and counts what its lanes would wait for.
final class LaneStream: DeviceStream {
  private let inner: any DeviceStream
  private(set) var laneCount = 0
  private(set) var pointCount = 0
  private(set) var lane = 0
  var crossings = 0

  init(_ inner: any DeviceStream) { self.inner = inner }

  func makeLanes(_ count: Int, points: Int) throws(DeviceError) -> Bool {
    (laneCount, pointCount) = (count, points)
    return true
  }

  func enter(lane: Int) { self.lane = lane }

  func reach(point: Int) {}

  func wait(point: Int) { crossings += 1 }

  func launch(_ launch: DeviceLaunch) { inner.launch(launch) }

  func copy(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    inner.copy(from: source, to: target, byteCount: byteCount)
  }

  func fill(_ target: UnsafeMutableRawPointer, with byte: UInt8, byteCount: Int) {
    inner.fill(target, with: byte, byteCount: byteCount)
  }

  func synchronize() throws(DeviceError) { try inner.synchronize() }
}
