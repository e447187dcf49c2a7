import ApusCompiler
import ApusCore
import ApusPlan
import ApusRuntime

/// Times the runs of two sets of plans for the same profiles in turns, with inputs and outputs in the device's memory.
struct PlanComparison {
  private let engines: [Engine]
  private static let burst = 8
  /// Rounds in which other work shows, and those that are always enough.
  private static let usualRounds = 12
  private static let mostRounds = 150
  /// Runs of each that are the least to compare by, those that are not counted, and what comparing takes at least.
  private static let leastRounds = 3
  private static let warmingRuns = 4
  static let leastRuns = 2 + leastRounds
  /// Runs are slower when they take longer by more than this share.
  private static let margin = 0.005

  init(_ before: [Plan], _ after: [Plan], _ device: any Device) throws(EngineFileError) {
    engines = [
      try Engine(plans: before, device: device, hostOperations: CatalogueHostOperations()),
      try Engine(plans: after, device: device, hostOperations: CatalogueHostOperations()),
    ]
  }

  /// Compares profiles for as long as there is time; of those that there is none for nothing is said.
  ///
  /// - Parameter expected: what a run of a profile should take at least.
  func runs(
    of profiles: Set<String>, within budget: TimeBudget, expecting expected: (Plan) -> Duration
  ) throws -> [TuningReport.Run] {
    var runs: [TuningReport.Run] = []
    for (index, profile) in engines[0].profiles.enumerated() where profiles.contains(profile.name) {
      let plan = engines[0].plans[index]
      let sizes = Dictionary(uniqueKeysWithValues: plan.shapeSymbols.map { ($0.name, Dim($0).estimate) })
      guard budget.affords(expected(plan) * (2 * Self.leastRuns)), let inputs = plan.randomInputs(sizes) else {
        continue
      }
      let first = try engines[0].makeContext()
      let second = try engines[1].makeContext()
      let run = try Self.bind(inputs, first, index)
      guard budget.affords(run * (2 * Self.leastRuns)) else { continue }
      _ = try Self.bind(inputs, second, index)
      for _ in 2..<Self.warmingRuns where budget.affords(run * (2 + 2 * Self.leastRounds)) {
        try first.run(profile: .index(index))
        try second.run(profile: .index(index))
      }
      var times: [[Double]] = [[], []]
      var ratios: [Double] = []
      let left = min(budget.left / max(run, .nanoseconds(1)), 1e6)
      let burst = min(Self.burst, max(1, Int(left) / (2 * Self.leastRounds)))
      for round in 0..<Self.mostRounds {
        if times[0].count >= Self.leastRounds, !budget.affords(run * (2 * burst)) { break }
        if round >= Self.usualRounds, Self.isSettled(ratios) { break }
        let (a, b) = (try Self.times(first, index, burst), try Self.times(second, index, burst))
        times[0] += a
        times[1] += b
        ratios.append(Self.time(b) / Self.time(a))
      }
      // What the machine did otherwise from round to round is in both times of a round.
      let before = Self.time(times[0])
      runs.append(Self.run(profile.name, before, before * Settling.Estimate(ratios).time, count: times[0].count))
    }
    return runs
  }

  private static func time(_ times: [Double]) -> Double { Settling.Estimate(times, share: Settling.share).time }

  /// Whether it is known which is faster, or that there is no difference that counts.
  private static func isSettled(_ ratios: [Double]) -> Bool {
    let ratio = Settling.Estimate(ratios)
    return ratio.lower > 1 + margin || ratio.upper < 1 - margin || ratio.upper - ratio.lower < margin
  }

  static func run(_ profile: String, _ before: Double, _ after: Double, count: Int) -> TuningReport.Run {
    TuningReport.Run(
      profile: profile, secondsBefore: before, secondsAfter: after, count: count,
      isKept: after > before * (1 + margin))
  }

  /// Binds everything that can be to memory of the device, and runs twice.
  ///
  /// - Returns: what the second run took.
  private static func bind(
    _ inputs: [String: HostValue], _ context: borrowing ExecutionContext, _ profile: Int
  ) throws -> Duration {
    let engine = context.engine
    let plan = engine.plans[profile]
    for input in plan.inputs {
      guard let value = inputs[input.name] else { continue }
      if let tensor = value.tensor, tensor.dtype != .string, input.values == nil {
        try context.bind(input: input.name, to: try engine.makeBuffer(tensor), shape: tensor.shape)
      } else {
        try context.bind(input: input.name, to: value)
      }
    }
    try context.run(profile: .index(profile))
    for output in plan.outputs {
      guard let dtype = output.type.tensor?.dtype, dtype != .string,
        output.type.tensor?.shape.allSatisfy({ $0.symbols.allSatisfy { plan.shapeSymbols.contains($0) } }) == true
      else { continue }
      let byteCount = try context.outputShape(output.name).reduce(dtype.byteCount, *)
      try context.bind(output: output.name, to: try engine.makeBuffer(byteCount: byteCount))
    }
    let start = ContinuousClock.now
    try context.run(profile: .index(profile))
    return .now - start
  }

  private static func times(_ context: borrowing ExecutionContext, _ profile: Int, _ burst: Int) throws -> [Double] {
    var marks = [try context.mark()]
    for _ in 0..<burst {
      try context.enqueue(profile: .index(profile))
      marks.append(try context.mark())
    }
    try context.wait()
    var times: [Double] = []
    for (earlier, later) in zip(marks, marks.dropFirst()) { times.append(try later.seconds(since: earlier)) }
    return times
  }
}
