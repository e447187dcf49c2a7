package import ApusCompiler
import ApusCore
import ApusImport
import ApusOps
import ApusPlan
import ApusRuntime

/// Builds a model with decisions about the whole graph the other way, and keeps what makes the steps concerned faster: what is
/// computed together, and where channels are.
///
/// Decisions that cost alone decided are tried, the doubtful ones first, on the device of this machine. What came of each is kept in the
/// timing cache, under the plan that it changes.
package struct DecisionTrials {
  private let model: Model
  private let backend: Backend
  private let targets: [String]
  private let jobs: Int?
  private let device: any Device
  private var options: BuildOptions
  /// The plans as they are by now.
  private(set) var plans: [Plan]
  private(set) var trials: [TuningReport.Trial] = []
  /// The longest that a trial took.
  private var longest: Duration

  var wishes: Wishes { options.wishes }

  /// - Parameters:
  ///   - options: what the plans were built with; their lock is what they are.
  ///   - expected: what a trial should take.
  init(
    _ model: Model, for backend: Backend, targets: [String], jobs: Int?, options: BuildOptions, plans: [Plan],
    on device: any Device, expecting expected: Duration
  ) {
    longest = expected
    self.model = model
    self.backend = backend
    self.targets = targets
    self.jobs = jobs
    self.device = device
    self.plans = plans
    self.options = options
    self.options.locksStrictly = false
  }

  /// Tries decisions of a log for as long as there is time.
  mutating func run(
    _ log: FusionLog, most count: Int, within budget: TimeBudget, _ cache: inout TimingCacheFile
  ) throws {
    let target = try backend.makeTarget(plans[0].fingerprint.target, jobs)
    let place = TimingCache.Place(
      target: plans[0].fingerprint.target, device: device.identity, compiler: try target.compilerVersion())
    let candidates = Array(Self.candidates(log).prefix(count))
    for (index, decisions) in candidates.enumerated() {
      let start = ContinuousClock.now
      if !budget.affords(longest) { break }
      options.progress(.tune, index, candidates.count)
      guard let wish = Self.wish(against: decisions, options.wishes) else { continue }
      try attempt(decisions, wish, place, within: budget, &cache)
      longest = max(longest, .now - start)
    }
    options.progress(.tune, 1, 1)
  }

  /// Decisions that cost alone decided, each once, with those that go the other way along with it; those that are predicted to matter
  /// least first.
  package static func candidates(_ log: FusionLog) -> [[FusionLog.Entry]] {
    var seen: Set<[String]> = []
    let entries = log.entries.filter { entry in entry.key.map { seen.insert($0).inserted } ?? false }
    let open = entries.filter { $0.microseconds != nil && $0.isOpen }
    func sorted(_ found: [FusionLog.Entry], _ isBefore: (Double, Double) -> Bool) -> [[FusionLog.Entry]] {
      found.sorted { isBefore($0.microseconds ?? 0, $1.microseconds ?? 0) }.map { [$0] }
    }
    let fusions = open.filter { $0.subject == .fusion }
    // What was refused by counting first: it may save what nothing else can.
    return sorted(fusions.filter { !$0.isTaken }, >)
      + sorted(open.filter { $0.subject == .layout }) { $0.magnitude < $1.magnitude }
      + alike(fusions) + rivals(entries) + sorted(fusions.filter(\.isTaken), <)
  }

  /// What several nodes read: computed in each of them, or stored once for all.
  private static func alike(_ fusions: [FusionLog.Entry]) -> [[FusionLog.Entry]] {
    var groups: [[FusionLog.Entry]] = []
    for entry in fusions {
      let index = groups.firstIndex {
        $0[0].producerNodes.last == entry.producerNodes.last && $0[0].isTaken == entry.isTaken
      }
      if let index { groups[index].append(entry) } else { groups.append([entry]) }
    }
    return groups.filter { $0.count > 1 }
  }

  /// Nodes that go along with one of two that templates compute: apart from the one and together with the other.
  private static func rivals(_ entries: [FusionLog.Entry]) -> [[FusionLog.Entry]] {
    entries.filter { $0.subject == .fusion && $0.isRival }.compactMap { refused in
      let taken = entries.last { entry in
        entry.subject == .fusion && entry.isTaken && entry.consumerNode == refused.consumerNode
          && entry.microseconds != nil
      }
      return taken.map { [$0, refused] }
    }
  }

  /// What is to be wished for so that decisions go the other way; nil where one was wished for as it is.
  private static func wish(against decisions: [FusionLog.Entry], _ wishes: Wishes) -> Wishes? {
    var changed = wishes
    for entry in decisions {
      guard let producer = entry.producerNodes.last else { return nil }
      let pair = [producer, entry.consumerNode]
      switch (entry.subject, entry.isTaken) {
      case (.layout, let isLast):
        if wishes.layout(of: producer) != nil { return nil }
        changed.layouts.append(Wishes.Layout([producer], isLast ? .nchw : .nhwc))
      case (.fusion, true):
        if wishes.together.contains(where: { Set($0).isSuperset(of: pair) }) { return nil }
        if !wishes.apart.contains(pair) { changed.apart.append(pair) }
      case (.fusion, false):
        if wishes.apart.contains(where: { Set($0).isSuperset(of: pair) }) { return nil }
        if !wishes.together.contains(pair) { changed.together.append(pair) }
      }
    }
    return changed == wishes ? nil : changed
  }

  private mutating func attempt(
    _ decisions: [FusionLog.Entry], _ wish: Wishes, _ place: TimingCache.Place, within budget: TimeBudget,
    _ cache: inout TimingCacheFile
  ) throws {
    let key = Self.key(plans, wish)
    var known: (before: Double, after: Double)?
    if let before = cache.cache.seconds(key + "-0", at: place), let after = cache.cache.seconds(key + "-1", at: place) {
      known = (before, after)
      if after >= before { return add(decisions, before, after, isAdopted: false) }
    }
    var trial = options
    trial.wishes = wish
    trial.lock = try lock(plans, options.wishes, backend, jobs, nil)
    trial.progress = { _, _, _ in }
    // What cannot be computed so is refused by the build.
    guard let changed = try? build(model, for: backend, targets: targets, jobs: jobs, options: trial).plans else {
      return
    }
    if known == nil {
      let left = budget.left / .seconds(1)
      guard left > 0, let found = try? seconds(changed, during: min(0.3, left / 2)), found.count > 0 else { return }
      known = (found.before, found.after)
      try cache.add([
        TimingCache.Entry(
          key: key + "-0", place: place, tactic: "decision before", seconds: found.before, runs: found.count),
        TimingCache.Entry(
          key: key + "-1", place: place, tactic: "decision after", seconds: found.after, runs: found.count),
      ])
    }
    guard let known else { return }
    let isAdopted = known.after < known.before
    add(decisions, known.before, known.after, isAdopted: isAdopted)
    if isAdopted {
      options.wishes = wish
      plans = changed
    }
  }

  private mutating func add(
    _ decisions: [FusionLog.Entry], _ before: Double, _ after: Double, isAdopted: Bool
  ) {
    trials.append(
      TuningReport.Trial(decisions: decisions, secondsBefore: before, secondsAfter: after, isAdopted: isAdopted))
  }

  /// What a trial is kept under.
  private static func key(_ plans: [Plan], _ wish: Wishes) -> String {
    let layouts = wish.layouts.map { [$0.layout.rawValue] + $0.nodes }
    return ContentHash.hex(
      plans.map(\.runKey) + (wish.together + [["/"]] + wish.apart + [["/"]] + layouts).flatMap { $0 + [";"] })
  }

  /// What the steps that differ take before and after, in all profiles, and how often that was timed; equal where the difference is
  /// within the noise.
  private func seconds(
    _ changed: [Plan], during duration: Double
  ) throws -> (before: Double, after: Double, count: Int) {
    let engines = try [plans, changed].map {
      try Engine(plans: $0, device: device, hostOperations: CatalogueHostOperations())
    }
    let times = try EngineTimeDiff(engines[0], engines[1], seconds: duration) { _, _ in }
    var sums = [0.0, 0.0]
    var noise = 0.0
    for run in times.runs {
      let before = plans.first { $0.profile.name == run.profile }
      let after = changed.first { $0.profile.name == run.profile }
      guard let before, let after else { continue }
      let concerned = Set(StepDiff(before, after).changed)
      for row in run.steps where concerned.contains(row.nodes) {
        for (index, estimate) in [row.first, row.second].enumerated() {
          guard let estimate else { continue }
          sums[index] += estimate.time
          noise += (estimate.upper - estimate.lower) / 2
        }
      }
    }
    let isClear = (sums[0] - sums[1]).magnitude > max(noise, 0.02 * sums[0])
    return (sums[0], isClear ? sums[1] : sums[0], times.runs.map(\.count).min() ?? 0)
  }
}
