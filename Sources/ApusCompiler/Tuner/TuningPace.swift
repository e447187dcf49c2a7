/// How long the parts of measuring a region take on this machine. What was seen last counts; what took longer before fades.
struct TuningPace {
  /// Of lowering a region by its tactics.
  private var lowering = Duration.zero
  /// Of finding out whether constants can be had in other layouts.
  private var recovering = Duration.zero
  /// Of compiling a function, beside others.
  private(set) var compiling = Duration.seconds(0.4)
  /// What a run takes beside what the usual rates of the target's machines say.
  private(set) var slowness = 1.0
  /// Whether a function has been compiled, so that it is known how long that takes.
  private(set) var hasCompiled = false

  private static let fading = 0.7

  /// Of all that comes before it can be said what is affordable.
  var preparing: Duration { lowering + recovering }

  mutating func sawRecovering(_ duration: Duration) { recovering = max(duration, recovering * Self.fading) }

  mutating func sawLowering(_ duration: Duration) { lowering = max(duration, lowering * Self.fading) }

  mutating func sawCompiling(_ duration: Duration, functions: Int) {
    hasCompiled = true
    compiling = max(duration / max(1, functions), compiling * Self.fading)
  }

  /// - Parameter usual: what the rates say.
  mutating func sawRun(_ seconds: Double, usual: Double) {
    if usual > 0, seconds.isFinite { slowness = max(seconds / usual, slowness * Self.fading) }
  }
}
