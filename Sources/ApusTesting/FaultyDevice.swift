package import ApusCore
package import ApusPlan
package import ApusRuntime
import Synchronization

/// A device that works like another until one of its calls fails, and counts what is taken of it and not given back.
///
/// Calls of streams fail as those of accelerators do: what is queued after them is dropped, and the next wait tells.
package final class FaultyDevice: Device {
  package let name: String
  private let inner: any Device
  private let ledger: Ledger

  /// - Parameters:
  ///   - call: which call fails, counted from 0; nil for none.
  ///   - isFatal: whether all calls after it fail too, as those of a device that is lost.
  package init(_ inner: any Device, failing call: Int?, isFatal: Bool = false) {
    self.inner = inner
    ledger = Ledger(failing: call, isFatal: isFatal)
    name = "faulty \(inner.name)"
  }

  /// Number of calls so far.
  package var callCount: Int { ledger.state.withLock { $0.calls } }
  /// What the call that failed was to do; nil before it.
  package var failed: String? { ledger.state.withLock { $0.failed } }
  /// Buffers, images and streams that are in use.
  package var liveCount: Int { ledger.state.withLock { $0.live } }

  package var sharesHostMemory: Bool { inner.sharesHostMemory }
  package var memoryByteCount: Int { inner.memoryByteCount }
  package var scratchCount: Int { inner.scratchCount }

  package var identity: DeviceIdentity { inner.identity }

  package func suitability(of fingerprint: Fingerprint) throws(EngineFileError) -> Int {
    try inner.suitability(of: fingerprint)
  }

  package func allocate(byteCount: Int) throws(DeviceError) -> DeviceBuffer {
    try ledger.note("allocating \(byteCount) bytes")
    return kept(try inner.allocate(byteCount: byteCount))
  }

  package func allocatePinned(byteCount: Int) throws(DeviceError) -> PinnedBuffer {
    try ledger.note("allocating \(byteCount) pinned bytes")
    let buffer = try inner.allocatePinned(byteCount: byteCount)
    let entry = Entry(ledger)
    return PinnedBuffer(bytes: buffer.bytes) { _ in withExtendedLifetime((buffer, entry)) {} }
  }

  package func place(constants: UnsafeRawBufferPointer) throws(DeviceError) -> DeviceBuffer? {
    try ledger.note("placing constants")
    return try inner.place(constants: constants).map(kept)
  }

  package func load(_ image: KernelImage) throws(DeviceError) -> any DeviceImage {
    try ledger.note("loading an image")
    return FaultyImage(try inner.load(image), ledger)
  }

  package func makeStream(priority: StreamPriority) throws(DeviceError) -> any DeviceStream {
    try ledger.note("making a stream")
    return FaultyStream(try inner.makeStream(priority: priority), ledger)
  }

  private func kept(_ buffer: DeviceBuffer) -> DeviceBuffer {
    let entry = Entry(ledger)
    return DeviceBuffer(base: buffer.base, byteCount: buffer.byteCount) { _ in
      withExtendedLifetime((buffer, entry)) {}
    }
  }
}

/// Calls and what they took.
private final class Ledger: Sendable {
  struct State {
    var calls = 0
    var live = 0
    var failed: String?
  }

  let state = Mutex(State())
  private let failing: Int?
  private let isFatal: Bool

  init(failing call: Int?, isFatal: Bool) {
    failing = call
    self.isFatal = isFatal
  }

  /// Counts a call.
  func note(_ what: String) throws(DeviceError) {
    let (fails, first) = state.withLock { state -> (Bool, String?) in
      defer { state.calls += 1 }
      if state.calls == failing { state.failed = what }
      return (state.calls == failing || isFatal && state.failed != nil, state.failed)
    }
    if !fails { return }
    throw DeviceError(isFatal ? "APUS-D-0016" : "APUS-D-0012", "\(first ?? what) failed", place: "the faulty device")
  }
}

/// One thing that is in use.
private final class Entry: Sendable {
  private let ledger: Ledger

  init(_ ledger: Ledger) {
    self.ledger = ledger
    ledger.state.withLock { $0.live += 1 }
  }

  deinit { ledger.state.withLock { $0.live -= 1 } }
}

private final class FaultyImage: DeviceImage {
  private let inner: any DeviceImage
  private let ledger: Ledger
  private let entry: Entry

  init(_ inner: any DeviceImage, _ ledger: Ledger) {
    self.inner = inner
    self.ledger = ledger
    entry = Entry(ledger)
  }

  func function(_ function: KernelFunction) throws(DeviceError) -> DeviceFunction {
    try ledger.note("finding '\(function.symbol)'")
    return try inner.function(function)
  }
}

private final class FaultyStream: DeviceStream {
  private let inner: any DeviceStream
  private let ledger: Ledger
  private let entry: Entry
  private var failure: DeviceError?

  init(_ inner: any DeviceStream, _ ledger: Ledger) {
    self.inner = inner
    self.ledger = ledger
    entry = Entry(ledger)
  }

  /// Counts a call that queues something; false when it and what follows is dropped.
  private func queue(_ what: String) -> Bool {
    if failure != nil { return false }
    do { try ledger.note(what) } catch { failure = error }
    return failure == nil
  }

  func launch(_ launch: DeviceLaunch) { if queue("launching \(launch.blocks) blocks") { inner.launch(launch) } }

  func copy(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    if queue("copying \(byteCount) bytes") { inner.copy(from: source, to: target, byteCount: byteCount) }
  }

  func upload(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    if queue("uploading \(byteCount) bytes") { inner.upload(from: source, to: target, byteCount: byteCount) }
  }

  func download(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    if queue("downloading \(byteCount) bytes") { inner.download(from: source, to: target, byteCount: byteCount) }
  }

  func fill(_ target: UnsafeMutableRawPointer, with byte: UInt8, byteCount: Int) {
    if queue("filling \(byteCount) bytes") { inner.fill(target, with: byte, byteCount: byteCount) }
  }

  func synchronize() throws(DeviceError) {
    drain()
    try check()
  }

  func drain() {
    _ = queue("waiting for the stream")
    inner.drain()
  }

  func check() throws(DeviceError) {
    guard let failure else { return }
    self.failure = nil
    throw failure
  }

  func record(_ earlier: (any DeviceEvent)?) throws(DeviceError) -> any DeviceEvent {
    try ledger.note("recording an event")
    return try inner.record(earlier)
  }

  func wait(for event: any DeviceEvent) { if queue("waiting for another stream") { inner.wait(for: event) } }

  func mark() throws(DeviceError) -> any DeviceMark {
    try ledger.note("making a mark")
    return try inner.mark()
  }

  var canCapture: Bool { inner.canCapture }

  func beginCapture() {
    // What follows must be recorded, not run, also when this fails.
    _ = queue("beginning to record")
    inner.beginCapture()
  }

  func endCapture(updating earlier: (any CapturedWork)?) throws(DeviceError) -> any CapturedWork {
    let work = try inner.endCapture(updating: earlier)
    try check()
    try ledger.note("ending to record")
    return work
  }

  func launch(_ work: any CapturedWork) { if queue("launching what was recorded") { inner.launch(work) } }
}
