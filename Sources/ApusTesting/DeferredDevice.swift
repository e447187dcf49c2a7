package import ApusCore
package import ApusPlan
package import ApusRuntime
import Synchronization

/// A device that does nothing before someone waits for it: what is queued reads and writes memory as late as it may.
///
/// Whoever changes memory that queued work still uses, or reads results too early, gets wrong ones every time. Lanes of a stream
/// go on in an order that is chosen for them, of those that their waiting allows.
package final class DeferredDevice: Device {
  package let name: String
  private let inner: any Device
  private let timeline = Timeline()
  private let choice: LaneChoice?

  /// - Parameter choice: which lane goes on where several can; nil for streams without lanes.
  package init(_ inner: any Device, lanes choice: LaneChoice? = nil) {
    self.inner = inner
    self.choice = choice
    name = "deferred \(inner.name)"
  }

  package var sharesHostMemory: Bool { inner.sharesHostMemory }
  package var memoryByteCount: Int { inner.memoryByteCount }
  package var scratchCount: Int { inner.scratchCount }

  package var identity: DeviceIdentity { inner.identity }

  package func suitability(of fingerprint: Fingerprint) throws(EngineFileError) -> Int {
    try inner.suitability(of: fingerprint)
  }

  package func allocate(byteCount: Int) throws(DeviceError) -> DeviceBuffer { try inner.allocate(byteCount: byteCount) }

  package func allocatePinned(byteCount: Int) throws(DeviceError) -> PinnedBuffer {
    let buffer = try inner.allocatePinned(byteCount: byteCount)
    let key = timeline.addPinned(buffer.bytes)
    return PinnedBuffer(bytes: buffer.bytes) { [timeline] _ in
      withExtendedLifetime(buffer) { timeline.removePinned(key) }
    }
  }

  package func place(constants: UnsafeRawBufferPointer) throws(DeviceError) -> DeviceBuffer? {
    try inner.place(constants: constants)
  }

  package func load(_ image: KernelImage) throws(DeviceError) -> any DeviceImage { try inner.load(image) }

  package func makeStream(priority: StreamPriority) throws(DeviceError) -> any DeviceStream {
    DeferredStream(try inner.makeStream(priority: priority), timeline, choice)
  }
}

/// One thread at a time does what was queued, on whichever stream.
private final class Timeline: Sendable {
  private let turn = Mutex(())
  private let pinned = Mutex([Int: Range<UInt>]())

  func exclusively<Result>(_ body: () throws -> Result) rethrows -> Result { try turn.withLock { _ in try body() } }

  func addPinned(_ bytes: UnsafeMutableRawBufferPointer) -> Int {
    let start = UInt(bitPattern: bytes.baseAddress)
    return pinned.withLock { ranges in
      let key = (ranges.keys.max() ?? 0) + 1
      ranges[key] = start..<start + UInt(bytes.count)
      return key
    }
  }

  func removePinned(_ key: Int) { pinned.withLock { $0[key] = nil } }

  func isPinned(_ address: UnsafeRawPointer) -> Bool {
    pinned.withLock { $0.values.contains { $0.contains(UInt(bitPattern: address)) } }
  }
}

private final class DeferredEvent: DeviceEvent {
  let queue: WorkQueue
  let position: Int
  private let timeline: Timeline

  init(_ queue: WorkQueue, _ position: Int, _ timeline: Timeline) {
    self.queue = queue
    self.position = position
    self.timeline = timeline
  }

  func wait(limit: Duration?) throws(DeviceError) { timeline.exclusively { queue.advance(to: position) } }
}

private final class Recording: CapturedWork {
  var work: [QueuedWork] = []
}

private final class DeferredStream: DeviceStream {
  private let inner: any DeviceStream
  private let timeline: Timeline
  private let queue: WorkQueue
  private let hasLanes: Bool
  private var lane = 0
  private var recording: Recording?

  init(_ inner: any DeviceStream, _ timeline: Timeline, _ choice: LaneChoice?) {
    self.inner = inner
    self.timeline = timeline
    hasLanes = choice != nil
    queue = WorkQueue(choice ?? .first)
  }

  private func add(_ item: @escaping () -> Void) { add(.run(item)) }

  private func add(_ action: QueuedWork.Action) {
    let item = QueuedWork(lane: lane, action: action)
    if let recording { return recording.work.append(item) }
    timeline.exclusively { queue.add(item) }
  }

  func makeLanes(_ count: Int, points: Int) throws(DeviceError) -> Bool { hasLanes }

  func enter(lane: Int) { self.lane = lane }

  func reach(point: Int) { add(.reach(point: point)) }

  func wait(point: Int) { add(.wait(point: point)) }

  func launch(_ launch: DeviceLaunch) {
    // Arguments are taken when a launch is queued.
    let buffers = (0..<launch.bufferCount).map { launch.buffers[$0] } + [nil]
    let parameters = (0..<launch.parameterCount).map { launch.parameters[$0] } + [0]
    add { [inner] in
      var launch = launch
      buffers.withUnsafeBufferPointer { buffers in
        parameters.withUnsafeBufferPointer { parameters in
          guard let addresses = buffers.baseAddress, let numbers = parameters.baseAddress else { return }
          launch.buffers = addresses
          launch.parameters = numbers
          inner.launch(launch)
        }
      }
    }
  }

  func copy(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    add { [inner] in inner.copy(from: source, to: target, byteCount: byteCount) }
  }

  func upload(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    if timeline.isPinned(source) {
      return add { [inner] in inner.upload(from: source, to: target, byteCount: byteCount) }
    }
    let bytes = [UInt8](UnsafeRawBufferPointer(start: source, count: byteCount))
    add { [inner] in
      bytes.withUnsafeBytes { bytes in
        if let base = bytes.baseAddress { inner.upload(from: base, to: target, byteCount: byteCount) }
      }
    }
  }

  func download(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    add { [inner] in inner.download(from: source, to: target, byteCount: byteCount) }
  }

  func fill(_ target: UnsafeMutableRawPointer, with byte: UInt8, byteCount: Int) {
    add { [inner] in inner.fill(target, with: byte, byteCount: byteCount) }
  }

  func synchronize() throws(DeviceError) {
    drain()
    if let fault = timeline.exclusively({ queue.takeFault() }) { throw DeviceError("APUS-D-0014", fault) }
    try inner.synchronize()
  }

  func drain() {
    timeline.exclusively {
      queue.requireJoined(at: "the end")
      queue.advance(to: queue.end)
    }
  }

  func record(_ earlier: (any DeviceEvent)?) throws(DeviceError) -> any DeviceEvent {
    timeline.exclusively {
      queue.requireJoined(at: "an event")
      return DeferredEvent(queue, queue.end, timeline)
    }
  }

  func wait(for event: any DeviceEvent) {
    guard let event = event as? DeferredEvent else { return }
    add { event.queue.advance(to: event.position) }
  }

  let canCapture = true

  func beginCapture() { recording = Recording() }

  func endCapture(updating earlier: (any CapturedWork)?) throws(DeviceError) -> any CapturedWork {
    defer { recording = nil }
    return recording ?? Recording()
  }

  func launch(_ work: any CapturedWork) {
    guard let recording = work as? Recording else { return }
    timeline.exclusively {
      queue.requireJoined(at: "the start of a recording")
      recording.work.forEach(queue.add)
      queue.requireJoined(at: "the end of a recording")
    }
  }
}
