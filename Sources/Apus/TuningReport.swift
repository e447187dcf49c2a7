package import ApusCompiler
package import ApusCore
package import ApusPlan
package import ApusRuntime

/// What tuning an engine's plans came to.
package struct TuningReport: Sendable {
  /// A profile's run at what it is tuned for, before and after, on the device.
  package struct Run: Sendable {
    package var profile: String
    package var secondsBefore: Double
    package var secondsAfter: Double
    /// How often each ran.
    package var count: Int
    /// Whether the whole run was no faster, so that the profile stays as it was.
    package var isKept: Bool
  }

  /// Decisions that were tried the other way together.
  package struct Trial: Sendable {
    package var decisions: [FusionLog.Entry]
    /// Seconds of the steps that they change; equal where the difference is within the noise.
    package var secondsBefore: Double
    package var secondsAfter: Double
    package var isAdopted: Bool

    /// What a decision to take something in, or to have channels last, saves.
    package func measured(_ decision: FusionLog.Entry) -> Double {
      (secondsBefore - secondsAfter) * (decision.isTaken ? -1 : 1)
    }
  }

  package var changes: [Tuner.Change] = []
  package var trials: [Trial] = []
  /// How well the cost model ordered the tactics of each region.
  package var rankings: [Ranking] = []
  package var runs: [Run] = []
  package var warnings: [Diagnostic] = []
  /// How long it took.
  package var duration = Duration.zero
  /// What a run of each profile should take, added up.
  package var expectedRuns = Duration.zero
  package var regionCount = 0
  package var judgedCount = 0
  package var knownCount = 0
  package var measuredCount = 0
  /// Regions whose ways were timed in whole runs too.
  package var placedCount = 0
  /// Seconds of the tactics of each region that is computed by several, by its text, for each target.
  package var seconds: [Fingerprint: [String: [String: Double]]] = [:]
  /// The target that was tuned on the device, and what the device is; nil when all figures came from the cache.
  package var target: String?
  package var device: DeviceIdentity?

  /// - Parameter isCounted: whether the target's regions are among those that are to be judged.
  mutating func add(_ outcome: Tuner.Outcome, isCounted: Bool) {
    changes += outcome.changes
    if let target = outcome.plans.first?.fingerprint { seconds[target] = outcome.seconds }
    warnings += outcome.warnings
    if !isCounted { return }
    regionCount += outcome.regionCount
    rankings += outcome.rankings
    judgedCount += outcome.judgedCount
    knownCount += outcome.knownCount
    measuredCount += outcome.measuredCount
  }
}
