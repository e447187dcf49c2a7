/// How well the cost model ordered the ways to compute a region.
package struct Ranking: Sendable {
  /// Seconds of the ways, in the order of the cost model.
  let seconds: [Double]

  init(_ seconds: [Double]) { self.seconds = seconds }

  /// Spearman's correlation of the cost model's order with that of the times, from -1 to 1; nil for fewer than three ways.
  package var correlation: Double? {
    if seconds.count < 3 { return nil }
    let ranks = Self.ranks(seconds)
    let mean = Double(seconds.count - 1) / 2
    var (product, square, own) = (0.0, 0.0, 0.0)
    for (index, rank) in ranks.enumerated() {
      let (x, y) = (Double(index) - mean, rank - mean)
      product += x * y
      square += x * x
      own += y * y
    }
    return own == 0 ? nil : product / (square * own).squareRoot()
  }

  /// By what share the fastest of the first ways is slower than the fastest of all.
  package func regret(ofFirst count: Int) -> Double {
    guard let best = seconds.min(), let found = seconds.prefix(count).min(), best > 0 else { return 0 }
    return found / best - 1
  }

  /// The rank of each time, those that are equal sharing theirs.
  private static func ranks(_ values: [Double]) -> [Double] {
    values.map { value in
      let (less, equal) = (values.count { $0 < value }, values.count { $0 == value })
      return Double(less) + Double(equal - 1) / 2
    }
  }
}

extension [Ranking] {
  /// Means over regions with at least three ways: correlation, and the regret of the first and of the first five. Nil without any.
  package var summary: (count: Int, correlation: Double, first: Double, firstFive: Double)? {
    let found = filter { $0.correlation != nil }
    if found.isEmpty { return nil }
    func mean(_ value: (Ranking) -> Double) -> Double { found.reduce(0) { $0 + value($1) } / Double(found.count) }
    return (
      found.count, mean { $0.correlation ?? 0 }, mean { $0.regret(ofFirst: 1) }, mean { $0.regret(ofFirst: 5) }
    )
  }
}
