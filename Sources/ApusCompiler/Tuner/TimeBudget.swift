/// Time that a task may take. Each part of the task asks what is left before it begins, less what later parts need.
package struct TimeBudget: Sendable {
  private let end: ContinuousClock.Instant

  package init(_ duration: Duration) { end = .now + duration }

  private init(end: ContinuousClock.Instant) { self.end = end }

  package var left: Duration { end - .now }

  package func affords(_ duration: Duration) -> Bool { duration <= left }

  /// The same time without so much at its end.
  package func keeping(_ duration: Duration) -> TimeBudget { TimeBudget(end: end - duration) }

  /// So much of it from now on, or what there is.
  package func limited(to duration: Duration) -> TimeBudget { TimeBudget(end: min(end, .now + duration)) }
}
