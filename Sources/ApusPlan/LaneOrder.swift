/// How neighbouring steps on several lanes keep to what they need of one another: where a lane waits for a point of another.
///
/// It follows from the lanes and from what the steps touch, so that no assignment of lanes can be wrong, only slow.
package struct LaneOrder: Sendable {
  package struct Entry: Sendable {
    package var lane: Int
    /// Of ``waits``: the points that come before the step.
    package var waits: Range<Int>
    /// The point behind the step that others wait for; −1 for none.
    package var point: Int
  }

  /// The point before the first step, from which lanes start.
  package static let start = 0

  package private(set) var entries: [Entry] = []
  package private(set) var waits: [Int] = []
  /// Lanes beside the first that have steps, and those of them that the first one waits for at the end.
  package private(set) var lanes: [Int] = []
  package private(set) var joins: [Int] = []
  /// The start, the ends of the lanes by their numbers, and the points behind steps.
  package private(set) var pointCount: Int
  package let laneCount: Int
  /// By step and lane, how many steps from the first on are known, those of this lane, to be done before the step begins.
  package private(set) var clocks: [[Int]] = []

  /// - Parameters:
  ///   - lanes: of each step.
  ///   - dependences: as ``StepAccess/dependences(_:)`` gives them.
  package init(lanes: [Int], dependences: [[Int]]) {
    laneCount = (lanes.max() ?? 0) + 1
    pointCount = laneCount
    self.lanes = Set(lanes).subtracting([0]).sorted()
    // What each lane knows of the others by now.
    var known = [[Int]](repeating: [Int](repeating: 0, count: laneCount), count: laneCount)
    var hasStarted = [Bool](repeating: false, count: laneCount)
    hasStarted[0] = true
    for (index, lane) in lanes.enumerated() {
      let first = waits.count
      var needed = [Int](repeating: 0, count: laneCount)
      for earlier in dependences[index] { needed[lanes[earlier]] = max(needed[lanes[earlier]], earlier + 1) }
      // The latest first: what it has waited for itself need not be waited for again.
      let others = needed.indices.filter { $0 != lane }.sorted { (needed[$0], $1) > (needed[$1], $0) }
      for other in others where needed[other] > known[lane][other] {
        let step = needed[other] - 1
        waits.append(point(behind: step))
        for (own, seen) in clocks[step].enumerated() { known[lane][own] = max(known[lane][own], seen) }
        known[lane][other] = needed[other]
        hasStarted[lane] = true
      }
      if !hasStarted[lane] { waits.append(Self.start) }
      hasStarted[lane] = true
      clocks.append(known[lane])
      known[lane][lane] = index + 1
      entries.append(Entry(lane: lane, waits: first..<waits.count, point: -1))
    }
    joins = self.lanes.filter { lane in (lanes.lastIndex(of: lane) ?? -1) >= known[0][lane] }
  }

  private mutating func point(behind step: Int) -> Int {
    if entries[step].point < 0 {
      entries[step].point = pointCount
      pointCount += 1
    }
    return entries[step].point
  }

  /// Whether a step is done before a later one begins.
  package func isBefore(_ step: Int, _ later: Int) -> Bool { step < clocks[later][entries[step].lane] }
}
