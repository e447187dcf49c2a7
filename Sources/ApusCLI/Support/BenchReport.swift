import ApusCore
import ApusRuntime

/// Latencies of many runs.
struct Measurement {
  /// Sorted, never empty.
  let milliseconds: [Double]
  let total: Duration

  init(latencies: [Duration], total: Duration) {
    milliseconds = latencies.map(Units.milliseconds).sorted()
    self.total = total
  }

  var count: Int { milliseconds.count }
  var mean: Double { milliseconds.reduce(0, +) / Double(max(count, 1)) }
  var throughput: Double { Double(count) / max(total / .seconds(1), 1e-9) }

  /// The latency that this share of the runs stays within (nearest rank).
  func percentile(_ share: Double) -> Double {
    guard count > 0 else { return 0 }
    let rank = Int((share * Double(count)).rounded(.up))
    return milliseconds[min(max(rank, 1), count) - 1]
  }

  var median: Double {
    count == 0 ? 0 : (milliseconds[(count - 1) / 2] + milliseconds[count / 2]) / 2
  }

  var summary: [(name: String, value: Double)] {
    [
      ("min", percentile(0)), ("mean", mean), ("median", median), ("p90", percentile(0.9)), ("p95", percentile(0.95)),
      ("p99", percentile(0.99)), ("max", percentile(1)),
    ]
  }
}

/// What `apus bench` prints.
struct BenchReport {
  let model: String
  let inputs: [InputValues.Entry]
  let session: Session
  /// The profile that ran.
  let profile: String
  let measurement: Measurement
  /// What the device takes with inputs and outputs in its memory, where that is not the host's.
  let device: DeviceMeasurement?
  let memory: MemoryMeasurement?
  let layers: LayerTable?

  /// The most memory the process has held, in MiB.
  let peakMemory: Double

  static func measuredPeakMemory() -> Double {
    let field = SystemFile.fields("/proc/self/status")["VmHWM"] ?? ""
    return (field.split(separator: " ").first).flatMap { Double($0) }.map { $0 / 1024 } ?? 0
  }

  private var shapes: [(name: String, sizes: [Int])] {
    inputs.compactMap { input in input.value.tensor.map { (input.name, $0.shape) } }
  }

  var text: String {
    let shapes = shapes.map { "\($0.name) \($0.sizes.map(String.init).joined(separator: "x"))" }
    var lines = [
      "model: \(model)", "shapes: \(shapes.joined(separator: ", "))", "threads: \(session.threadCount)",
      "runs: \(measurement.count) in \(Units.fixed(measurement.total / .seconds(1), 2)) s",
      "throughput: \(Units.fixed(measurement.throughput, 2)) per second",
      "latency: "
        + measurement.summary.map { "\($0.name) \(Units.fixed($0.value, 3))" }.joined(separator: ", ") + " ms",
      "load: \(Units.fixed(Units.milliseconds(session.loadTime), 1)) ms",
    ]
    if let device { lines += device.text }
    if let memory { lines.append(memory.text) }
    if session.engine.plans.count > 1 { lines.insert("profile: \(profile)", at: 2) }
    if let build = session.buildTime { lines.append("build: \(Units.fixed(Units.milliseconds(build) / 1000, 1)) s") }
    lines.append("peak memory: \(Units.fixed(peakMemory, 1)) MiB")
    if let layers { lines.append("\n" + layers.text) }
    return lines.joined(separator: "\n")
  }

  var json: JSON {
    var members: [(String, JSON)] = [
      ("model", .string(model)), ("shapes", .object(shapes.map { ($0.name, .ints($0.sizes)) })),
      ("profile", .string(profile)), ("threads", .int(session.threadCount)),
      ("load_ms", .number(Units.milliseconds(session.loadTime))),
      ("build_ms", session.buildTime.map { .number(Units.milliseconds($0)) } ?? .null),
      ("latency_ms", .object(measurement.summary.map { ($0.name, .number($0.value)) })),
      ("throughput_per_s", .number(measurement.throughput)), ("runs", .int(measurement.count)),
      ("peak_rss_mb", .number(peakMemory)),
    ]
    if let device { members += device.json }
    if let memory { members.append(memory.json) }
    if let layers { members += layers.members }
    return .object(members)
  }
}
