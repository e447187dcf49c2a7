import ApusCompiler
import ApusCore
import ApusPlan
import ApusRuntime

/// Times ways to compute regions in whole runs, where what comes before a step and how far the caches reach is as it will be.
///
/// A build has another way for every region that has one left to try, so that a trial tells something of all of them at once.
struct PlacedTrials {
  typealias Region = RegionTactics.Region

  private let plans: [Plan]
  private let device: any Device
  private let place: TimingCache.Place
  /// What times are kept under, with the region and its way.
  private let key: String
  /// The ways that are worth trying in whole runs, the one that was the fastest by itself first.
  private var candidates: [Region: [String]] = [:]
  /// What each way of a region takes, divided by what the one in use takes beside it.
  private var ratios: [Region: [String: Double]] = [:]
  /// How many regions were timed.
  var regionCount: Int { ratios.count }

  /// Ways whose times by themselves are within this share of the one in use and of the fastest are tried.
  private static let doubtful = (own: 1.03, best: 1.15)
  /// A way takes the place of the one in use when it gains more than this share.
  private static let margin = 0.015
  private static let leastSeconds = 0.3
  private static let mostSeconds = 3.0

  /// - Parameters:
  ///   - seconds: what ways of a region take by themselves, by its text.
  ///   - count: how many ways of a region are tried.
  ///   - cache: what is known of whole runs.
  init(
    _ plans: [Plan], _ seconds: [String: [String: Double]], most count: Int, on device: any Device,
    at place: TimingCache.Place,
    _ cache: TimingCacheFile
  ) {
    self.plans = plans
    self.device = device
    self.place = place
    key = ContentHash.hex(plans.map(\.runKey))
    for alternatives in plans.flatMap(\.allSteps).compactMap(\.alternatives) {
      guard let known = seconds[alternatives.region], let own = known[alternatives.chosen],
        let best = known.values.min()
      else { continue }
      let limit = min(own * Self.doubtful.own, best * Self.doubtful.best)
      let ways = known.filter { $0.key != alternatives.chosen && $0.value < limit }
        .sorted { $0.value == $1.value ? $0.key < $1.key : $0.value < $1.value }.map(\.key)
      let region = Region(alternatives)
      for way in ways.prefix(count) {
        let keys = keys(region, way)
        if let before = cache.cache.seconds(keys.before, at: place),
          let after = cache.cache.seconds(keys.after, at: place)
        {
          ratios[region, default: [:]][way] = after / before
        } else if candidates[region]?.contains(way) != true {
          candidates[region, default: []].append(way)
        }
      }
    }
  }

  private func keys(_ region: Region, _ way: String) -> (before: String, after: String) {
    let key = ContentHash.hex([key, region.text, way])
    return (key + "-0", key + "-1")
  }

  /// Tries ways for as long as there is time.
  ///
  /// - Parameters:
  ///   - expected: what a build with other ways takes, and what a run of all profiles takes.
  ///   - build: makes plans with the given ways.
  /// - Returns: what to keep of the times.
  mutating func run(
    within budget: TimeBudget, expecting expected: (build: Duration, runs: Duration),
    build: ([Region: String]) throws -> [Plan]
  ) throws -> [TimingCache.Entry] {
    var entries: [TimingCache.Entry] = []
    let rounds = candidates.values.map(\.count).max() ?? 0
    var longest = expected.build
    for round in 0..<rounds {
      let share = budget.left / .seconds(1) / Double(rounds - round) - longest / .seconds(1)
      let seconds = min(Self.mostSeconds, share / Double(plans.count))
      let least = (expected.runs * EngineTimeDiff.leastRuns) / .seconds(1) / Double(plans.count)
      if seconds < max(Self.leastSeconds, least) { break }
      var ways: [Region: String] = [:]
      for (region, all) in candidates where all.count > round { ways[region] = all[round] }
      let start = ContinuousClock.now
      let changed = try build(ways)
      longest = max(longest, .now - start)
      entries += try compare(changed, ways, seconds)
    }
    return entries
  }

  /// The ways to take: those that gained most in whole runs, and none where they gained nothing.
  var winners: [Region: String] {
    var winners: [Region: String] = [:]
    for (region, ratios) in ratios {
      let best = ratios.min { $0.value == $1.value ? $0.key < $1.key : $0.value < $1.value }
      if let best, best.value < 1 - Self.margin { winners[region] = best.key }
    }
    return winners
  }

  /// The regions that were timed, whose winners are known.
  var timed: Set<Region> { Set(ratios.keys) }

  /// Times the plans in turns with those that are there.
  private mutating func compare(
    _ changed: [Plan], _ ways: [Region: String], _ seconds: Double
  ) throws -> [TimingCache.Entry] {
    let engines = try [plans, changed].map {
      try Engine(plans: $0, device: device, hostOperations: CatalogueHostOperations())
    }
    let times = try EngineTimeDiff(engines[0], engines[1], seconds: seconds) { _, _ in }
    var sums: [Region: (before: Double, after: Double, count: Int)] = [:]
    for run in times.runs {
      guard let before = plans.first(where: { $0.profile.name == run.profile }),
        let after = changed.first(where: { $0.profile.name == run.profile })
      else { continue }
      let (own, new) = (Self.regions(before), Self.regions(after))
      for (nodes, region) in own {
        // Where a region was not computed by the wished way nothing is said of it.
        guard let wanted = ways[region.region], new[nodes]?.chosen == wanted, region.chosen != wanted else { continue }
        let rows = run.steps.filter { nodes.isSuperset(of: $0.nodes) && !$0.nodes.isEmpty }
        let found = (rows.reduce(0) { $0 + ($1.first?.time ?? 0) }, rows.reduce(0) { $0 + ($1.second?.time ?? 0) })
        if found.0 <= 0 || found.1 <= 0 { continue }
        let sum = sums[region.region] ?? (0, 0, .max)
        sums[region.region] = (sum.before + found.0, sum.after + found.1, min(sum.count, run.count))
      }
    }
    let whole = times.runs.reduce(0) { $0 + ($1.whole.first?.time ?? 0) }
    let count = times.runs.map(\.count).min() ?? 0
    // Nothing could be run: nothing is known.
    if whole <= 0 || count == 0 { return [] }
    var entries: [TimingCache.Entry] = []
    for (region, way) in ways {
      // Of what no step shows nothing is gained: whole runs are the same.
      let sum = sums[region] ?? (whole, whole, count)
      ratios[region, default: [:]][way] = sum.after / sum.before
      let keys = keys(region, way)
      entries += [
        TimingCache.Entry(
          key: keys.before, place: place, tactic: "placed before", seconds: sum.before, runs: sum.count),
        TimingCache.Entry(key: keys.after, place: place, tactic: "placed after", seconds: sum.after, runs: sum.count),
      ]
    }
    return entries.sorted { $0.key < $1.key }
  }

  /// The regions of a plan by the nodes of the model that they compute; those that share nodes with others are left out.
  private static func regions(_ plan: Plan) -> [Set<String>: (region: Region, chosen: String)] {
    var found: [Set<String>: (region: Region, chosen: String)] = [:]
    var counts: [String: Int] = [:]
    for (index, step) in plan.steps.enumerated() {
      guard let alternatives = step.alternatives else { continue }
      let nodes = Set(plan.steps.dropFirst(index).prefix(alternatives.stepCount).flatMap(\.sources))
      for node in nodes { counts[node, default: 0] += 1 }
      found[nodes] = (Region(alternatives), alternatives.chosen)
    }
    return found.filter { nodes, _ in !nodes.isEmpty && nodes.allSatisfy { counts[$0] == 1 } }
  }
}
