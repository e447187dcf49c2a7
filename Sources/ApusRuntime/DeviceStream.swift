public import ApusCore

/// An ordered queue of launches and copies. Used by one thread at a time.
///
/// What goes wrong with queued work is told by ``synchronize()``. What the stream queued before it failed may have been done or
/// not.
public protocol DeviceStream: AnyObject {
  func launch(_ launch: DeviceLaunch)

  /// Has a library compute something.
  ///
  /// - Parameter buffers: addresses in the order of the call's buffers.
  func call(_ call: any DeviceCall, buffers: UnsafeBufferPointer<UnsafeMutableRawPointer?>)

  /// Copies within the device's memory.
  func copy(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int)

  /// Brings bytes of the host to the device. Pinned memory must stay as it is until the copy is done, other memory until
  /// the call returns.
  func upload(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int)

  /// Brings bytes of the device to the host, where they are once ``synchronize()`` has returned.
  func download(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int)

  /// Brings managed memory to where it is needed next, ahead of time.
  func prefetch(_ address: UnsafeMutableRawPointer, byteCount: Int, toHost: Bool)

  func fill(_ target: UnsafeMutableRawPointer, with byte: UInt8, byteCount: Int)

  /// Waits until all that was queued is done.
  ///
  /// - Throws: ``DeviceError`` `APUS-D-0016` when the device can do nothing more for this process, `APUS-D-0017` when the work
  ///   takes longer than ``timeLimit``.
  func synchronize() throws(DeviceError)

  /// Throws what went wrong with queueing so far, without waiting.
  func check() throws(DeviceError)

  /// The longest that the host waits for queued work; nil for as long as it takes. A stream that was given up is of no more
  /// use, and its work may go on.
  var timeLimit: Duration? { get set }

  /// Whether the host gave up waiting: what was queued may go on for ever, and still uses its memory.
  var isGivenUp: Bool { get }

  /// Notes that the stream gets to this point, for other streams and threads to wait for.
  ///
  /// - Parameter earlier: an event that nobody needs any more, to be used again.
  func record(_ earlier: (any DeviceEvent)?) throws(DeviceError) -> any DeviceEvent

  /// Has what is queued from now on wait for a point of another stream of the device.
  func wait(for event: any DeviceEvent)

  /// Makes lanes beside the stream's own, on which work goes on side by side, and points for them to wait for. Later calls may
  /// ask for more of both. Work of lanes belongs to the stream: it is over when the first lane, which is the stream itself, has
  /// waited for it.
  ///
  /// - Returns: whether there are such; false where the stream does all in one order.
  func makeLanes(_ count: Int, points: Int) throws(DeviceError) -> Bool

  /// Has launches, calls and copies within the device go to a lane from now on, 0 for the stream itself. A lane must first wait
  /// for a point of one that has begun.
  func enter(lane: Int)

  /// Notes that the lane gets to this point.
  func reach(point: Int)

  /// Has what the lane is given from now on wait for a point that was noted before.
  func wait(point: Int)

  /// Waits as ``synchronize()`` does, and keeps what went wrong for that: memory can be given back afterwards.
  func drain()

  /// Has everything that computes ready at once, as it is within a run and may not be after a while of other work.
  func rouse()

  /// Makes caches hold these bytes of the device's memory, which are undefined afterwards, in place of others.
  func occupyCaches(with memory: UnsafeMutableRawPointer, byteCount: Int)

  /// Notes the time at which the stream gets to this point.
  func mark() throws(DeviceError) -> any DeviceMark

  /// Whether launches and copies can be recorded, to be queued again as a whole.
  var canCapture: Bool { get }

  /// Records what is queued from now on instead of running it.
  func beginCapture()

  /// Ends recording.
  ///
  /// - Parameter earlier: a recording of the same launches with other addresses, which is brought up to date where the
  ///   device can do that faster than make a new one.
  func endCapture(updating earlier: (any CapturedWork)?) throws(DeviceError) -> any CapturedWork

  /// Queues what was recorded.
  func launch(_ work: any CapturedWork)
}

/// A point of a stream, reached when ``DeviceStream/synchronize()`` has returned.
public protocol DeviceMark: AnyObject {
  /// Seconds between two points of one stream.
  func seconds(since earlier: any DeviceMark) throws(DeviceError) -> Double
}

/// A point of a stream that others wait for.
public protocol DeviceEvent: AnyObject, Sendable {
  /// Waits until the stream gets there. Any thread may.
  ///
  /// - Parameter limit: the longest to wait; nil for as long as it takes.
  /// - Throws: ``DeviceError`` as ``DeviceStream/synchronize()``.
  func wait(limit: Duration?) throws(DeviceError)
}

/// A point of a stream that does everything at once.
private final class HostEvent: DeviceEvent {
  func wait(limit: Duration?) throws(DeviceError) {}
}

private final class HostMark: DeviceMark {
  let time = ContinuousClock.now

  func seconds(since earlier: any DeviceMark) throws(DeviceError) -> Double {
    (earlier as? HostMark).map { (time - $0.time) / .seconds(1) } ?? 0
  }
}

/// Launches and copies recorded by a stream, with the addresses and numbers they had then.
public protocol CapturedWork: AnyObject {}

extension DeviceStream {
  public func drain() {}

  public func rouse() {}

  public func occupyCaches(with memory: UnsafeMutableRawPointer, byteCount: Int) {
    fill(memory, with: 0, byteCount: byteCount)
  }

  public func call(_ call: any DeviceCall, buffers: UnsafeBufferPointer<UnsafeMutableRawPointer?>) {
    preconditionFailure("the device makes no calls ready")
  }

  public func prefetch(_ address: UnsafeMutableRawPointer, byteCount: Int, toHost: Bool) {}

  public func check() throws(DeviceError) {}

  /// Nobody waits for a stream that does everything at once.
  public var timeLimit: Duration? {
    get { nil }
    set {}
  }

  public var isGivenUp: Bool { false }

  public func record(_ earlier: (any DeviceEvent)?) throws(DeviceError) -> any DeviceEvent { earlier ?? HostEvent() }

  public func wait(for event: any DeviceEvent) {}

  public func makeLanes(_ count: Int, points: Int) throws(DeviceError) -> Bool { false }
  public func enter(lane: Int) { preconditionFailure("the stream has no lanes") }
  public func reach(point: Int) { preconditionFailure("the stream has no lanes") }
  public func wait(point: Int) { preconditionFailure("the stream has no lanes") }

  public func mark() throws(DeviceError) -> any DeviceMark { HostMark() }

  public var canCapture: Bool { false }
  public func beginCapture() { preconditionFailure("the stream records nothing") }
  public func endCapture(updating earlier: (any CapturedWork)?) throws(DeviceError) -> any CapturedWork {
    throw DeviceError("APUS-D-0014", "the stream records nothing")
  }
  public func launch(_ work: any CapturedWork) { preconditionFailure("the stream recorded nothing") }

  public func upload(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    copy(from: source, to: target, byteCount: byteCount)
  }

  public func download(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    copy(from: source, to: target, byteCount: byteCount)
  }
}
