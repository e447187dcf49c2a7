/// How much is measured when tactics are chosen.
package struct TuningEffort: Sendable, Hashable {
  /// How long it may take, with comparing what came of it. A part that ends later than this is not begun.
  package var duration: Duration
  /// How many tactics of each region are tried: of all regions first so many, then more.
  package var candidateCounts: [Int]
  /// How long the tactics of one region are timed, unless they are settled before.
  package var regionDuration: Duration

  /// How many decisions about the whole graph are tried the other way, where there is time left.
  package var trialCount: Int

  /// How many ways of each region are timed in whole runs too.
  package var placedCount: Int

  package init(
    duration: Duration, candidateCounts: [Int], regionDuration: Duration, trialCount: Int, placedCount: Int = 4
  ) {
    self.trialCount = trialCount
    self.placedCount = placedCount
    self.duration = duration
    self.candidateCounts = candidateCounts
    self.regionDuration = regionDuration
  }

  /// The few tactics of each region that the cost model prefers, in 10 seconds at most.
  package static let quick = TuningEffort(
    duration: .seconds(10), candidateCounts: [4], regionDuration: .milliseconds(150), trialCount: 0,
    placedCount: 1)

  /// All tactics, and decisions about the whole graph the other way, in 5 minutes at most.
  package static let full = TuningEffort(
    duration: .seconds(300), candidateCounts: [4, 20, 80], regionDuration: .seconds(1), trialCount: 100)

  /// What there is time for.
  package static func lasting(_ duration: Duration) -> TuningEffort {
    TuningEffort(
      duration: duration, candidateCounts: [4, 20], regionDuration: .milliseconds(300),
      trialCount: 100)
  }

  /// The part of the duration that is kept for comparing whole runs.
  package var comparison: Duration { min(duration * 0.2, .seconds(3)) }
}
