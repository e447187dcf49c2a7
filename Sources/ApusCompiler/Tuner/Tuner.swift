package import ApusCore
import ApusGraph
package import ApusPlan
package import ApusRuntime

/// Chooses among the tactics that an engine's steps could be computed by, by what they take.
///
/// Figures come from a timing cache, and from a device where there is one and there is time. What is not known stays as it is.
package struct Tuner {
  /// A region that is computed otherwise than before.
  package struct Change: Sendable {
    package var profile: String
    /// Nodes of the model, and how many regions of the profile are alike.
    package var sources: [String]
    package var count: Int
    package var before: String
    package var after: String
    /// Of one run of the region by itself.
    package var secondsBefore: Double
    package var secondsAfter: Double
  }

  /// What came of tuning the plans of one target.
  package struct Outcome: Sendable {
    package var plans: [Plan]
    package var changes: [Change] = []
    package var warnings: [Diagnostic] = []
    /// Different regions with several tactics, and how many of them could be judged.
    package var regionCount = 0
    package var judgedCount = 0
    /// Tactics whose times were known, and those that were measured.
    package var knownCount = 0
    package var measuredCount = 0
    /// How well the cost model ordered the tactics of each region that was judged.
    package var rankings: [Ranking] = []
    /// Seconds of the tactics of each region, by its text.
    package var seconds: [String: [String: Double]] = [:]

    /// Adds the changes of a profile, those that gain most first.
    fileprivate mutating func add(_ found: [Change]) {
      changes += found.sorted {
        let gains = [$0, $1].map { Double($0.count) * ($0.secondsBefore - $0.secondsAfter) }
        return gains[0] == gains[1] ? $0.sources.lexicographicallyPrecedes($1.sources) : gains[0] > gains[1]
      }
    }

    /// Adds warnings that are new.
    mutating func add(_ problems: [Diagnostic]) {
      warnings += problems.filter { !warnings.contains($0) }
    }
  }

  /// What was decided for a region.
  private struct Decision {
    var candidates: CandidateSet
    var winner: String
    var seconds: [String: Double]
  }

  let target: any Target
  let device: (any Device)?
  let effort: TuningEffort?
  /// The time that there is to measure; nil for any.
  let budget: TimeBudget?
  var pace = TuningPace()
  private let progress: @Sendable (BuildPhase, Int, Int) -> Void
  /// Bytes that a run of the model touches.
  let touched: Int
  var cache: TimingCacheFile
  private var decisions: [Region: Decision] = [:]
  private var keptProfiles: Set<String> = []
  /// The ways that whole runs chose; empty for the one in use.
  private var placed: [Region: String] = [:]
  /// Whether steps are replaced in plans that stay as they are otherwise.
  var replaces = true
  /// Libraries whose tactics cannot be measured on the device, and those whose shall not be.
  var missing: Set<Library> = []
  var declined: Set<Library> = []
  var outcome: Outcome
  /// Keys of the tactics that are counted as known or measured.
  var counted: Set<String> = []

  /// What the tactics that are taken where there are such begin with, however long they take.
  package static let knob = Knob(
    "APUS_TACTIC", "name", default: "",
    "tuning takes the fastest tactic whose name begins so, such as 'cublaslt', where there is one")

  /// The libraries whose tactics are measured.
  package static let libraries = Knob.choice(
    "APUS_LIBRARIES", ["none", "all"] + Library.allCases.map(\.word), default: Library.cublasLt.word,
    "libraries whose tactics tuning measures; all takes cuDNN for convolutions too")

  /// A tactic takes another's place when it is faster by more than this share.
  private static let margin = 0.02

  typealias Region = RegionTactics.Region

  /// Tunes the plans of one target.
  ///
  /// - Parameters:
  ///   - target: the one that the plans are for.
  ///   - device: what to measure on; nil takes what the cache knows of any device of the target.
  ///   - effort: how much to measure; nil measures nothing.
  ///   - budget: the time that there is to measure; nil for any.
  ///   - keeping: names of profiles that stay as they are.
  ///   - placing: the tactics of regions that are decided already, whatever they take by themselves; an empty one for the one in use.
  ///   - rebuild: builds the target's plans anew by what was chosen; nil replaces steps of the plans as they are, which leaves out
  ///     tactics that keep constants in another layout.
  ///   - cache: where figures come from and go to.
  /// - Returns: the plans, with steps replaced where another tactic is faster.
  package static func tune(
    _ plans: [Plan], for target: any Target, on device: (any Device)?, effort: TuningEffort? = nil,
    within budget: TimeBudget? = nil, keeping: Set<String> = [],
    placing: [RegionTactics.Region: String] = [:],
    rebuild: ((RegionTactics) throws -> [Plan])? = nil, cache: inout TimingCacheFile,
    progress: @escaping @Sendable (BuildPhase, Int, Int) -> Void = { _, _, _ in }
  ) throws -> Outcome {
    var tuner = Tuner(plans, target, device, effort, budget, cache, progress)
    tuner.keptProfiles = keeping
    tuner.placed = placing
    tuner.replaces = rebuild == nil
    defer { cache = tuner.cache }
    try tuner.decide()
    if let rebuild { try tuner.apply(rebuild) } else { try tuner.apply() }
    return tuner.outcome
  }

  private init(
    _ plans: [Plan], _ target: any Target, _ device: (any Device)?, _ effort: TuningEffort?,
    _ budget: TimeBudget?, _ cache: TimingCacheFile,
    _ progress: @escaping @Sendable (BuildPhase, Int, Int) -> Void
  ) {
    self.target = target
    self.device = device
    self.cache = cache
    self.progress = progress
    self.effort = effort
    self.budget = budget
    touched = plans.touchedByteCount
    outcome = Outcome(plans: plans)
  }

  // MARK: Deciding

  /// The regions of all plans, those that do most work first.
  private func regions() -> [(region: Region, alternatives: Alternatives)] {
    var work: [Region: Double] = [:]
    var found: [(region: Region, alternatives: Alternatives)] = []
    for step in outcome.plans.flatMap(\.allSteps) {
      guard let alternatives = step.alternatives else { continue }
      let region = Region(alternatives)
      if work[region] == nil { found.append((region, alternatives)) }
      work[region, default: 0] += Double(max(step.work.estimate, 1))
    }
    return found.enumerated().sorted {
      let (a, b) = (work[$0.element.region] ?? 0, work[$1.element.region] ?? 0)
      return a == b ? $0.offset < $1.offset : a > b
    }.map(\.element)
  }

  private mutating func decide() throws {
    let regions = regions()
    let wish = try Self.knob.value()
    outcome.regionCount = regions.count
    let compiler = try target.compilerVersion() + libraryVersions()
    let timer = effort == nil ? nil : try device.map { try CandidateTimer($0, beside: touched) }
    // Without a timer once is enough: figures of all tactics are looked up.
    let counts = timer == nil ? [Int.max] : effort?.candidateCounts ?? []
    var judged: Set<Region> = []
    var rankings: [Region: Ranking] = [:]
    for (turn, count) in counts.enumerated() {
      for (index, (region, alternatives)) in regions.enumerated() {
        progress(.tune, turn * regions.count + index, counts.count * regions.count)
        if turn > 0, alternatives.tactics.count <= counts[turn - 1] { continue }
        if budget?.affords(pace.preparing) == false { continue }
        let start = ContinuousClock.now
        let lowered = candidates(alternatives, count, wish)
        pace.sawLowering(.now - start)
        guard let candidates = lowered else { continue }
        let seconds = try seconds(of: candidates, timer, compiler)
        guard let own = seconds[alternatives.chosen] else { continue }
        judged.insert(region)
        outcome.seconds[region.text, default: [:]].merge(seconds) { $1 }
        rankings[region] = Ranking(alternatives.tactics.compactMap { seconds[$0] })
        decisions[region] = decision(region, candidates, seconds, own, wish)
      }
    }
    outcome.judgedCount = judged.count
    outcome.rankings = regions.compactMap { rankings[$0.region] }
    progress(.tune, 1, 1)
  }

  /// The first tactics of a region as plans, the one in use first; nil where they cannot be lowered.
  private mutating func candidates(_ alternatives: Alternatives, _ count: Int, _ wish: String) -> CandidateSet? {
    var tactics = Array(alternatives.tactics.prefix(count))
    tactics.removeAll { $0 == alternatives.chosen || !$0.hasPrefix(wish) }
    do throws(BuildError) {
      let candidates = try CandidateSet(
        alternatives, tactics: [alternatives.chosen] + tactics, target, beside: touched)
      return candidates.tactics.first == alternatives.chosen ? candidates : nil
    } catch {
      outcome.add(error.problems)
      return nil
    }
  }

  /// What is faster than the tactic in use; nil for nothing.
  private func decision(
    _ region: Region, _ candidates: CandidateSet, _ seconds: [String: Double], _ own: Double, _ wish: String
  ) -> Decision? {
    // In the order of the cost model, so that equal times decide nothing.
    let known = candidates.tactics.filter { tactic in
      seconds[tactic] != nil && (!replaces || candidates.canReplace(tactic))
    }
    if let placed = placed[region] {
      if placed.isEmpty || placed == candidates.tactics[0] || !known.contains(placed) { return nil }
      return Decision(candidates: candidates, winner: placed, seconds: seconds)
    }
    let wanted = known.filter { !wish.isEmpty && $0.hasPrefix(wish) }
    let best = (wanted.isEmpty ? known : wanted).min { (seconds[$0] ?? .infinity) < (seconds[$1] ?? .infinity) }
    guard let best, let least = seconds[best], best != candidates.tactics[0],
      least < own * (1 - Self.margin) || !wanted.isEmpty
    else { return nil }
    return Decision(candidates: candidates, winner: best, seconds: seconds)
  }

  // MARK: Applying

  /// Has plans built anew.
  private mutating func apply(_ rebuild: (RegionTactics) throws -> [Plan]) throws {
    if decisions.isEmpty { return }
    for plan in outcome.plans where !keptProfiles.contains(plan.profile.name) {
      var changes: [Region: Change] = [:]
      var order: [Region] = []
      for (index, step) in plan.allSteps.enumerated() {
        guard let alternatives = step.alternatives, let decision = decisions[Region(alternatives)] else { continue }
        let region = Region(alternatives)
        if changes[region] == nil { order.append(region) }
        let steps = plan.allSteps.dropFirst(index).prefix(alternatives.stepCount)
        changes[region, default: change(plan, Array(steps).distinctSources, alternatives, decision)].count += 1
      }
      outcome.add(order.compactMap { changes[$0] })
    }
    outcome.plans = try rebuild(RegionTactics(decisions.mapValues(\.winner), keeping: keptProfiles))
  }

  private func change(
    _ plan: Plan, _ sources: [String], _ alternatives: Alternatives, _ decision: Decision
  ) -> Change {
    Change(
      profile: plan.profile.name, sources: sources, count: 0, before: alternatives.chosen, after: decision.winner,
      secondsBefore: decision.seconds[alternatives.chosen] ?? 0, secondsAfter: decision.seconds[decision.winner] ?? 0)
  }

  private mutating func apply() throws(BuildError) {
    if decisions.isEmpty { return }
    var splice = PlanSplice(outcome.plans)
    for index in outcome.plans.indices {
      let profile = outcome.plans[index].profile.name
      if keptProfiles.contains(profile) { continue }
      var changes: [Region: Change] = [:]
      var plan = outcome.plans[index]
      splice.apply(to: &plan) { alternatives, sources in
        let region = Region(alternatives)
        guard let decision = decisions[region], let old = decision.candidates.plan(alternatives.chosen),
          let new = decision.candidates.plan(decision.winner)
        else { return nil }
        let change = change(outcome.plans[index], sources, alternatives, decision)
        let recovery = ConstantRecovery(alternatives, from: alternatives.chosen, target)
        return PlanSplice.Replacement(
          old: old, new: new, sources: decision.candidates.sources,
          relaid: { recovery.plan(by: decision.winner, $0) },
          done: { changes[region, default: change].count += 1 })
      }
      outcome.plans[index] = plan
      outcome.add(Array(changes.values))
    }
    var plans = outcome.plans
    try splice.compile(&plans, target) { progress(.compile, $0, $1) }
    // Other steps leave other parts of a device idle.
    var log = FusionLog()
    for index in plans.indices where outcome.changes.contains(where: { $0.profile == plans[index].profile.name }) {
      let functions = plans[index].functions
      LaneScheduler.assign(
        &plans[index], for: target, limit: plans[index].auxiliaryLanes, functions: functions, &log)
    }
    outcome.plans = plans
  }
}

extension Tuner.Outcome {
  /// What a run of a plan takes: what is known of its regions, and usual rates for all else.
  package func expectedSeconds(of plan: Plan, _ rates: MachineRates) -> Double {
    plan.allSteps.reduce(0) { sum, step in
      if let alternatives = step.alternatives, let known = seconds[alternatives.region]?[alternatives.chosen] {
        return sum + known
      }
      if step.alternatives != nil { return sum + Double(step.work.estimate) / rates.operations / 1e6 }
      return sum + (Double(step.traffic.estimate) / rates.bytes + rates.launch) / 1e6
    }
  }
}
