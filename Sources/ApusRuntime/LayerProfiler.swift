public import ApusCore
public import ApusPlan

/// Times of the steps of a context's runs, which come one after the other, whatever lanes they are on. Nested steps count for themselves and for the step that holds them.
public final class LayerProfiler {
  /// One row of the table: a step and its times.
  public struct Layer: Sendable {
    /// Number of the step, nested steps counted in order of listing.
    public var step: Int
    /// Depth of nesting.
    public var depth: Int
    public var name: String
    public var sources: [String]
    public var tactic: String
    /// Number of times it ran, over all runs.
    public var count: Int
    /// Median of the times per run.
    public var median: Duration
    /// Arithmetic operations and bytes moved per run.
    public var work: Int
    public var traffic: Int
    /// Element type of the first of its operands; nil for steps that only hold others.
    public var dtype: DType?
  }

  private let rows: [(step: Step, depth: Int, dtype: DType?)]
  private var times: [[Duration]]
  private var current: [Duration]
  private var counts: [Int]
  private var work: [Int]
  private var traffic: [Int]
  /// Number of runs recorded.
  public private(set) var runCount = 0
  /// Whether steps that otherwise run side by side are timed one after the other.
  public let serialisesLanes: Bool

  public init(plan: Plan) {
    rows = Self.rows(plan.steps, plan, depth: 0)
    serialisesLanes = rows.contains { $0.step.lane != 0 }
    times = [[Duration]](repeating: [], count: rows.count)
    current = [Duration](repeating: .zero, count: rows.count)
    counts = [Int](repeating: 0, count: rows.count)
    work = counts
    traffic = counts
  }

  private static func rows(
    _ steps: [Step], _ plan: Plan, depth: Int
  ) -> [(step: Step, depth: Int, dtype: DType?)] {
    steps.flatMap { step in
      let first = step.action.buffers?.first.flatMap { plan.slots[$0].type.tensor?.dtype }
      var inner = plan
      if case .piece(let piece) = step.action { inner = piece.plan }
      return [(step, depth, first)] + step.action.nested.flatMap { rows($0, inner, depth: depth + 1) }
    }
  }

  /// Steps of the run under way, with the points of the stream around each.
  private var pending: [(step: Int, start: any DeviceMark, end: any DeviceMark)] = []

  func beginRun() {
    pending.removeAll(keepingCapacity: true)
    for step in rows.indices {
      current[step] = .zero
      work[step] = 0
      traffic[step] = 0
    }
  }

  func add(from start: any DeviceMark, to end: any DeviceMark, step: Int, work: Int, traffic: Int) {
    pending.append((step, start, end))
    counts[step] += 1
    self.work[step] = self.work[step] &+ max(work, 0)
    self.traffic[step] = self.traffic[step] &+ max(traffic, 0)
  }

  /// The stream has come to the end of the run.
  func endRun() throws(DeviceError) {
    for (step, start, end) in pending { current[step] += .seconds(try end.seconds(since: start)) }
    for step in rows.indices { times[step].append(current[step]) }
    runCount += 1
  }

  /// The steps with their times, in order of listing.
  public var layers: [Layer] {
    rows.indices.map { index in
      let row = rows[index]
      let sorted = times[index].sorted()
      return Layer(
        step: index, depth: row.depth, name: row.step.name, sources: row.step.sources, tactic: row.step.tactic,
        count: counts[index], median: sorted.isEmpty ? .zero : sorted[sorted.count / 2], work: work[index],
        traffic: traffic[index], dtype: row.dtype)
    }
  }

  /// The steps of the last run with their times, one line each.
  public var lastRun: String {
    (serialisesLanes ? "lanes one after the other:\n" : "")
      + rows.indices.map { index in
        let row = rows[index]
        let seconds = current[index] / .seconds(1)
        let indent = String(repeating: "  ", count: row.depth)
        var line = "\(indent)\(row.step.name) [\(row.step.tactic)] \((seconds * 1e7).rounded() / 10) us"
        if seconds > 0 {
          line += " \(rate(work[index], seconds)) GFLOP/s \(rate(traffic[index], seconds)) GB/s"
        }
        return line
      }.joined(separator: "\n")
  }

  private func rate(_ amount: Int, _ seconds: Double) -> Double { (Double(amount) / seconds / 1e8).rounded() / 10 }
}
