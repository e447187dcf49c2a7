import ApusCore
import ApusRuntime
import CApusCUDA

/// A queue of work of a GPU.
///
/// The first thing that goes wrong is kept and told by ``synchronize()``; what is queued after it is dropped.
final class CUDAStream: DeviceStream {
  private let context: CUDAContext
  private let stream: apus_cuda_stream
  /// The stream itself and those of its lanes, and the one that work goes to.
  private var lanes: [apus_cuda_stream]
  private var lane = 0
  /// By lane, whether it has waited for others since its last launch: what comes next must not start early then.
  private var hasWaited = [false]
  private var points: [CUDAEvent] = []
  private var failure: DeviceError?
  var timeLimit: Duration?
  private(set) var isGivenUp = false
  /// Whether the stream is to be destroyed.
  private let isOwned: Bool

  /// Whether kernels that wait by themselves for what they need start before those in front have ended.
  private let overlaps: Bool

  init(_ context: CUDAContext, priority: Int = 0, overlaps: Bool = false) throws(DeviceError) {
    self.context = context
    self.overlaps = overlaps
    context.enter()
    var stream: apus_cuda_stream?
    try CUDADriver.check(
      apus_cuda_stream_create(&stream, UInt32(APUS_CUDA_STREAM_NON_BLOCKING), Int32(priority)), "making a stream")
    guard let stream else { throw DeviceError("APUS-D-0012", "the driver gave no stream", place: "the CUDA driver") }
    self.stream = stream
    lanes = [stream]
    isOwned = true
  }

  /// Queues on a stream that someone else made and destroys.
  init(_ context: CUDAContext, adopting stream: apus_cuda_stream, overlaps: Bool) {
    self.context = context
    self.overlaps = overlaps
    self.stream = stream
    lanes = [stream]
    isOwned = false
  }

  deinit {
    if isGivenUp { return }
    context.enter()
    for lane in lanes { _ = apus_cuda_stream_synchronize(lane) }
    for lane in lanes.dropFirst() { _ = apus_cuda_stream_destroy(lane) }
    if isOwned { _ = apus_cuda_stream_destroy(stream) }
  }

  private func note(_ result: apus_cuda_result, _ what: @autoclosure () -> String) {
    if result == APUS_CUDA_SUCCESS || failure != nil { return }
    do { try CUDADriver.check(result, what()) } catch { failure = error }
  }

  func launch(_ launch: DeviceLaunch) {
    context.enter()
    let result = apus_cuda_launch(
      apus_cuda_function(launch.function.handle), UInt32(clamping: launch.blocks), UInt32(launch.function.threads),
      UInt32(launch.function.sharedByteCount), lanes[lane], launch.buffers,
      launch.parameterCount == 0 ? nil : UnsafeRawPointer(launch.parameters), launch.maps,
      overlaps && launch.function.waits && !hasWaited[lane] ? 1 : 0)
    hasWaited[lane] = false
    note(result, "launching \(launch.blocks) blocks of \(launch.function.threads) threads")
  }

  func call(_ call: any DeviceCall, buffers: UnsafeBufferPointer<UnsafeMutableRawPointer?>) {
    guard failure == nil, let call = call as? any CUDACall else { return }
    context.enter()
    do { try call.queue(on: lanes[lane], buffers) } catch { failure = error }
  }

  func copy(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    context.enter()
    note(
      apus_cuda_copy(target, UnsafeMutableRawPointer(mutating: source), byteCount, lanes[lane]),
      "copying \(byteCount) bytes")
  }

  func upload(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    context.enter()
    note(apus_cuda_upload(target, source, byteCount, stream), "uploading \(byteCount) bytes")
  }

  func download(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    context.enter()
    note(
      apus_cuda_download(target, UnsafeMutableRawPointer(mutating: source), byteCount, stream),
      "downloading \(byteCount) bytes")
  }

  func prefetch(_ address: UnsafeMutableRawPointer, byteCount: Int, toHost: Bool) {
    context.enter()
    // The host's number is −1.
    note(
      apus_cuda_managed_prefetch(address, byteCount, toHost ? -1 : context.device, stream),
      "bringing \(byteCount) managed bytes")
  }

  func fill(_ target: UnsafeMutableRawPointer, with byte: UInt8, byteCount: Int) {
    context.enter()
    note(apus_cuda_fill(target, byte, byteCount, stream), "filling \(byteCount) bytes")
  }

  func synchronize() throws(DeviceError) {
    drain()
    try check()
  }

  func drain() {
    if isGivenUp { return }
    context.enter()
    do {
      try Waiting.wait(limit: timeLimit, for: { apus_cuda_stream_query(stream) }) {
        apus_cuda_stream_synchronize(stream)
      }
    } catch {
      if Waiting.isGivenUp(error) { isGivenUp = true }
      if failure == nil { failure = error }
    }
  }

  func check() throws(DeviceError) {
    guard let failure else { return }
    if !isGivenUp { self.failure = nil }
    throw failure
  }

  func record(_ earlier: (any DeviceEvent)?) throws(DeviceError) -> any DeviceEvent {
    if let again = earlier as? CUDAEvent {
      context.enter()
      try again.record(on: stream)
      return again
    }
    let event = try CUDAEvent(context, isTimed: false)
    try event.record(on: stream)
    return event
  }

  func wait(for event: any DeviceEvent) {
    guard let event = event as? CUDAEvent else { return }
    context.enter()
    note(event.hold(stream), "waiting for another stream")
  }

  /// Lanes are streams of the same priority.
  func makeLanes(_ count: Int, points pointCount: Int) throws(DeviceError) -> Bool {
    context.enter()
    var priority: Int32 = 0
    try CUDADriver.check(apus_cuda_stream_priority(stream, &priority), "reading the priority of a stream")
    while lanes.count <= count {
      var lane: apus_cuda_stream?
      try CUDADriver.check(
        apus_cuda_stream_create(&lane, UInt32(APUS_CUDA_STREAM_NON_BLOCKING), priority), "making a stream")
      guard let lane else { throw DeviceError("APUS-D-0012", "the driver gave no stream", place: "the CUDA driver") }
      lanes.append(lane)
      hasWaited.append(false)
    }
    while points.count < pointCount { points.append(try CUDAEvent(context, isTimed: false)) }
    return true
  }

  func enter(lane: Int) { self.lane = lane }

  func reach(point: Int) {
    context.enter()
    // Also after a failure: lanes are joined by points.
    do { try points[point].record(on: lanes[lane]) } catch { failure = failure ?? error }
  }

  func wait(point: Int) {
    context.enter()
    note(points[point].hold(lanes[lane]), "waiting for another lane")
    hasWaited[lane] = true
  }

  func mark() throws(DeviceError) -> any DeviceMark {
    let event = try CUDAEvent(context, isTimed: true)
    try event.record(on: stream)
    return event
  }

  let canCapture = true

  func beginCapture() {
    context.enter()
    note(apus_cuda_capture_begin(stream, Int32(APUS_CUDA_CAPTURE_THREAD_LOCAL)), "recording launches")
  }

  func endCapture(updating earlier: (any CapturedWork)?) throws(DeviceError) -> any CapturedWork {
    context.enter()
    var graph: apus_cuda_graph?
    let result = apus_cuda_capture_end(stream, &graph)
    if let failure {
      self.failure = nil
      if let graph { _ = apus_cuda_graph_destroy(graph) }
      throw failure
    }
    try CUDADriver.check(result, "recording launches")
    defer { _ = apus_cuda_graph_destroy(graph) }
    if let earlier = earlier as? CUDAGraph, earlier.update(graph) { return earlier }
    return try CUDAGraph(graph, context)
  }

  func launch(_ work: any CapturedWork) {
    guard let graph = work as? CUDAGraph else { return }
    context.enter()
    note(apus_cuda_graph_launch(graph.handle, stream), "launching a graph")
  }

  /// Brings many bytes to the device through two pinned buffers: while one travels, the other is filled.
  func uploadInParts(_ bytes: UnsafeRawBufferPointer, to target: UnsafeMutableRawPointer) throws(DeviceError) {
    guard let source = bytes.baseAddress, bytes.count > 0 else { return }
    let part = min(bytes.count, 16 << 20)
    let buffers = [try PinnedMemory(byteCount: part, context), try PinnedMemory(byteCount: part, context)]
    let events = [try CUDAEvent(context, isTimed: false), try CUDAEvent(context, isTimed: false)]
    var offset = 0
    var turn = 0
    while offset < bytes.count {
      let count = min(part, bytes.count - offset)
      try events[turn].wait(limit: nil)
      buffers[turn].base.copyMemory(from: source + offset, byteCount: count)
      upload(from: buffers[turn].base, to: target + offset, byteCount: count)
      try events[turn].record(on: stream)
      offset += count
      turn = 1 - turn
    }
    try synchronize()
  }
}
