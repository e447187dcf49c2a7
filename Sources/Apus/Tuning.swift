package import ApusCompiler
import ApusCore
import ApusGraph
package import ApusPlan
package import ApusRuntime

/// Chooses the tactics of an engine's plans by what they take.
///
/// With an effort the tactics of the target that suits this machine's device are measured there; all other targets take what
/// the cache knows.
///
/// - Parameters:
///   - plans: of all targets.
///   - effort: how much to measure; nil measures nothing.
///   - budget: the time that there is, with building anew; nil for what the effort says.
///   - rebuilding: what building anew takes.
///   - cache: where figures come from and go to.
///   - device: what to measure on; nil for the device of this machine.
///   - rebuild: builds the plans of a target anew by what was chosen; nil replaces steps.
/// - Returns: the plans, those of each target together.
/// - Throws: ``EngineFileError`` when there is no device that runs the engine, ``BuildError`` when nothing can be compiled.
package func tune(
  _ plans: [Plan], for effort: TuningEffort?, within budget: TimeBudget? = nil, cache: inout TimingCacheFile,
  jobs: Int? = nil, device: (any Device)? = nil, rebuilding: Duration = .zero,
  rebuild: ((Fingerprint, RegionTactics) throws -> [Plan])? = nil,
  progress: @escaping @Sendable (BuildPhase, Int, Int) -> Void = { _, _, _ in }
) throws -> (plans: [Plan], report: TuningReport) {
  let start = ContinuousClock.now
  // Building by the lock comes last, with runs of the profiles that have been timed.
  let budget = (budget ?? effort.map { TimeBudget($0.duration) })?.keeping(rebuilding + plans.timingDuration)
  try Plan.validate(plans)
  let backend = try Backend.named(plans[0].fingerprint.backend)
  var report = TuningReport()
  var own: (device: any Device, target: Fingerprint)?
  if effort != nil {
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
    let own = rebuild.map { rebuild in { choices in try rebuild(fingerprint, choices) } }
    var outcome = try Tuner.tune(
      plans, for: target, on: device, effort: effort,
      // The plans are built anew to be compared, and where a comparison takes back some of several profiles.
      within: budget?.keeping((effort?.comparison ?? .zero) + rebuilding * (plans.count > 1 ? 2 : 1)),
      rebuild: own, cache: &cache, progress: progress)
    if let device, let budget, let effort {
      report.target = fingerprint.target
      report.device = device.identity
      let placed = try place(
        &outcome, plans, target, device, within: budget.keeping(effort.comparison + rebuilding), effort, rebuilding,
        own,
        &cache, &report)
      try settle(
        &outcome, plans, target, device, within: plans.count > 1 ? budget.keeping(rebuilding) : budget,
        for: effort.comparison, placed, own, &cache,
        &report)
    }
    if device != nil {
      report.expectedRuns = .seconds(
        outcome.plans.reduce(0) { $0 + outcome.expectedSeconds(of: $1, target.rates) })
    }
    report.add(outcome, isCounted: device != nil || effort == nil)
    result += outcome.plans
  }
  // Weights that are kept in another layout now are in the way no more.
  if rebuild == nil, result.contains(where: { $0.constants.storage !== plans[0].constants.storage }) {
    result = result.sharingConstants()
  }
  report.duration = ContinuousClock.now - start
  return (result, report)
}

/// Times the ways that are fast by themselves in whole runs, and takes those that gain there.
///
/// - Returns: what whole runs decided.
private func place(
  _ outcome: inout Tuner.Outcome, _ before: [Plan], _ target: any Target, _ device: any Device,
  within budget: TimeBudget, _ effort: TuningEffort, _ rebuilding: Duration,
  _ rebuild: ((RegionTactics) throws -> [Plan])?, _ cache: inout TimingCacheFile, _ report: inout TuningReport
) throws -> [RegionTactics.Region: String] {
  guard try Tuner.knob.value().isEmpty else { return [:] }
  let place = TimingCache.Place(
    target: target.fingerprint.target, device: device.identity, compiler: try target.compilerVersion())
  var trials = PlacedTrials(before, outcome.seconds, most: effort.placedCount, on: device, at: place, cache)
  let runs = Duration.seconds(before.reduce(0) { $0 + outcome.expectedSeconds(of: $1, target.rates) })
  // What is chosen is built once more.
  let building = rebuilding + .milliseconds(300)
  let share = budget.keeping(building).limited(to: max(effort.duration * 0.15, budget.left / 2))
  do {
    let known = cache
    let entries = try trials.run(within: share, expecting: (building, runs)) { ways in
      if let rebuild { return try rebuild(RegionTactics(ways, keeping: [])) }
      // What is known decides, without measuring.
      var known = known
      return try Tuner.tune(before, for: target, on: device, placing: ways, cache: &known).plans
    }
    try cache.add(entries)
  } catch let error as any RoomError {
    outcome.warnings += error.problems
    return [:]
  }
  var placed = trials.winners
  for region in trials.timed where placed[region] == nil { placed[region] = "" }
  report.placedCount += trials.regionCount
  if placed.isEmpty { return [:] }
  let tuned = try Tuner.tune(before, for: target, on: device, placing: placed, rebuild: rebuild, cache: &cache)
  (outcome.plans, outcome.changes) = (tuned.plans, tuned.changes)
  return placed
}

/// Runs the changed profiles as they were and as they are, and takes back what is no faster.
private func settle(
  _ outcome: inout Tuner.Outcome, _ before: [Plan], _ target: any Target, _ device: any Device,
  within budget: TimeBudget, for usual: Duration, _ placed: [RegionTactics.Region: String],
  _ rebuild: ((RegionTactics) throws -> [Plan])?,
  _ cache: inout TimingCacheFile,
  _ report: inout TuningReport
) throws {
  let changed = Set(outcome.changes.map(\.profile))
  if changed.isEmpty { return }
  let place = TimingCache.Place(
    target: target.fingerprint.target, device: device.identity, compiler: try target.compilerVersion())
  var runs: [TuningReport.Run] = []
  for (old, new) in zip(before, outcome.plans) where changed.contains(old.profile.name) {
    if let a = cache.cache.seconds(old.runKey, at: place), let b = cache.cache.seconds(new.runKey, at: place) {
      runs.append(PlanComparison.run(old.profile.name, a, b, count: 0))
    }
  }
  let open = changed.subtracting(runs.map(\.profile))
  if !open.isEmpty {
    do {
      let (found, rates) = (outcome, target.rates)
      func expected(_ plan: Plan) -> Duration { .seconds(found.expectedSeconds(of: plan, rates)) }
      let most = before.filter { open.contains($0.profile.name) }.map(expected).max() ?? .zero
      let measured = try PlanComparison(before, outcome.plans, device).runs(
        of: open, within: budget.limited(to: max(usual, most * (4 * PlanComparison.leastRuns))), expecting: expected)
      for run in measured {
        for (plans, seconds) in [(before, run.secondsBefore), (outcome.plans, run.secondsAfter)] {
          guard let plan = plans.first(where: { $0.profile.name == run.profile }) else { continue }
          try cache.add([
            TimingCache.Entry(key: plan.runKey, place: place, tactic: "run", seconds: seconds, runs: run.count)
          ])
        }
      }
      runs += measured
    } catch let error as any RoomError {
      outcome.warnings += error.problems
      return
    }
  }
  report.runs = runs
  // What was wished for stays.
  if try !Tuner.knob.value().isEmpty { return }
  let kept = Set(runs.filter(\.isKept).map(\.profile))
  if kept == changed {
    outcome.plans = before
    outcome.changes = []
    return
  }
  if !kept.isEmpty {
    // All figures are known by now: the same decisions for the other profiles, without measuring.
    let warnings = outcome.warnings
    let counts = (outcome.knownCount, outcome.measuredCount, outcome.judgedCount)
    outcome = try Tuner.tune(
      before, for: target, on: device, keeping: kept, placing: placed, rebuild: rebuild, cache: &cache)
    outcome.warnings = warnings
    (outcome.knownCount, outcome.measuredCount, outcome.judgedCount) = counts
  }
  // Times of whole runs, which choose the fastest profile, are those of the new steps.
  if before.contains(where: { !$0.timings.isEmpty }) {
    outcome.plans = try Engine(plans: outcome.plans, device: device, hostOperations: CatalogueHostOperations()).timed()
  }
}

extension Plan {
  /// What the time of a whole run is kept under.
  var runKey: String {
    TimingCache.key(of: self, Dictionary(uniqueKeysWithValues: shapeSymbols.map { ($0.name, Dim($0).estimate) }))
  }
}

extension [Plan] {
  /// What timing the profiles that have been timed takes once more.
  var timingDuration: Duration {
    .seconds(flatMap(\.timings).reduce(0) { $0 + Swift.max(0.1, 4 * $1.seconds) })
  }
}
