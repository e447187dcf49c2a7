import ApusCompiler
import ApusCore
import ApusImport
import ApusPlan
import ApusRuntime

/// Builds a model with single fusion decisions the other way, and keeps what makes the steps concerned faster.
///
/// Decisions that cost alone decided are tried, the doubtful ones first, on the device of this machine. What came of each is kept in the
/// timing cache, under the plan that it changes.
struct FusionTrials {
  private let model: Model
  private let backend: Backend
  private let targets: [String]
  private let jobs: Int?
  private let device: any Device
  private var options: BuildOptions
  /// The plans as they are by now.
  private(set) var plans: [Plan]
  private(set) var trials: [TuningReport.Fusion] = []
  /// The longest that a trial took.
  private var longest: Duration

  var wishes: FusionWishes { options.wishes }

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
    for (index, entry) in candidates.enumerated() {
      let start = ContinuousClock.now
      if !budget.affords(longest) { break }
      options.progress(.tune, index, candidates.count)
      guard let wish = Self.wish(against: entry, options.wishes), wish != options.wishes else { continue }
      try attempt(entry, wish, place, within: budget, &cache)
      longest = max(longest, .now - start)
    }
    options.progress(.tune, 1, 1)
  }

  /// Decisions that cost alone decided, each once, those that are predicted to matter least first.
  private static func candidates(_ log: FusionLog) -> [FusionLog.Entry] {
    var seen: Set<[String]> = []
    let found = log.entries.filter { entry in
      guard entry.microseconds != nil, let producer = entry.producerNodes.last, !producer.isEmpty,
        !entry.consumerNode.isEmpty, producer != entry.consumerNode
      else { return false }
      return seen.insert([producer, entry.consumerNode]).inserted
    }
    // What was refused by counting first: it may save what nothing else can.
    return found.filter { !$0.isTaken }.sorted { ($0.microseconds ?? 0) > ($1.microseconds ?? 0) }
      + found.filter(\.isTaken).sorted { ($0.microseconds ?? 0) < ($1.microseconds ?? 0) }
  }

  /// What is to be wished for so that a decision goes the other way; nil where it was wished for as it is.
  private static func wish(against entry: FusionLog.Entry, _ wishes: FusionWishes) -> FusionWishes? {
    guard let producer = entry.producerNodes.last else { return nil }
    let pair = [producer, entry.consumerNode]
    var changed = wishes
    if entry.isTaken {
      if wishes.together.contains(where: { Set($0).isSuperset(of: pair) }) { return nil }
      changed.apart.append(pair)
    } else {
      changed.together.append(pair)
    }
    return changed
  }

  private mutating func attempt(
    _ entry: FusionLog.Entry, _ wish: FusionWishes, _ place: TimingCache.Place, within budget: TimeBudget,
    _ cache: inout TimingCacheFile
  ) throws {
    let key = Self.key(plans, wish)
    var known: (before: Double, after: Double)?
    if let before = cache.cache.seconds(key + "-0", at: place), let after = cache.cache.seconds(key + "-1", at: place) {
      known = (before, after)
      if after >= before { return add(entry, before, after, isAdopted: false) }
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
      guard left > 0, let found = try? seconds(changed, during: min(0.3, left / 2)) else { return }
      known = found
      try cache.add([
        TimingCache.Entry(key: key + "-0", place: place, tactic: "fusion before", seconds: found.before, runs: 5),
        TimingCache.Entry(key: key + "-1", place: place, tactic: "fusion after", seconds: found.after, runs: 5),
      ])
    }
    guard let known else { return }
    let isAdopted = known.after < known.before
    add(entry, known.before, known.after, isAdopted: isAdopted)
    if isAdopted {
      options.wishes = wish
      plans = changed
    }
  }

  private mutating func add(_ entry: FusionLog.Entry, _ before: Double, _ after: Double, isAdopted: Bool) {
    trials.append(
      TuningReport.Fusion(
        producer: entry.producerNodes.last ?? "", consumer: entry.consumerNode, wasTaken: entry.isTaken,
        predicted: (entry.microseconds ?? 0) / 1e6, secondsBefore: before, secondsAfter: after, isAdopted: isAdopted))
  }

  /// What a trial is kept under.
  private static func key(_ plans: [Plan], _ wish: FusionWishes) -> String {
    ContentHash.hex(plans.map(\.runKey) + (wish.together + [["/"]] + wish.apart).flatMap { $0 + [";"] })
  }

  /// What the steps that differ take before and after, in all profiles; equal where that is within the noise.
  private func seconds(_ changed: [Plan], during duration: Double) throws -> (before: Double, after: Double) {
    let engines = try [plans, changed].map {
      try Engine(plans: $0, device: device, hostOperations: CatalogueHostOperations())
    }
    let times = try EngineTimeDiff(engines[0], engines[1], seconds: duration) { _, _ in }
    var sums = [0.0, 0.0]
    var noise = 0.0
    for row in times.runs.flatMap(\.steps) where row.first == nil || row.second == nil {
      for (index, estimate) in [row.first, row.second].enumerated() {
        guard let estimate else { continue }
        sums[index] += estimate.time
        noise += (estimate.upper - estimate.lower) / 2
      }
    }
    let isClear = (sums[0] - sums[1]).magnitude > max(noise, 0.02 * sums[0])
    return isClear ? (sums[0], sums[1]) : (sums[0], sums[0])
  }
}
