/// Says when candidates have run often enough to tell which is the fastest.
package struct Settling {
  /// Runs without which nothing is said of a candidate, and those that are always enough.
  static let leastRuns = 3
  static let mostRuns = 60
  /// Medians that are nearer to each other than this share are alike.
  static let alike = 0.02

  /// The median of some times, with bounds between which it is with a probability of about 95 % (by rank; for fewer than six
  /// times the least and the greatest).
  package struct Estimate: Sendable, Equatable {
    package let median: Double
    package let lower: Double
    package let upper: Double

    /// - Precondition: there is a time.
    package init(_ times: [Double]) {
      let sorted = times.sorted()
      let count = sorted.count
      let half = 0.98 * Double(count).squareRoot()
      let middle = Double(count) / 2
      median = sorted[count / 2]
      lower = sorted[Swift.max(0, Int((middle - half).rounded(.down)))]
      upper = sorted[Swift.min(count - 1, Int((middle + half).rounded(.up)))]
    }
  }

  /// Which candidates go on, by the times of all: none when it is settled which is the fastest.
  ///
  /// - Parameter running: those that still run; each has the same number of times.
  package static func remaining(_ running: [Int], _ times: [[Double]]) -> [Int] {
    guard let count = running.map({ times[$0].count }).min(), count >= leastRuns else { return running }
    if count >= mostRuns { return [] }
    let estimates = running.map { Estimate(times[$0]) }
    guard let best = estimates.min(by: { $0.median < $1.median }) else { return [] }
    let left = zip(running, estimates).filter { $1.lower <= best.upper }
    let isSettled =
      left.allSatisfy { $1.upper <= best.lower * (1 + alike) } || left.count == 1 && best.upper <= best.lower * 1.1
    return isSettled ? [] : left.map(\.0)
  }
}
