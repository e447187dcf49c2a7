public import ApusCore
import Dispatch

extension ExecutionContext {
  /// Queues a run on what is bound, and returns before it is done where the device works by itself. Runs of a context come
  /// one after the other; what is bound must stay as it is until ``wait()`` has returned.
  ///
  /// What the host must know on the way (a size that is computed, a condition, an operation that only it can compute) is
  /// waited for, and so are outputs that are bound to memory that is not pinned.
  ///
  /// - Throws: ``RunError`` as ``run(profile:)``; what goes wrong while the device works is thrown by ``wait()``.
  public func enqueue(profile: ProfileSelection? = nil) throws(RunError) {
    try state.run(profile, waits: false)
  }

  /// Queues a run as ``enqueue(profile:)`` does, and calls `completion` once it and all before it are done, with what went
  /// wrong. Completions of a context come in the order of its runs, on a thread of their own; they must not wait for runs of
  /// the same context.
  public func enqueue(
    profile: ProfileSelection? = nil, completion: @escaping @Sendable (Result<Void, RunError>) -> Void
  ) throws(RunError) {
    try enqueue(profile: profile)
    try state.notify(completion)
  }

  /// Waits until all runs that were queued are done.
  public func wait() throws(RunError) { try state.wait() }

  /// Waits until all runs that were queued so far are done; no thread is held up.
  nonisolated(nonsending) public func finished() async throws(RunError) {
    let state = state
    let result: Result<Void, RunError> = await withCheckedContinuation { continuation in
      do throws(RunError) { try state.notify { continuation.resume(returning: $0) } } catch {
        continuation.resume(returning: .failure(error))
      }
    }
    try result.get()
  }

  /// Brings managed memory to where it is needed next, behind what is queued: to the device, or to the host.
  public func prefetch(_ buffer: DeviceBuffer, toHost: Bool = false) {
    state.stream.prefetch(buffer.base, byteCount: buffer.byteCount, toHost: toHost)
  }

  /// Queues work of the caller's own behind the runs so far.
  package func queue(_ work: (any DeviceStream) -> Void) { work(state.stream) }

  /// Notes the time at which the device gets to what is queued next.
  public func mark() throws(RunError) -> any DeviceMark {
    do { return try state.stream.mark() } catch { throw RunError(device: error) }
  }
}

extension Engine {
  /// Memory that the engine's device and the host both reach, to be bound as the device's. The host may touch it while no run
  /// that is queued uses it.
  ///
  /// - Throws: ``RunError`` when that is more than the device has free, before anything is allocated.
  public func makeManagedBuffer(byteCount: Int) throws(RunError) -> DeviceBuffer {
    do { return try device.allocateManaged(byteCount: byteCount) } catch { throw RunError(device: error) }
  }
}

extension ContextState {
  /// Waits for all runs that were queued.
  func wait() throws(RunError) {
    try failure.check()
    guard let state = current else {
      do { return try stream.synchronize() } catch { throw failed(RunError(device: error)) }
    }
    do { try state.synchronize() } catch { throw failed(error) }
  }

  /// Calls `completion` when the stream gets to this point.
  func notify(_ completion: @escaping @Sendable (Result<Void, RunError>) -> Void) throws(RunError) {
    try failure.check()
    let event: any DeviceEvent
    do {
      try stream.check()
      event = try stream.record(nil)
    } catch { throw failed(RunError(device: error)) }
    let place = current?.queuedSteps ?? "the stream"
    completions.async { [failure, limit = stream.timeLimit] in
      do throws(DeviceError) {
        try event.wait(limit: limit)
        completion(.success(()))
      } catch {
        let found = RunError(device: error).at(place)
        failure.note(found)
        completion(.failure(found))
      }
    }
  }

  /// Notes an error that leaves the context useless. After others nothing of the run that failed is left, so that a later one
  /// does not tell of it.
  func failed(_ error: RunError) -> RunError {
    failure.note(error)
    if error.problems.contains(where: { $0.code.hasPrefix("APUS-D-") }) {
      do { try stream.synchronize() } catch { failure.note(RunError(device: error)) }
    }
    return error
  }
}
