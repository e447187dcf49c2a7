import Apus
import ApusCore

/// When a run was queued and computed, in milliseconds since the measurement began.
struct TrtexecTime {
  var startEnqueue: Double
  var endEnqueue: Double
  var startCompute: Double
  var endCompute: Double

  var enqueue: Double { endEnqueue - startEnqueue }
  var compute: Double { endCompute - startCompute }

  var json: JSON {
    // Inputs and outputs are in the device's memory: nothing is copied.
    .object([
      ("startEnqMs", .number(startEnqueue)), ("endEnqMs", .number(endEnqueue)), ("startH2dMs", .number(startCompute)),
      ("endH2dMs", .number(startCompute)), ("startComputeMs", .number(startCompute)),
      ("endComputeMs", .number(endCompute)),
      ("startD2hMs", .number(endCompute)), ("endD2hMs", .number(endCompute)), ("h2dMs", .number(0)),
      ("computeMs", .number(compute)), ("d2hMs", .number(0)), ("latencyMs", .number(compute)),
    ])
  }
}

/// Runs with inputs and outputs in the device's memory, queued a few at a time, as trtexec measures them.
struct TrtexecTimes {
  let times: [TrtexecTime]
  /// Whether the host computes, which then queues nothing.
  private let isHost: Bool
  /// Seconds that the host saw pass.
  let walltime: Double

  /// Runs that are queued before the device is waited for.
  private static let burst = 16

  init(_ context: borrowing ExecutionContext, _ profile: ProfileSelection?, _ request: TrtexecRequest, isHost: Bool)
    throws
  {
    let clock = ContinuousClock()
    let warm = clock.now + .milliseconds(request.warmUp)
    // Twice to record launches, and once from the recording.
    var runs = 0
    while runs < 3 || clock.now < warm {
      try context.run(profile: profile)
      runs += 1
    }
    self.isHost = isHost
    var times: [TrtexecTime] = []
    let start = clock.now
    let first = try context.mark()
    func milliseconds(_ instant: ContinuousClock.Instant) -> Double { Units.milliseconds(instant - start) }
    let burst = isHost || request.sleep > 0 ? 1 : Self.burst
    repeat {
      var queued: [(Double, Double)] = []
      var marks = [try context.mark()]
      for _ in 0..<burst {
        let before = milliseconds(clock.now)
        try context.enqueue(profile: profile)
        queued.append((before, milliseconds(clock.now)))
        marks.append(try context.mark())
      }
      try context.wait()
      let ends = try marks.map { mark in 1000 * (try mark.seconds(since: first)) }
      for (index, queue) in queued.enumerated() {
        times.append(
          TrtexecTime(
            startEnqueue: queue.0, endEnqueue: queue.1, startCompute: ends[index], endCompute: ends[index + 1]))
      }
      if request.sleep > 0 { Pause.milliseconds(request.sleep) }
    } while times.count < max(request.iterations, 1) || (clock.now - start) / .seconds(1) < request.duration
    self.times = times
    walltime = (clock.now - start) / .seconds(1)
  }

  // MARK: Text

  private static func line(_ name: String, _ values: [Double], _ percentiles: [Double]) -> String {
    let measured = Measurement(latencies: values.map { .milliseconds($0) }, total: .zero)
    func text(_ value: Double) -> String { "\(Units.fixed(value, 6)) ms" }
    let shares = percentiles.map { "percentile(\(trimmed($0))%) = \(text(measured.percentile($0 / 100)))" }
    return "\(name): min = \(text(measured.percentile(0))), max = \(text(measured.percentile(1))), mean = "
      + "\(text(measured.mean)), median = \(text(measured.median))"
      + shares.map { ", \($0)" }.joined()
  }

  private static func trimmed(_ share: Double) -> String {
    share == share.rounded() ? String(Int(share)) : String(share)
  }

  /// Means of so many runs each.
  func averages(of count: Int) -> [String] {
    stride(from: 0, to: times.count - count + 1, by: count).map { start in
      let part = times[start..<start + count]
      let compute = part.reduce(0) { $0 + $1.compute } / Double(count)
      let enqueue = part.reduce(0) { $0 + $1.enqueue } / Double(count)
      return "Average on \(count) runs - GPU latency: \(Units.fixed(compute, 6)) ms - Host latency: "
        + "\(Units.fixed(compute, 6)) ms (enqueue \(Units.fixed(enqueue, 6)) ms)"
    }
  }

  func summary(_ percentiles: [Double]) -> [String] {
    let compute = times.map(\.compute)
    let enqueue = times.map(\.enqueue)
    let none = times.map { _ in 0.0 }
    let total = compute.reduce(0, +)
    var lines = [
      "", "=== Performance summary ===", "Throughput: \(Units.fixed(Double(times.count) / max(walltime, 1e-9), 3)) qps",
      Self.line("Latency", compute, percentiles), Self.line("Enqueue Time", enqueue, percentiles),
      Self.line("H2D Latency", none, percentiles), Self.line("GPU Compute Time", compute, percentiles),
      Self.line("D2H Latency", none, percentiles), "Total Host Walltime: \(Units.fixed(walltime, 5)) s",
      "Total GPU Compute Time: \(Units.fixed(total / 1000, 5)) s",
    ]
    let measured = Measurement(latencies: compute.map { .milliseconds($0) }, total: .zero)
    let queue = Measurement(latencies: enqueue.map { .milliseconds($0) }, total: .zero)
    if !isHost, queue.median > 0.8 * measured.median {
      lines.append("* Throughput may be bound by the host: queueing a run takes \(Units.fixed(queue.median, 4)) ms.")
    }
    let spread = compute.reduce(0) { $0 + ($1 - measured.mean) * ($1 - measured.mean) } / Double(max(compute.count, 1))
    let variation = 100 * spread.squareRoot() / max(measured.mean, 1e-12)
    if variation > 2.5 {
      lines.append("* GPU compute time is unstable, with coefficient of variance = \(Units.fixed(variation, 2))%.")
    }
    return lines
  }
}
