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
  }

  /// What was decided for a region.
  private struct Decision {
    var candidates: CandidateSet
    var winner: String
    var seconds: [String: Double]
  }

  private let target: any Target
  private let device: (any Device)?
  private let deadline: ContinuousClock.Instant?
  private let progress: @Sendable (BuildPhase, Int, Int) -> Void
  private var cache: TimingCacheFile
  private var decisions: [Region: Decision] = [:]
  private var keptProfiles: Set<String> = []
  /// Libraries whose tactics cannot be measured on the device, and those whose shall not be.
  private var missing: Set<Library> = []
  private var declined: Set<Library> = []
  private var outcome: Outcome

  /// What the tactics that are taken where there are such begin with, however long they take.
  package static let knob = Knob(
    "APUS_TACTIC", "name", default: "",
    "tuning takes the fastest tactic whose name begins so, such as 'cublaslt', where there is one")

  /// The libraries whose tactics are measured.
  package static let libraries = Knob.choice(
    "APUS_LIBRARIES", ["none", "all"] + Library.allCases.map(\.word), default: Library.cublasLt.word,
    "libraries whose tactics tuning measures; cuDNN's have not run on a GPU yet")

  /// Tactics of a region that are tried at most.
  private static let candidateLimit = 20
  /// A tactic takes another's place when it is faster by more than this share.
  private static let margin = 0.02

  /// What makes two steps' regions one.
  private struct Region: Hashable {
    var text: String
    var constants: [TensorType]

    init(_ alternatives: Alternatives) { (text, constants) = (alternatives.region, alternatives.constants) }
  }

  /// Tunes the plans of one target.
  ///
  /// - Parameters:
  ///   - target: the one that the plans are for.
  ///   - device: what to measure on; nil takes what the cache knows of any device of the target.
  ///   - budget: how long to measure; nil for as long as it takes.
  ///   - keeping: names of profiles that stay as they are.
  ///   - cache: where figures come from and go to.
  /// - Returns: the plans, with steps replaced where another tactic is faster.
  package static func tune(
    _ plans: [Plan], for target: any Target, on device: (any Device)?, budget: Duration? = nil,
    keeping: Set<String> = [], cache: inout TimingCacheFile,
    progress: @escaping @Sendable (BuildPhase, Int, Int) -> Void = { _, _, _ in }
  ) throws -> Outcome {
    var tuner = Tuner(plans, target, device, budget, cache, progress)
    tuner.keptProfiles = keeping
    defer { cache = tuner.cache }
    try tuner.decide()
    try tuner.apply()
    return tuner.outcome
  }

  private init(
    _ plans: [Plan], _ target: any Target, _ device: (any Device)?, _ budget: Duration?, _ cache: TimingCacheFile,
    _ progress: @escaping @Sendable (BuildPhase, Int, Int) -> Void
  ) {
    self.target = target
    self.device = device
    self.cache = cache
    self.progress = progress
    deadline = budget.map { ContinuousClock.now + $0 }
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
    let timer = try device.map { try CandidateTimer($0) }
    for (index, (region, alternatives)) in regions.enumerated() {
      progress(.tune, index, regions.count)
      var tactics = Array(alternatives.tactics.prefix(Self.candidateLimit))
      tactics.removeAll { $0 == alternatives.chosen || !$0.hasPrefix(wish) }
      let candidates: CandidateSet
      do throws(BuildError) {
        candidates = try CandidateSet(alternatives, tactics: [alternatives.chosen] + tactics, target)
      } catch {
        outcome.warnings += error.problems
        continue
      }
      guard candidates.tactics.first == alternatives.chosen else { continue }
      let seconds = try seconds(of: candidates, timer, compiler)
      guard let own = seconds[alternatives.chosen] else { continue }
      outcome.judgedCount += 1
      // In the order of the cost model, so that equal times decide nothing.
      let known = candidates.tactics.filter { seconds[$0] != nil }
      let wanted = known.filter { !wish.isEmpty && $0.hasPrefix(wish) }
      let best = (wanted.isEmpty ? known : wanted).min { (seconds[$0] ?? .infinity) < (seconds[$1] ?? .infinity) }
      guard let best, let least = seconds[best], best != alternatives.chosen,
        least < own * (1 - Self.margin) || !wanted.isEmpty
      else { continue }
      decisions[region] = Decision(candidates: candidates, winner: best, seconds: seconds)
    }
    progress(.tune, regions.count, regions.count)
  }

  /// Versions of the libraries that the device has, which figures depend on; notes which are missing.
  private mutating func libraryVersions() throws(BuildError) -> String {
    guard let device else { return "" }
    let asked = try Self.libraries.value()
    var text = ""
    for library in Library.allCases {
      if asked != "all", asked != library.word {
        declined.insert(library)
        continue
      }
      do {
        try Engine.require([library], on: device)
        text += ", \(library.name) \(Library.text(version: try device.version(of: library)))"
      } catch { missing.insert(library) }
    }
    return text
  }

  /// Tactics that can be measured: those of libraries that are missing are left out, and that is said once.
  private mutating func possible(_ candidates: CandidateSet, _ tactics: [String]) -> Set<String> {
    var possible: Set<String> = []
    for tactic in tactics {
      let needed = candidates.plan(tactic)?.libraries ?? []
      if !needed.isDisjoint(with: declined) { continue }
      let lacking = needed.intersection(missing)
      if lacking.isEmpty {
        possible.insert(tactic)
      } else if let device, !outcome.warnings.contains(where: { $0.code == "APUS-B-0059" }) {
        do { try Engine.require(lacking, on: device) } catch {
          let reasons = error.problems.map(\.message).joined(separator: "; ")
          outcome.warnings.append(
            Diagnostic(
              "APUS-B-0059", "tactics of libraries are left out: \(reasons)", place: error.problems.first?.place ?? ""))
        }
      }
    }
    return possible
  }

  /// What is known, or measured now, of the tactics of a region.
  private mutating func seconds(
    of candidates: CandidateSet, _ timer: CandidateTimer?, _ compiler: String
  ) throws -> [String: Double] {
    let name = target.fingerprint.target
    let here = device.map { TimingCache.Place(target: name, device: $0.identity, compiler: compiler) }
    guard let place = here ?? cache.cache.place(knowing: candidates.keys, target: name) else { return [:] }
    var seconds: [String: Double] = [:]
    for (tactic, key) in zip(candidates.tactics, candidates.keys) {
      seconds[tactic] = cache.cache.seconds(key, at: place)
    }
    outcome.knownCount += seconds.count
    guard let timer, seconds.count < candidates.tactics.count, deadline.map({ ContinuousClock.now < $0 }) ?? true else {
      return seconds
    }
    let wanted = possible(candidates, candidates.tactics.filter { seconds[$0] == nil })
    if wanted.isEmpty { return seconds }
    let measured = try measure(candidates, timer, wanted)
    outcome.measuredCount += measured.count
    try cache.add(
      zip(candidates.tactics, candidates.keys).compactMap { tactic, key in
        measured[tactic].map {
          TimingCache.Entry(key: key, place: place, tactic: tactic, seconds: $0.seconds, runs: $0.runs)
        }
      })
    return seconds.merging(measured.mapValues(\.seconds)) { $1 }
  }

  /// Times tactics beside the one in use. Those that do not compile, do not run or compute something else are left out.
  private mutating func measure(
    _ candidates: CandidateSet, _ timer: CandidateTimer, _ tactics: Set<String>
  ) throws -> [String: CandidateTimer.Result] {
    let own = candidates.tactics[0]
    let all = tactics.union([own])
    let plans: [Plan]
    do { plans = try candidates.compiled(all, target) } catch {
      // One that does not compile spoils all: they are tried one by one.
      var good = all
      for tactic in candidates.tactics where tactics.contains(tactic) {
        do { _ = try candidates.compiled([tactic], target) } catch {
          outcome.warnings += error.problems
          good.remove(tactic)
        }
      }
      if good == all || !good.contains(own) { return [:] }
      return try measure(candidates, timer, good.subtracting([own]))
    }
    if plans.count < 2, tactics != [own] { return [:] }
    let results: [CandidateTimer.Result]
    do { results = try timer.results(of: plans, candidates.sizes, during: .milliseconds(300)) } catch {
      guard let error = error as? any RoomError else { throw error }
      outcome.warnings += error.problems
      return [:]
    }
    var measured: [String: CandidateTimer.Result] = [:]
    var refused: [String] = []
    let tolerance = Self.tolerance(plans[0].outputs[0].type.tensor?.dtype ?? .f32)
    for (plan, result) in zip(plans, results) where tactics.contains(plan.profile.name) {
      if let refusal = result.refusal {
        refused.append("'\(plan.profile.name)': \(refusal.problems[0].message)")
        continue
      }
      if result.difference <= tolerance {
        measured[plan.profile.name] = result
      } else {
        outcome.warnings.append(
          Diagnostic(
            "APUS-B-0058",
            "tactic '\(plan.profile.name)' differs by \(result.difference) from '\(own)'; it is left out",
            place: "region", hint: "Report this: both should compute the same."))
      }
    }
    if let first = refused.first {
      outcome.warnings.append(
        Diagnostic("APUS-B-0059", "\(refused.count) tactics are left out, \(first)", place: "region"))
    }
    return measured
  }

  /// How far results may be apart, relative to the largest: sums are taken in other orders.
  private static func tolerance(_ dtype: DType) -> Double {
    switch dtype {
    case .f64: 1e-9
    case .f32: 2e-3
    case .f16: 1e-2
    default: 5e-2
    }
  }

  // MARK: Applying

  private mutating func apply() throws(BuildError) {
    if decisions.isEmpty { return }
    var splice = PlanSplice(functions: outcome.plans[0].functions)
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
        let change = Change(
          profile: profile, sources: sources, count: 0, before: alternatives.chosen, after: decision.winner,
          secondsBefore: decision.seconds[alternatives.chosen] ?? 0,
          secondsAfter: decision.seconds[decision.winner] ?? 0)
        return PlanSplice.Replacement(old: old, new: new, sources: decision.candidates.sources) {
          changes[region, default: change].count += 1
        }
      }
      outcome.plans[index] = plan
      outcome.changes += changes.values.sorted {
        let gains = [$0, $1].map { Double($0.count) * ($0.secondsBefore - $0.secondsAfter) }
        return gains[0] == gains[1] ? $0.sources.lexicographicallyPrecedes($1.sources) : gains[0] > gains[1]
      }
    }
    var plans = outcome.plans
    try splice.compile(&plans, target) { progress(.compile, $0, $1) }
    outcome.plans = plans
  }
}
