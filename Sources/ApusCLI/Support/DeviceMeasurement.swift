import Apus
import ApusCore

/// Times of runs whose inputs and outputs are in the device's memory: what the device takes when runs are queued back to back,
/// and what the host takes to queue one.
struct DeviceMeasurement {
  /// Runs one by one, inputs and outputs in pinned memory of the host.
  let pinned: Measurement
  let runs: Measurement
  let queueing: Measurement

  /// Runs queued before the device is waited for.
  private static let burst = 64

  /// - Parameter count: runs to measure; nil for what fits the seconds.
  init(
    _ engine: Engine, _ context: borrowing ExecutionContext, _ inputs: [InputValues.Entry],
    _ profile: ProfileSelection?,
    seconds: Double, count: Int?
  ) throws {
    let plan = engine.plans[context.activeProfile]
    // What decides sizes stays with the host.
    let tensors = inputs.compactMap { input -> (name: String, tensor: HostTensor)? in
      guard let tensor = input.value.tensor, tensor.dtype != .string,
        plan.inputs.first(where: { $0.name == input.name })?.values == nil
      else { return nil }
      return (input.name, tensor)
    }
    let results = try plan.outputs.compactMap { output -> (name: String, byteCount: Int)? in
      guard let dtype = output.type.tensor?.dtype, dtype != .string else { return nil }
      return (output.name, try context.outputShape(output.name).reduce(dtype.byteCount, *))
    }
    for (name, tensor) in tensors {
      try context.bind(input: name, to: try engine.makePinnedBuffer(tensor), shape: tensor.shape)
    }
    for (name, byteCount) in results {
      try context.bind(output: name, to: try engine.makePinnedBuffer(byteCount: byteCount))
    }
    pinned = try Self.oneByOne(context, profile, seconds: seconds / 4, count: count)
    for (name, tensor) in tensors {
      try context.bind(input: name, to: try engine.makeBuffer(tensor), shape: tensor.shape)
    }
    for (name, byteCount) in results {
      try context.bind(output: name, to: try engine.makeBuffer(byteCount: byteCount))
    }
    // Twice to record launches, and once from the recording.
    for _ in 0..<3 { try context.run(profile: profile) }
    var times: [Duration] = []
    var queueing: [Duration] = []
    let start = ContinuousClock.now
    repeat {
      var marks = [try context.mark()]
      for _ in 0..<Self.burst {
        let before = ContinuousClock.now
        try context.enqueue(profile: profile)
        queueing.append(ContinuousClock.now - before)
        marks.append(try context.mark())
      }
      try context.wait()
      for (earlier, later) in zip(marks, marks.dropFirst()) {
        times.append(.seconds(try later.seconds(since: earlier)))
      }
    } while count.map({ times.count < $0 }) ?? (ContinuousClock.now - start < .seconds(seconds))
    runs = Measurement(latencies: times, total: times.reduce(.zero, +))
    self.queueing = Measurement(latencies: queueing, total: queueing.reduce(.zero, +))
  }

  private static func oneByOne(
    _ context: borrowing ExecutionContext, _ profile: ProfileSelection?, seconds: Double, count: Int?
  ) throws -> Measurement {
    // Twice to record launches, and once from the recording.
    for _ in 0..<3 { try context.run(profile: profile) }
    var latencies: [Duration] = []
    let start = ContinuousClock.now
    var now = start
    repeat {
      try context.run(profile: profile)
      let finished = ContinuousClock.now
      latencies.append(finished - now)
      now = finished
    } while count.map({ latencies.count < $0 }) ?? (now - start < .seconds(seconds))
    return Measurement(latencies: latencies, total: now - start)
  }

  var text: [String] {
    [
      "pinned: \(pinned.summary.map { "\($0.name) \(Units.fixed($0.value, 3))" }.joined(separator: ", ")) ms "
        + "(inputs and outputs in pinned memory of the host)",
      "device: \(runs.summary.map { "\($0.name) \(Units.fixed($0.value, 4))" }.joined(separator: ", ")) ms "
        + "(\(runs.count) runs back to back, inputs and outputs on the device)",
      "queueing: median \(Units.fixed(queueing.median * 1000, 2)), p99 \(Units.fixed(queueing.percentile(0.99) * 1000, 2)) us",
    ]
  }

  var json: [(String, JSON)] {
    [
      ("pinned_ms", .object(pinned.summary.map { ($0.name, .number($0.value)) })),
      ("device_ms", .object(runs.summary.map { ($0.name, .number($0.value)) })),
      ("queueing_us", .object(queueing.summary.map { ($0.name, .number($0.value * 1000)) })),
    ]
  }
}
