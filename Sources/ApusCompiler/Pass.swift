package import ApusCore
package import ApusGraph

/// One named step of optimisation on the graph.
package struct Pass: Sendable {
  package typealias Failure = BuildError

  package let name: String
  /// What it does, for `apus opt`.
  package let summary: String
  package let apply: @Sendable (inout Graph, inout FusionLog) throws(Failure) -> Void

  package init(
    _ name: String, _ summary: String,
    _ apply: @escaping @Sendable (inout Graph, inout FusionLog) throws(Failure) -> Void
  ) {
    self.name = name
    self.summary = summary
    self.apply = apply
  }

  /// The passes of a build, in order.
  package static let standard: [Pass] = [
    Fold.pass, CommonSubexpressions.pass, Simplify.pass, Fold.pass, RaiseNormalizations.pass, RaiseAttention.pass,
    Layout.pass, Simplify.pass,
    Bodies.pass,
    CommonSubexpressions.pass,
  ]

  /// All rules that passes apply.
  package static let rules: [Rule] =
    Simplify.rules + RaiseNormalizations.rules + [
      RaiseAttention.raise, RaiseAttention.transposeTwice, RaiseAttention.groupHeads,
    ] + Layout.rules
}
