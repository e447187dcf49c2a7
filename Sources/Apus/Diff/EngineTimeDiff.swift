package import ApusCompiler
import ApusCore
import ApusPlan
package import ApusRuntime

/// How long the steps of two engines take on one device, measured in turns, with what noise there is.
package struct EngineTimeDiff: Sendable {
  /// The same work in both engines.
  package struct Row: Sendable {
    /// Nodes of the model; empty for the whole run.
    package var nodes: [String]
    package var tactics: [String]
    /// Seconds in the first and the second engine; nil for work that one of them does in other steps.
    package var first: Settling.Estimate?
    package var second: Settling.Estimate?

    /// Second minus first.
    package var gain: Double { (second?.time ?? 0) - (first?.time ?? 0) }

    /// Whether the two are apart by more than their noise and more than a share.
    package func differs(by share: Double) -> Bool {
      guard let first, let second else { return false }
      let (low, high) = first.time < second.time ? (first, second) : (second, first)
      return low.upper < high.lower && high.time > low.time * (1 + share)
    }
  }

  /// A profile of both engines.
  package struct Run: Sendable {
    package var profile: String
    package var whole: Row
    package var steps: [Row]
    /// Times that each figure is of.
    package var count: Int
  }

  package private(set) var runs: [Run] = []
  private static let rounds = 15
  private static let leastRounds = 5
  /// Runs of a profile that are the least of both engines together.
  static let leastRuns = 4 + 4 * leastRounds

  /// Times all profiles that both engines have and whose inputs can be made up, at the sizes they are tuned for.
  ///
  /// - Parameter duration: how long to time each profile, at least a few rounds.
  package init(
    _ first: Engine, _ second: Engine, seconds duration: Double, progress: (Int, Int) -> Void
  ) throws {
    let engines = [first, second]
    let names = first.profiles.map(\.name).filter { name in second.profiles.contains { $0.name == name } }
    for (position, name) in names.enumerated() {
      let indices = engines.map { engine in engine.profiles.firstIndex { $0.name == name } ?? 0 }
      let plan = first.plans[indices[0]]
      let sizes = Dictionary(uniqueKeysWithValues: plan.shapeSymbols.map { ($0.name, Dim($0).estimate) })
      guard let inputs = plan.randomInputs(sizes) else { continue }
      let one = try first.makeContext(captures: false)
      let two = try second.makeContext(captures: false)
      let a = try Timed(one, inputs, indices[0])
      let b = try Timed(two, inputs, indices[1])
      let end = ContinuousClock.now + .seconds(duration)
      for round in 0..<Self.rounds where round < Self.leastRounds || ContinuousClock.now < end {
        progress(position * Self.rounds + round, names.count * Self.rounds)
        let count = max(1, Int(duration / Double(2 * Self.rounds) / max(a.warm, b.warm, 1e-6)))
        try a.measure(one, count)
        try b.measure(two, count)
      }
      runs.append(
        Run(profile: name, whole: Self.row([], a.whole, b.whole, []), steps: Self.rows(a, b), count: a.whole.count))
    }
  }

  private static func row(_ nodes: [String], _ a: [Double]?, _ b: [Double]?, _ tactics: [String]) -> Row {
    Row(nodes: nodes, tactics: tactics, first: a.map { Settling.Estimate($0) }, second: b.map { Settling.Estimate($0) })
  }

  private static func rows(_ a: Timed, _ b: Timed) -> [Row] {
    let keys = a.order + b.order.filter { a.steps[$0] == nil }
    return keys.map { key in
      row(key, a.steps[key], b.steps[key], [a.tactics[key] ?? "-", b.tactics[key] ?? "-"])
    }.sorted { $0.gain.magnitude > $1.gain.magnitude }
  }

  /// The times of one engine's runs of a profile: a median for each round.
  private final class Timed {
    let profile: Int
    /// Seconds of the run that warmed up.
    private(set) var warm: Double
    private(set) var whole: [Double] = []
    private(set) var steps: [[String]: [Double]] = [:]
    private(set) var tactics: [[String]: String] = [:]
    private(set) var order: [[String]] = []

    init(_ context: borrowing ExecutionContext, _ inputs: [String: HostValue], _ profile: Int) throws {
      self.profile = profile
      for (name, value) in inputs { try context.bind(input: name, to: value) }
      try context.run(profile: .index(profile))
      let start = ContinuousClock.now
      try context.run(profile: .index(profile))
      warm = (ContinuousClock.now - start) / .seconds(1)
    }

    /// Half of the runs as a whole, half step by step.
    func measure(_ context: borrowing ExecutionContext, _ count: Int) throws {
      var times: [Double] = []
      for _ in 0..<count {
        let start = ContinuousClock.now
        try context.run(profile: .index(profile))
        times.append((ContinuousClock.now - start) / .seconds(1))
      }
      whole.append(times.sorted()[times.count / 2])
      let profiler = LayerProfiler(plan: context.engine.plans[profile])
      context.time(profile, with: profiler)
      for _ in 0..<count { try context.run(profile: .index(profile)) }
      context.time(profile, with: nil)
      var sums: [[String]: Double] = [:]
      for layer in profiler.layers where layer.depth == 0 {
        let key = Set(layer.sources).sorted()
        sums[key, default: 0] += layer.median / .seconds(1)
        if tactics[key] == nil { order.append(key) }
        if whole.count == 1 { tactics[key] = tactics[key].map { "\($0) + \(layer.tactic)" } ?? layer.tactic }
      }
      for (key, seconds) in sums { steps[key, default: []].append(seconds) }
    }
  }
}
