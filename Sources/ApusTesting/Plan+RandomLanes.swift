import ApusCore
import ApusGraph
package import ApusPlan

extension Plan {
  /// Puts every step that can run beside others on one of several lanes by chance.
  package mutating func spread(over laneCount: Int, seed: UInt64) {
    var generator = RandomTensor.Generator(seed: seed)
    setLanes(
      allSteps.map { $0.action.canHaveLane ? Int.random(in: 0..<laneCount, using: &generator) : 0 })
    for index in steps.indices {
      guard case .piece(var piece) = steps[index].action else { continue }
      piece.plan.spread(over: laneCount, seed: seed &+ UInt64(index))
      steps[index].action = .piece(piece)
    }
  }
}
