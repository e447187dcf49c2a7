import ApusCore
import ApusRuntime
import CApusCUDA

/// A queue of work of a GPU.
///
/// The first thing that goes wrong is kept and told by ``synchronize()``; what is queued after it is dropped.
final class CUDAStream: DeviceStream {
  private let context: CUDAContext
  private let stream: apus_cuda_stream
  private var failure: DeviceError?

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
  }

  deinit {
    context.enter()
    _ = apus_cuda_stream_synchronize(stream)
    _ = apus_cuda_stream_destroy(stream)
  }

  private func note(_ result: apus_cuda_result, _ what: @autoclosure () -> String) {
    if result == APUS_CUDA_SUCCESS || failure != nil { return }
    do { try CUDADriver.check(result, what()) } catch { failure = error }
  }

  func launch(_ launch: DeviceLaunch) {
    context.enter()
    let result = apus_cuda_launch(
      apus_cuda_function(launch.function.handle), UInt32(clamping: launch.blocks), UInt32(launch.function.threads),
      UInt32(launch.function.sharedByteCount), stream, launch.buffers,
      launch.parameterCount == 0 ? nil : UnsafeRawPointer(launch.parameters), launch.maps,
      overlaps && launch.function.waits ? 1 : 0)
    note(result, "launching \(launch.blocks) blocks of \(launch.function.threads) threads")
  }

  func copy(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    context.enter()
    note(
      apus_cuda_copy(target, UnsafeMutableRawPointer(mutating: source), byteCount, stream), "copying \(byteCount) bytes"
    )
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

  func fill(_ target: UnsafeMutableRawPointer, with byte: UInt8, byteCount: Int) {
    context.enter()
    note(apus_cuda_fill(target, byte, byteCount, stream), "filling \(byteCount) bytes")
  }

  func synchronize() throws(DeviceError) {
    context.enter()
    note(apus_cuda_stream_synchronize(stream), "running what was queued")
    guard let failure else { return }
    self.failure = nil
    throw failure
  }

  func drain() {
    context.enter()
    note(apus_cuda_stream_synchronize(stream), "running what was queued")
  }

  func mark() throws(DeviceError) -> any DeviceMark {
    let event = try CUDAEvent(context)
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
    let events = [try CUDAEvent(context), try CUDAEvent(context)]
    var offset = 0
    var turn = 0
    while offset < bytes.count {
      let count = min(part, bytes.count - offset)
      try events[turn].wait()
      buffers[turn].base.copyMemory(from: source + offset, byteCount: count)
      upload(from: buffers[turn].base, to: target + offset, byteCount: count)
      try events[turn].record(on: stream)
      offset += count
      turn = 1 - turn
    }
    try synchronize()
  }
}

/// Host memory that the GPU reads and writes by itself.
final class PinnedMemory {
  let base: UnsafeMutableRawPointer
  private let context: CUDAContext

  init(byteCount: Int, _ context: CUDAContext) throws(DeviceError) {
    self.context = context
    context.enter()
    var base: UnsafeMutableRawPointer?
    try CUDADriver.check(apus_cuda_host_allocate(&base, byteCount, 0), "allocating \(byteCount) pinned bytes")
    guard let base else { throw DeviceError("APUS-D-0012", "the driver gave no memory", place: "the CUDA driver") }
    self.base = base
  }

  deinit {
    context.enter()
    _ = apus_cuda_host_free(base)
  }
}

/// Recorded launches, ready to run.
final class CUDAGraph: CapturedWork {
  let handle: apus_cuda_graph_exec
  private let context: CUDAContext

  init(_ graph: apus_cuda_graph?, _ context: CUDAContext) throws(DeviceError) {
    self.context = context
    var handle: apus_cuda_graph_exec?
    try CUDADriver.check(apus_cuda_graph_instantiate(&handle, graph, 0), "making a graph")
    guard let handle else { throw DeviceError("APUS-D-0012", "the driver gave no graph", place: "the CUDA driver") }
    self.handle = handle
  }

  deinit {
    context.enter()
    _ = apus_cuda_graph_exec_destroy(handle)
  }

  /// Takes over the arguments of a recording of the same launches; false when that is not possible.
  func update(_ graph: apus_cuda_graph?) -> Bool {
    // CUgraphExecUpdateResultInfo: what differs, and the nodes concerned.
    var information: (Int, Int, Int) = (0, 0, 0)
    return apus_cuda_graph_update(handle, graph, &information) == APUS_CUDA_SUCCESS
  }
}

/// A point in a stream.
final class CUDAEvent: DeviceMark {
  private let event: apus_cuda_event
  private let context: CUDAContext

  init(_ context: CUDAContext) throws(DeviceError) {
    self.context = context
    context.enter()
    var event: apus_cuda_event?
    try CUDADriver.check(apus_cuda_event_create(&event, UInt32(APUS_CUDA_EVENT_DEFAULT)), "making an event")
    guard let event else { throw DeviceError("APUS-D-0012", "the driver gave no event", place: "the CUDA driver") }
    self.event = event
  }

  deinit {
    context.enter()
    _ = apus_cuda_event_destroy(event)
  }

  func record(on stream: apus_cuda_stream) throws(DeviceError) {
    try CUDADriver.check(apus_cuda_event_record(event, stream), "recording an event")
  }

  func seconds(since earlier: any DeviceMark) throws(DeviceError) -> Double {
    guard let earlier = earlier as? CUDAEvent else { return 0 }
    var milliseconds: Float = 0
    try CUDADriver.check(apus_cuda_event_elapsed(&milliseconds, earlier.event, event), "reading the time of an event")
    return Double(milliseconds) / 1000
  }

  /// Waits until the point is reached; not at all when none was recorded.
  func wait() throws(DeviceError) { try CUDADriver.check(apus_cuda_event_synchronize(event), "waiting for an event") }
}
