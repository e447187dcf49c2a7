package import ApusCompiler
package import ApusCore
import ApusGraph
package import ApusPlan
package import ApusRuntime

/// What tuning an engine's plans came to.
package struct TuningReport: Sendable {
  /// A profile's run at what it is tuned for, before and after, on the device.
  package struct Run: Sendable {
    package var profile: String
    package var secondsBefore: Double
    package var secondsAfter: Double
    /// Whether the whole run was no faster, so that the profile stays as it was.
    package var isKept: Bool
  }

  package var changes: [Tuner.Change] = []
  package var runs: [Run] = []
  package var warnings: [Diagnostic] = []
  package var regionCount = 0
  package var judgedCount = 0
  package var knownCount = 0
  package var measuredCount = 0
  /// The target that was tuned on the device, and what the device is; nil when all figures came from the cache.
  package var target: String?
  package var device: DeviceIdentity?

  /// - Parameter isCounted: whether the target's regions are among those that are to be judged.
  fileprivate mutating func add(_ outcome: Tuner.Outcome, isCounted: Bool) {
    changes += outcome.changes
    warnings += outcome.warnings
    if !isCounted { return }
    regionCount += outcome.regionCount
    judgedCount += outcome.judgedCount
    knownCount += outcome.knownCount
    measuredCount += outcome.measuredCount
  }
}

/// Chooses the tactics of an engine's plans by what they take.
///
/// With a budget the tactics of the target that suits this machine's device are measured there; all other targets take what
/// the cache knows.
///
/// - Parameters:
///   - plans: of all targets.
///   - budget: how long to measure; nil measures nothing.
///   - cache: where figures come from and go to.
///   - device: what to measure on; nil for the device of this machine.
/// - Returns: the plans, those of each target together.
/// - Throws: ``EngineFileError`` when there is no device that runs the engine, ``BuildError`` when nothing can be compiled.
package func tune(
  _ plans: [Plan], for budget: Duration?, cache: inout TimingCacheFile, jobs: Int? = nil, device: (any Device)? = nil,
  progress: @escaping @Sendable (BuildPhase, Int, Int) -> Void = { _, _, _ in }
) throws -> (plans: [Plan], report: TuningReport) {
  try Plan.validate(plans)
  let backend = try Backend.named(plans[0].fingerprint.backend)
  var report = TuningReport()
  var own: (device: any Device, target: Fingerprint)?
  if budget != nil {
    let device = try device ?? backend.makeDevice(nil)
    own = (device, try Engine.plans(of: plans, fitting: device)[0].fingerprint)
  }
  var result: [Plan] = []
  for plans in plans.byTarget {
    let fingerprint = plans[0].fingerprint
    let target = try backend.makeTarget(fingerprint.target, jobs)
    if target.fingerprint != fingerprint {
      throw BuildError(
        "APUS-B-0041",
        "the engine is for \(fingerprint.target) by another version or with other features than this program's",
        place: "target", hint: "Build the engine again.")
    }
    let device = own.flatMap { $0.target == fingerprint ? $0.device : nil }
    var outcome = try Tuner.tune(
      plans, for: target, on: device, budget: budget, cache: &cache, progress: progress)
    if let device {
      report.target = fingerprint.target
      report.device = device.identity
      try settle(&outcome, plans, target, device, &cache, &report)
    }
    report.add(outcome, isCounted: device != nil || budget == nil)
    result += outcome.plans
  }
  return (result, report)
}

/// Runs the changed profiles as they were and as they are, and takes back what is no faster.
private func settle(
  _ outcome: inout Tuner.Outcome, _ before: [Plan], _ target: any Target, _ device: any Device,
  _ cache: inout TimingCacheFile, _ report: inout TuningReport
) throws {
  let changed = Set(outcome.changes.map(\.profile))
  if changed.isEmpty { return }
  let runs: [TuningReport.Run]
  do {
    runs = try PlanComparison(before, outcome.plans, device).runs(of: changed)
  } catch let error as any RoomError {
    outcome.warnings += error.problems
    return
  }
  report.runs = runs
  // What was wished for stays.
  if try !Tuner.knob.value().isEmpty { return }
  let kept = Set(runs.filter(\.isKept).map(\.profile))
  if !kept.isEmpty {
    // All figures are known by now: the same decisions for the other profiles, without measuring.
    let warnings = outcome.warnings
    let counts = (outcome.knownCount, outcome.measuredCount)
    outcome = try Tuner.tune(before, for: target, on: device, budget: .zero, keeping: kept, cache: &cache)
    outcome.warnings = warnings
    (outcome.knownCount, outcome.measuredCount) = counts
  }
  // Times of whole runs, which choose the fastest profile, are those of the new steps.
  if before.contains(where: { !$0.timings.isEmpty }) {
    outcome.plans = try Engine(plans: outcome.plans, device: device, hostOperations: CatalogueHostOperations()).timed()
  }
}

/// Times the runs of two sets of plans for the same profiles in turns, with inputs and outputs in the device's memory.
private struct PlanComparison {
  private let engines: [Engine]
  private static let rounds = 15
  private static let burst = 8
  /// Runs are slower when they take longer by more than this share.
  private static let margin = 0.005

  init(_ before: [Plan], _ after: [Plan], _ device: any Device) throws(EngineFileError) {
    engines = [
      try Engine(plans: before, device: device, hostOperations: CatalogueHostOperations()),
      try Engine(plans: after, device: device, hostOperations: CatalogueHostOperations()),
    ]
  }

  func runs(of profiles: Set<String>) throws -> [TuningReport.Run] {
    var runs: [TuningReport.Run] = []
    for (index, profile) in engines[0].profiles.enumerated() where profiles.contains(profile.name) {
      let plan = engines[0].plans[index]
      let sizes = Dictionary(uniqueKeysWithValues: plan.shapeSymbols.map { ($0.name, Dim($0).estimate) })
      guard let inputs = plan.randomInputs(sizes) else { continue }
      let first = try engines[0].makeContext()
      let second = try engines[1].makeContext()
      try Self.bind(inputs, first, index)
      try Self.bind(inputs, second, index)
      var times: [[Double]] = [[], []]
      for _ in 0..<Self.rounds {
        times[0] += try Self.times(first, index)
        times[1] += try Self.times(second, index)
      }
      let medians = times.map { $0.sorted()[$0.count / 2] }
      runs.append(
        TuningReport.Run(
          profile: profile.name, secondsBefore: medians[0], secondsAfter: medians[1],
          isKept: medians[1] > medians[0] * (1 + Self.margin)))
    }
    return runs
  }

  /// Binds everything that can be to memory of the device, and runs until launches are recorded.
  private static func bind(
    _ inputs: [String: HostValue], _ context: borrowing ExecutionContext, _ profile: Int
  ) throws {
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
    for _ in 0..<3 { try context.run(profile: .index(profile)) }
  }

  private static func times(_ context: borrowing ExecutionContext, _ profile: Int) throws -> [Double] {
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
