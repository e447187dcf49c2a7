/// Predicts when steps on several lanes are done: each lane does its own in order, a step waits for what it needs of others, and
/// steps that run at the same time share the device.
struct LaneSimulation {
  let costs: [StepCost]
  /// By step, earlier steps that it comes after.
  let dependences: [[Int]]
  let crossing: Double

  /// Steps under way: those placed first have what they need of the device, later ones what is left.
  private struct Running {
    var start: Double
    var end: Double
    var share: Double
  }

  /// Microseconds until the first lane has waited for all.
  func duration(_ lanes: [Int]) -> Double {
    let laneCount = (lanes.max() ?? 0) + 1
    // Lanes start from the first one.
    var free = [Double](repeating: crossing, count: laneCount)
    free[0] = 0
    var ends: [Double] = []
    var running: [Running] = []
    for (index, lane) in lanes.enumerated() {
      var start = free[lane]
      for earlier in dependences[index] {
        start = max(start, ends[earlier] + (lanes[earlier] == lane ? 0 : crossing))
      }
      let end = end(of: costs[index], from: start, beside: running)
      running.append(Running(start: start, end: end, share: costs[index].share))
      free[lane] = end
      ends.append(end)
      let earliest = free.min() ?? 0
      running.removeAll { $0.end <= earliest }
    }
    let used = Set(lanes)
    return free.indices.filter(used.contains).map { free[$0] + ($0 == 0 ? 0 : crossing) }.max() ?? 0
  }

  /// Where every step comes after the one before it.
  var serialDuration: Double { costs.reduce(0) { $0 + $1.microseconds } }

  /// The least of the device that a step has.
  private static let leastRate = 0.05

  private func end(of cost: StepCost, from start: Double, beside running: [Running]) -> Double {
    var (now, left) = (start, cost.microseconds)
    let changes = running.flatMap { [$0.start, $0.end] }.filter { $0 > start }.sorted()
    for change in changes + [.infinity] {
      let busy = running.reduce(0) { $0 + ($1.start <= now && now < $1.end ? $1.share : 0) }
      let rate = min(1, max((1 - busy) / max(cost.share, 1e-6), Self.leastRate))
      if now + left / rate <= change { return now + left / rate }
      left -= (change - now) * rate
      now = change
    }
    return now
  }
}
