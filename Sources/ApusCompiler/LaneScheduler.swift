import ApusCore
import ApusPlan
import ApusRuntime

/// Gives the steps of branches that do not need one another lanes to run on side by side, where that should be faster.
///
/// Neighbouring steps that can be recorded together are cut where all steps before come before all steps after. What lies between
/// two cuts is spread by itself: its steps are chained, each behind the one that it waits for longest, and chains leave the first
/// lane one by one, those that take longest first, where the predicted end comes sooner.
struct LaneScheduler {
  private let plan: Plan
  private let model: any LaneModel
  private let functions: [KernelFunction]
  private let limit: Int
  private var lanes: [Int]
  private var spread: [Part] = []

  /// Steps that were spread, by number, with microseconds one after the other and side by side.
  private struct Part {
    var steps: Range<Int>
    var laneCount: Int
    var before: Double
    var after: Double

    var gain: Double { before - after }
    var times: String {
      func tenths(_ value: Double) -> Double { (value * 10).rounded() / 10 }
      return "\(laneCount) lanes: \(tenths(after)) us instead of \(tenths(before)) us predicted"
    }
  }

  /// A part is spread where that gains more than this share of its time.
  private static let margin = 0.03
  /// Longer segments are left as they are, since finding their parts takes the square of their length.
  private static let stepLimit = 1 << 14
  /// Chains that are tried, of each part.
  private static let chainLimit = 64
  /// The arena may grow by this share, or by so many bytes.
  private static let arenaGrowth = 0.2
  private static let arenaAllowance = 4 << 20

  /// Gives the steps of a plan, and of its pieces, new lanes.
  ///
  /// - Parameters:
  ///   - limit: most lanes beside the first.
  ///   - functions: those that the plan's launches call.
  static func assign(
    _ plan: inout Plan, for target: any Target, limit: Int, functions: [KernelFunction], _ log: inout FusionLog
  ) {
    plan.auxiliaryLanes = limit
    for index in plan.steps.indices {
      guard case .piece(var piece) = plan.steps[index].action else { continue }
      assign(&piece.plan, for: target, limit: limit, functions: functions, &log)
      plan.steps[index].action = .piece(piece)
    }
    let steps = plan.allSteps
    if steps.contains(where: { $0.lane != 0 }) { plan.setLanes([Int](repeating: 0, count: steps.count)) }
    guard limit > 0, let model = target.laneModel else { return }
    var scheduler = LaneScheduler(
      plan: plan, model: model, functions: functions, limit: limit, lanes: [Int](repeating: 0, count: steps.count))
    for segment in plan.recordableSteps { scheduler.schedule(segment, steps, &log) }
    scheduler.saveMemory(steps, &log)
    if scheduler.spread.isEmpty { return }
    plan.setLanes(scheduler.lanes)
    for part in scheduler.spread {
      log.record(text(steps, part.steps), into: "lanes", taken: true, part.times)
    }
  }

  private mutating func schedule(_ segment: Range<Int>, _ steps: [Step], _ log: inout FusionLog) {
    if segment.count > Self.stepLimit {
      let reason = "more than \(Self.stepLimit) steps are not spread"
      return log.record(Self.text(steps, segment), into: "lanes", taken: false, reason)
    }
    let own = steps[segment]
    let dependences = StepAccess.dependences(own.compactMap { plan.access(of: $0) })
    for part in Self.parts(dependences) where part.count > 1 {
      let simulation = LaneSimulation(
        costs: part.map { model.cost(of: StepSize(steps[segment.lowerBound + $0], functions)) },
        dependences: part.map { dependences[$0].filter(part.contains).map { $0 - part.lowerBound } },
        crossing: model.crossing)
      guard let (found, before, after) = spread(simulation) else { continue }
      let numbers = segment.lowerBound + part.lowerBound..<segment.lowerBound + part.upperBound
      let own = Part(steps: numbers, laneCount: Set(found).count, before: before, after: after)
      if own.gain <= max(Self.margin * before, model.leastGain) {
        let reason = own.laneCount == 1 ? "no branch gains what its fork and join take" : own.times
        log.record(Self.text(steps, numbers), into: "lanes", taken: false, reason)
        continue
      }
      for (step, lane) in zip(numbers, found) { lanes[step] = lane }
      spread.append(own)
    }
  }

  /// The best lanes found for a part; nil where it has no branches that are long enough.
  private func spread(_ simulation: LaneSimulation) -> (lanes: [Int], before: Double, after: Double)? {
    let chains = Self.chains(simulation)
    // A branch must take longer than its fork and join.
    let long = chains.dropFirst().filter { chain in
      chain.reduce(0) { $0 + simulation.costs[$1].microseconds } > 2 * simulation.crossing
    }
    if long.isEmpty { return nil }
    var lanes = [Int](repeating: 0, count: simulation.costs.count)
    let before = simulation.duration(lanes)
    var best = before
    for chain in long.prefix(Self.chainLimit) {
      var choice = lanes
      for lane in 1...min((lanes.max() ?? 0) + 1, limit) {
        var trial = lanes
        for step in chain { trial[step] = lane }
        let duration = simulation.duration(trial)
        if duration < best - 0.01 { (best, choice) = (duration, trial) }
      }
      lanes = choice
    }
    return (lanes, before, best)
  }

  /// Steps in chains, those that take longest first: each step is behind the last of a chain that it comes after latest.
  private static func chains(_ simulation: LaneSimulation) -> [[Int]] {
    var chains: [[Int]] = []
    var chainOf: [Int] = []
    var ends: [Double] = []
    for (step, dependences) in simulation.dependences.enumerated() {
      let latest = dependences.map { ends[$0] }.max() ?? 0
      ends.append(latest + simulation.costs[step].microseconds)
      let free = dependences.filter { chains[chainOf[$0]].last == $0 }
      if let earlier = free.max(by: { ends[$0] < ends[$1] }) {
        chainOf.append(chainOf[earlier])
        chains[chainOf[earlier]].append(step)
      } else {
        chainOf.append(chains.count)
        chains.append([step])
      }
    }
    let times = chains.map { $0.reduce(0) { $0 + simulation.costs[$1].microseconds } }
    return chains.indices.sorted { (times[$0], $1) > (times[$1], $0) }.map { chains[$0] }
  }

  /// Cuts steps where all before come before all after.
  private static func parts(_ dependences: [[Int]]) -> [Range<Int>] {
    let words = (dependences.count + 63) / 64
    var before: [[UInt64]] = []
    // How many of the first steps all come before a step.
    var prefixes: [Int] = []
    for earlier in dependences {
      var bits = [UInt64](repeating: 0, count: words)
      for step in earlier {
        for word in 0..<words { bits[word] |= before[step][word] }
        bits[step / 64] |= 1 << UInt64(step % 64)
      }
      before.append(bits)
      var prefix = 0
      for word in bits {
        prefix += (~word).trailingZeroBitCount
        if word != .max { break }
      }
      prefixes.append(prefix)
    }
    var parts: [Range<Int>] = []
    var end = dependences.count
    var least = Int.max
    for step in dependences.indices.reversed() {
      least = min(least, prefixes[step])
      guard least >= step else { continue }
      parts.append(step..<end)
      end = step
    }
    return parts.reversed()
  }

  // MARK: Memory

  /// Takes back what gains least until the arena is not much larger than without lanes.
  private mutating func saveMemory(_ steps: [Step], _ log: inout FusionLog) {
    if spread.isEmpty { return }
    let sizes = plan.shapeSymbols.map { Dim($0).estimate }
    guard let least = plan.withoutLanes.arenaByteCount(symbols: sizes) else { return }
    let most = least + max(Int(Double(least) * Self.arenaGrowth), Self.arenaAllowance)
    while let worst = spread.indices.min(by: { spread[$0].gain < spread[$1].gain }) {
      var laned = plan
      laned.setLanes(lanes)
      guard let needed = laned.arenaByteCount(symbols: sizes), needed > most else { return }
      let part = spread.remove(at: worst)
      log.record(
        Self.text(steps, part.steps), into: "lanes", taken: false,
        "\(part.times), but the arena would grow from \(least) to \(needed) bytes")
      for step in part.steps { lanes[step] = 0 }
    }
  }

  private static func text(_ steps: [Step], _ numbers: Range<Int>) -> String {
    let names = [numbers.lowerBound, numbers.upperBound - 1].map { step in
      "\(step) '\(steps[step].sources.first ?? steps[step].name)'"
    }
    return "steps \(names[0]) to \(names[1])"
  }
}
