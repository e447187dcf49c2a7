import ApusCore

/// Profiles for the calls of a ``ShapeSpace``.
package struct ProfileProposal: Sendable, Hashable {
  /// A profile's sizes by variable.
  package struct Entry: Sendable, Hashable {
    package var min: [Int]
    package var opt: [Int]
    package var max: [Int]
    /// Calls that it takes.
    package var callCount = 0
    /// The point that it is tuned at, and whether its sizes are fixed.
    fileprivate let point: Int
    package var isFixed: Bool { min == max }

    fileprivate func holds(_ point: ShapeSpace.Point) -> Bool {
      for axis in min.indices where point.low[axis] < min[axis] || point.high[axis] > max[axis] { return false }
      return true
    }

    /// Logarithm of how many sizes there are.
    fileprivate var volume: Double {
      zip(min, max).reduce(0) { $0 + binaryLogarithm(saturatingAdd($1.1 - $1.0, 1)) }
    }
  }

  /// In the order in which they have to be declared for `.automatic` to choose well: fixed ones, then small ranges.
  package var profiles: [Entry]
  /// Mean time of a call, each run by the first profile that holds it.
  package var meanSeconds: Double
}

/// Finds the profiles with the least mean time of a call, for each number of profiles.
///
/// Points are put in an order: that of their sizes when one size varies, else in turn that of their times and of each size.
/// A profile is either fixed at one point or a range over points that follow each other, those left out that have a fixed
/// profile; it is tuned at one of its points. In that form the best choice for an order is found exactly, by dynamic programming
/// over the points: the cost of a range for each opt, with the fixed points that save most, then the best cut into ranges. With
/// several varying sizes ranges may overlap, so the cuts are weighed again as `.automatic` runs them, and the best counts.
package enum ProfileAdvisor {
  package static let profileLimit = 16

  /// The best profiles for at most 1, 2, … `count` of them: more profiles never take more time.
  package static func proposals(_ space: ShapeSpace, _ costs: RunCosts, upTo count: Int) -> [ProfileProposal] {
    let count = min(max(count, 1), profileLimit)
    var best: [ProfileProposal?] = [ProfileProposal?](repeating: nil, count: count)
    for order in orders(space, costs) {
      let cutter = Cutter(space, costs, order, count)
      for (index, clusters) in cutter.cuts().enumerated() {
        let proposal = ProfileProposal(clusters, space, costs)
        if best[index].map({ proposal.meanSeconds < $0.meanSeconds }) ?? true { best[index] = proposal }
      }
    }
    var proposals: [ProfileProposal] = []
    for proposal in best.compactMap({ $0 }) {
      if let last = proposals.last, last.meanSeconds <= proposal.meanSeconds {
        proposals.append(last)
      } else {
        proposals.append(proposal)
      }
    }
    return proposals
  }

  /// The fewest profiles that come within 1 % of the best proposal: its position.
  package static func enough(_ proposals: [ProfileProposal]) -> Int {
    let best = proposals.last?.meanSeconds ?? 0
    return proposals.firstIndex { $0.meanSeconds <= 1.01 * best } ?? 0
  }

  private static func orders(_ space: ShapeSpace, _ costs: RunCosts) -> [[Int]] {
    func order(_ precedes: (Int, Int) -> Bool?) -> [Int] {
      space.points.indices.sorted { a, b in
        precedes(a, b) ?? space.points[a].sizes.lexicographicallyPrecedes(space.points[b].sizes)
      }
    }
    let bySize = space.varying.map { axis in
      order { a, b in
        let (left, right) = (space.points[a].sizes[axis], space.points[b].sizes[axis])
        return left == right ? nil : left < right
      }
    }
    if bySize.count == 1 { return bySize }
    return [order { costs.fixed[$0] == costs.fixed[$1] ? nil : costs.fixed[$0] < costs.fixed[$1] }] + bySize
  }
}

/// Points with a profile of their own, or a range with its opt.
private struct Cluster {
  var points: [Int]
  /// The point to tune at.
  var opt: Int
}

/// Cuts points in a given order into profiles.
private struct Cutter {
  private let order: [Int]
  private let count: Int
  private let canBeFixed: [Bool]
  /// Time of all calls at a position: with sizes fixed, and tuned at another position.
  private let fixed: [Double]
  private let tuned: [[Double]]
  /// Time of a range by first position, last position and number of points in it that have fixed profiles; and its opt.
  private var rangeTimes: [Double]
  private var rangeOpts: [Int]

  private var pointCount: Int { order.count }

  init(_ space: ShapeSpace, _ costs: RunCosts, _ order: [Int], _ count: Int) {
    self.order = order
    self.count = count
    canBeFixed = order.map { space.points[$0].isSingle }
    fixed = order.map { Double(space.points[$0].count) * costs.fixed[$0] }
    tuned = order.map { opt in order.map { Double(space.points[$0].count) * costs.tuned[opt][$0] } }
    rangeTimes = [Double](repeating: .infinity, count: order.count * order.count * count)
    rangeOpts = [Int](repeating: 0, count: order.count * order.count * count)
    for opt in order.indices { weighRanges(tunedAt: opt) }
  }

  /// What a fixed profile for a position would save in a range.
  private func saving(_ position: Int, _ opt: Int) -> Double {
    canBeFixed[position] && position != opt ? tuned[opt][position] - fixed[position] : 0
  }

  private mutating func weighRanges(tunedAt opt: Int) {
    var leftTime = 0.0
    var leftSavings: [Double] = []
    for first in stride(from: opt, through: 0, by: -1) {
      leftTime += tuned[opt][first]
      Self.insert(saving(first, opt), into: &leftSavings, keeping: count - 1)
      var (time, savings) = (leftTime, leftSavings)
      for last in opt..<pointCount {
        if last > opt {
          time += tuned[opt][last]
          Self.insert(saving(last, opt), into: &savings, keeping: count - 1)
        }
        note(time, savings, first, last, opt)
      }
    }
  }

  /// Keeps the largest savings, largest first.
  private static func insert(_ saving: Double, into savings: inout [Double], keeping limit: Int) {
    if saving <= 0 || limit == 0 { return }
    let position = savings.firstIndex { $0 < saving } ?? savings.count
    if position >= limit { return }
    savings.insert(saving, at: position)
    if savings.count > limit { savings.removeLast() }
  }

  private mutating func note(_ time: Double, _ savings: [Double], _ first: Int, _ last: Int, _ opt: Int) {
    let start = (first * pointCount + last) * count
    var left = time
    for fixedCount in 0...min(savings.count, count - 1) {
      if fixedCount > 0 { left -= savings[fixedCount - 1] }
      if left < rangeTimes[start + fixedCount] {
        rangeTimes[start + fixedCount] = left
        rangeOpts[start + fixedCount] = opt
      }
    }
  }

  // MARK: Cutting

  /// The last part of a cut: from where, and how many fixed profiles its range holds; nil for a fixed point.
  private struct Step {
    var first: Int
    var fixedCount: Int?
    var time: Double
  }

  /// The best cut with at most 1, 2, … profiles.
  func cuts() -> [[Cluster]] {
    // By number of profiles, then by number of positions covered.
    var best = [[Step?]](repeating: [Step?](repeating: nil, count: pointCount + 1), count: count + 1)
    best[0][0] = Step(first: 0, fixedCount: nil, time: 0)
    for profiles in 1...count {
      for end in 1...pointCount {
        var step: Step?
        func offer(_ first: Int, _ earlier: Int, _ time: Double, _ fixedCount: Int?) {
          guard let rest = best[earlier][first], time < .infinity else { return }
          if rest.time + time < step?.time ?? .infinity {
            step = Step(first: first, fixedCount: fixedCount, time: rest.time + time)
          }
        }
        if canBeFixed[end - 1] { offer(end - 1, profiles - 1, fixed[end - 1], nil) }
        for first in 0..<end {
          for fixedCount in 0..<profiles {
            offer(
              first, profiles - 1 - fixedCount, rangeTimes[(first * pointCount + end - 1) * count + fixedCount],
              fixedCount)
          }
        }
        best[profiles][end] = step
      }
    }
    var cuts: [[Cluster]] = []
    var chosen = 1
    for profiles in 1...count {
      if let time = best[profiles][pointCount]?.time, time < best[chosen][pointCount]?.time ?? .infinity {
        chosen = profiles
      }
      cuts.append(clusters(best, chosen))
    }
    return cuts
  }

  private func clusters(_ best: [[Step?]], _ count: Int) -> [Cluster] {
    var clusters: [Cluster] = []
    var (profiles, end) = (count, pointCount)
    while end > 0, let step = best[profiles][end] {
      if let fixedCount = step.fixedCount {
        clusters += range(step.first, end - 1, fixedCount)
        profiles -= 1 + fixedCount
      } else {
        clusters.append(Cluster(points: [order[end - 1]], opt: order[end - 1]))
        profiles -= 1
      }
      end = step.first
    }
    return clusters
  }

  private func range(_ first: Int, _ last: Int, _ fixedCount: Int) -> [Cluster] {
    let opt = rangeOpts[(first * pointCount + last) * count + fixedCount]
    let ranked = (first...last).sorted { a, b in
      let (left, right) = (saving(a, opt), saving(b, opt))
      return left == right ? a < b : left > right
    }
    let alone = Set(ranked.prefix(fixedCount))
    let rest = (first...last).filter { !alone.contains($0) }
    return alone.sorted().map { Cluster(points: [order[$0]], opt: order[$0]) }
      + [Cluster(points: rest.map { order[$0] }, opt: order[opt])]
  }
}

extension ProfileProposal {
  fileprivate init(_ clusters: [Cluster], _ space: ShapeSpace, _ costs: RunCosts) {
    var entries = clusters.map { cluster in
      var entry = Entry(
        min: space.points[cluster.opt].low, opt: space.points[cluster.opt].sizes, max: space.points[cluster.opt].high,
        point: cluster.opt)
      for point in cluster.points {
        entry.min = zip(entry.min, space.points[point].low).map(Swift.min)
        entry.max = zip(entry.max, space.points[point].high).map(Swift.max)
      }
      return entry
    }
    entries.sort { a, b in
      if a.isFixed != b.isFixed { return a.isFixed }
      return a.volume == b.volume ? a.min.lexicographicallyPrecedes(b.min) : a.volume < b.volume
    }
    var seconds = 0.0
    var calls = 0.0
    for (index, point) in space.points.enumerated() {
      guard let chosen = entries.firstIndex(where: { $0.holds(point) }) else { continue }
      let entry = entries[chosen]
      entries[chosen].callCount = saturatingAdd(entry.callCount, point.count)
      seconds += Double(point.count) * (entry.isFixed ? costs.fixed[index] : costs.tuned[entry.point][index])
      calls += Double(point.count)
    }
    profiles = entries
    meanSeconds = seconds / Swift.max(calls, 1)
  }
}
