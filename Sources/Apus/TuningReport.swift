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

  /// A fusion decision that was tried the other way.
  package struct Fusion: Sendable {
    /// Nodes of the model: whether the first is computed inside of the second.
    package var producer: String
    package var consumer: String
    package var wasTaken: Bool
    /// What taking it was predicted to save.
    package var predicted: Double
    /// Seconds of the steps that it changes; equal where the difference is within the noise.
    package var secondsBefore: Double
    package var secondsAfter: Double
    package var isAdopted: Bool

    /// What taking it saves.
    package var measured: Double { (secondsBefore - secondsAfter) * (wasTaken ? -1 : 1) }
  }

  package var changes: [Tuner.Change] = []
  package var fusions: [Fusion] = []
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
