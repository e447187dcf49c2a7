import ApusCore
import ApusRuntime
import CApusCUDA

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A point in a stream.
final class CUDAEvent: DeviceMark, DeviceEvent, @unchecked Sendable {
  private let event: apus_cuda_event
  private let context: CUDAContext

  /// - Parameter isTimed: whether the time is noted too; if not, a thread that waits sleeps.
  init(_ context: CUDAContext, isTimed: Bool) throws(DeviceError) {
    self.context = context
    context.enter()
    var event: apus_cuda_event?
    let flags = isTimed ? APUS_CUDA_EVENT_DEFAULT : APUS_CUDA_EVENT_UNTIMED | APUS_CUDA_EVENT_BLOCKING
    try CUDADriver.check(apus_cuda_event_create(&event, UInt32(flags)), "making an event")
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

  /// Has a stream wait.
  func hold(_ stream: apus_cuda_stream) -> apus_cuda_result { apus_cuda_stream_wait(stream, event, 0) }

  func seconds(since earlier: any DeviceMark) throws(DeviceError) -> Double {
    guard let earlier = earlier as? CUDAEvent else { return 0 }
    var milliseconds: Float = 0
    try CUDADriver.check(apus_cuda_event_elapsed(&milliseconds, earlier.event, event), "reading the time of an event")
    return Double(milliseconds) / 1000
  }

  func wait(limit: Duration?) throws(DeviceError) {
    context.enter()
    try Waiting.wait(limit: limit, for: { apus_cuda_event_query(event) }) { apus_cuda_event_synchronize(event) }
  }
}

/// Waiting for the GPU.
enum Waiting {
  /// How often is asked before the host sleeps in between.
  private static let spins = 2000
  private static let pauseMicroseconds: UInt32 = 50

  /// - Throws: ``DeviceError`` `APUS-D-0017` after the limit, or what went wrong.
  static func wait(
    limit: Duration?, for query: () -> apus_cuda_result, whole: () -> apus_cuda_result
  ) throws(DeviceError) {
    let what = "running what was queued"
    guard let limit else { return try CUDADriver.check(whole(), what) }
    let end = ContinuousClock.now + limit
    var count = 0
    while true {
      let result = query()
      if result != APUS_CUDA_NOT_READY { return try CUDADriver.check(result, what) }
      if ContinuousClock.now > end {
        throw DeviceError(
          "APUS-D-0017", "the GPU has not done within \(limit) what was queued", place: "the CUDA driver",
          hint: "A kernel may never end, or the limit is too short. What is queued still holds its memory.")
      }
      count += 1
      if count > spins { usleep(pauseMicroseconds) }
    }
  }

  static func isGivenUp(_ error: DeviceError) -> Bool { error.problems.contains { $0.code == "APUS-D-0017" } }
}
