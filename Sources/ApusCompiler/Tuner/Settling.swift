/// Says when candidates have run often enough to tell which is the fastest.
package struct Settling {
  /// Runs without which nothing is said of a candidate, and those that are always enough.
  static let leastRuns = 5
  static let mostRuns = 60
  /// Times that are nearer to each other than this share are alike.
  static let alike = 0.02

  /// The share of the runs of a candidate that are faster than what it is said to take. What else a machine does makes runs
  /// slower, the more so the more threads a candidate uses: most runs may be disturbed before this changes.
  package static let share = 0.25

  /// The time that a share of some times is below, the median for one half, with bounds between which it is with a probability of
  /// about 95 % (by rank; for few times the least and the greatest).
  package struct Estimate: Sendable, Equatable {
    package let time: Double
    package let lower: Double
    package let upper: Double

    /// - Precondition: there is a time.
    package init(_ times: [Double], share: Double = 0.5) {
      let sorted = times.sorted()
      let count = sorted.count
      let half = 1.96 * (Double(count) * share * (1 - share)).squareRoot()
      let middle = Double(count) * share
      time = sorted[Swift.min(count - 1, Int(middle))]
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
    let estimates = running.map { Estimate(times[$0], share: share) }
    guard let best = estimates.min(by: { $0.time < $1.time }) else { return [] }
    let left = zip(running, estimates).filter { $1.lower <= best.upper }
    let isSettled =
      left.allSatisfy { $1.upper <= best.lower * (1 + alike) } || left.count == 1 && best.upper <= best.lower * 1.1
    return isSettled ? [] : left.map(\.0)
  }
}
