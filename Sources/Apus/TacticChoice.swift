package import ApusCompiler
import ApusCore
package import ApusImport
import ApusOps
package import ApusPlan

#if canImport(FoundationEssentials)
  public import FoundationEssentials
#else
  public import Foundation
#endif

/// How much is measured to choose how steps are computed.
public enum Tuning: Sendable, Hashable {
  /// The compiler's cost model decides.
  case off
  /// The few ways of each step that the cost model prefers, in 10 seconds at most.
  case quick
  /// All ways, in 5 minutes at most.
  case full
  /// What there is time for.
  case lasting(Duration)

  package var effort: TuningEffort? {
    switch self {
    case .off: nil
    case .quick: .quick
    case .full: .full
    case .lasting(let duration): .lasting(duration)
    }
  }
}

/// Who decides how the steps of an engine are computed.
public struct TacticChoice: Sendable {
  /// What is measured on this machine's device.
  public var tuning: Tuning
  /// Where measured times come from and go to; nil for a file in the user's cache folder, which is used when measuring.
  public var timingCache: URL?
  /// A text that says how each step is computed, as ``lockOutput`` writes it: nothing is measured then, and builds give equal bytes.
  public var lock: URL?
  /// Where to write how each step is computed; nil for nowhere.
  public var lockOutput: URL?
  /// Names of nodes that are to be computed in one step.
  public var fusing: [[String]]
  /// Names of nodes of which no two are to be in one step; a single one is to have a step of its own.
  public var keepingApart: [[String]]
  /// Names of convolutions and pools whose channels are to come before their pixels, and of those whose are to come last.
  public var channelsFirst: [String]
  public var channelsLast: [String]

  public init(
    tuning: Tuning = .off, timingCache: URL? = nil, lock: URL? = nil, lockOutput: URL? = nil, fusing: [[String]] = [],
    keepingApart: [[String]] = [], channelsFirst: [String] = [], channelsLast: [String] = []
  ) {
    self.fusing = fusing
    self.keepingApart = keepingApart
    self.channelsFirst = channelsFirst
    self.channelsLast = channelsLast
    self.tuning = tuning
    self.timingCache = timingCache
    self.lock = lock
    self.lockOutput = lockOutput
  }

  /// The timing cache; nil where no figures are wanted.
  package func timings() throws(BuildError) -> TimingCacheFile? {
    if let timingCache { return try TimingCacheFile(path: timingCache.path) }
    return tuning == .off ? nil : try .standard()
  }
}

extension TimingCacheFile {
  /// The one in the user's cache folder.
  package static func standard() throws(BuildError) -> TimingCacheFile {
    try TimingCacheFile(path: try BuildCache.folder("timings") + "/timings.txt")
  }
}

/// Compiles a model, and has tactics chosen by a lock, by measuring, or by what was measured earlier.
///
/// What measuring chooses is locked and built again, so that the engine is the one that its lock gives.
///
/// - Throws: ``BuildError`` with every problem of the phase that failed; `APUS-B-0063` where a lock does not fit.
/// - Returns: also what measuring came to, where there was any.
package func build(
  _ model: Model, for backend: Backend, targets names: [String], jobs: Int? = nil, options: BuildOptions,
  choosing choice: TacticChoice
) throws -> (result: BuildResult, tuning: TuningReport?) {
  var options = options
  options.wishes = Wishes(
    together: choice.fusing, apart: choice.keepingApart,
    layouts: [(choice.channelsFirst, .nchw), (choice.channelsLast, .nhwc)].filter { !$0.0.isEmpty }.map(
      Wishes.Layout.init))
  if let path = choice.lock?.path {
    let lock = try TacticLock(path: path)
    if !options.wishes.isEmpty, options.wishes != lock.wishes {
      throw BuildError(
        "APUS-B-0067", "a lock says already what is computed together and in which layout", place: path,
        hint: "Build without it and write another one with --write-lock.")
    }
    options.lock = lock
    options.wishes = lock.wishes
  }
  let beginning = ContinuousClock.now
  var result = try build(model, for: backend, targets: names, jobs: jobs, options: options)
  var report: TuningReport?
  if options.lock == nil, var cache = try choice.timings() {
    let start = ContinuousClock.now
    // What was compiled is kept.
    let rebuilding = max(start - beginning - result.compiling - result.plans.timingDuration, .zero) + .milliseconds(200)
    let budget = choice.tuning.effort.map { TimeBudget($0.duration) }
    let rebuild: (Fingerprint, RegionTactics) throws -> [Plan] = { target, tactics in
      var options = options
      options.chosen = tactics
      return try Builder.build(
        model.graph, name: model.name, metadata: model.metadata, targets: [try backend.makeTarget(target.target, jobs)],
        options: options
      ).plans
    }
    let (tuned, found) = try tune(
      result.plans, for: choice.tuning.effort, within: budget, cache: &cache, jobs: jobs,
      rebuilding: rebuilding, rebuild: options.earlier.isEmpty ? rebuild : nil, progress: options.progress)
    report = found
    if let warning = cache.cache.warning(cache.path) { report?.warnings.append(warning) }
    result.plans = tuned
    var hasChanged = !found.changes.isEmpty
    if let effort = choice.tuning.effort, let budget,
      let trials = try decisionTrials(
        model, backend, names, jobs, options, result, effort,
        within: budget.keeping(rebuilding + result.plans.timingDuration), rebuilding: rebuilding,
        runs: found.expectedRuns, &cache)
    {
      report?.trials = trials.trials
      result.plans = trials.plans
      hasChanged = hasChanged || options.wishes != trials.wishes
      options.wishes = trials.wishes
    }
    if hasChanged, options.earlier.isEmpty {
      let warnings = result.warnings
      options.lock = try lock(result.plans, options.wishes, backend, jobs, found)
      result = try build(model, for: backend, targets: names, jobs: jobs, options: options)
      result.warnings = warnings
    }
    report?.duration = .now - start
    for trial in report?.trials ?? [] {
      for decision in trial.decisions { result.log.measure(decision, microseconds: 1e6 * trial.measured(decision)) }
    }
  }
  if let path = choice.lockOutput?.path {
    let lock = try lock(result.plans, options.wishes, backend, jobs, report)
    do { try AtomicFile.write(Array(lock.text.utf8), to: path) } catch {
      throw BuildError("APUS-B-0013", "\(error)", hint: "Name another file for the lock.")
    }
  }
  return (result, report)
}

/// Tries decisions about the whole graph the other way in the time that is left; nil where there is none, or several targets share the decisions.
private func decisionTrials(
  _ model: Model, _ backend: Backend, _ names: [String], _ jobs: Int?, _ options: BuildOptions, _ result: BuildResult,
  _ effort: TuningEffort, within budget: TimeBudget, rebuilding: Duration, runs: Duration,
  _ cache: inout TimingCacheFile
) throws -> DecisionTrials? {
  guard effort.trialCount > 0, budget.left > .zero, result.plans.targets.count == 1, options.earlier.isEmpty,
    let device = try? backend.makeDevice(nil), (try? Engine.plans(of: result.plans, fitting: device)) != nil
  else { return nil }
  var trials = DecisionTrials(
    model, for: backend, targets: names, jobs: jobs, options: options, plans: result.plans, on: device,
    expecting: rebuilding + .milliseconds(500) + runs * EngineTimeDiff.leastRuns)
  try trials.run(result.log, most: effort.trialCount, within: budget, &cache)
  return trials
}

/// A lock of plans, with what was measured.
package func lock(
  _ plans: [Plan], _ wishes: Wishes, _ backend: Backend, _ jobs: Int?, _ report: TuningReport?
) throws(BuildError) -> TacticLock {
  var compilers: [Fingerprint: String] = [:]
  for fingerprint in plans.targets {
    compilers[fingerprint] = try backend.makeTarget(fingerprint.target, jobs).compilerVersion()
  }
  return TacticLock(plans, wishes: wishes, compiler: { compilers[$0] ?? "" }) { report?.seconds[$0]?[$1]?[$2] }
}
