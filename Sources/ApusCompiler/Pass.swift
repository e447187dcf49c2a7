package import ApusCore
package import ApusGraph

/// What passes are told beside the graph.
package struct PassSettings: Sendable {
  /// What is asked for, whatever the cost model says.
  package var wishes: Wishes
  /// What the graph is compiled for, where that is known.
  package var target: (any Target)?

  package init(wishes: Wishes = Wishes(), target: (any Target)? = nil) {
    self.wishes = wishes
    self.target = target
  }
}

/// One named step of optimisation on the graph.
package struct Pass: Sendable {
  package typealias Failure = BuildError

  package let name: String
  /// What it does, for `apus opt`.
  package let summary: String
  private let body: @Sendable (inout Graph, inout FusionLog, PassSettings) throws(Failure) -> Void

  package init(
    _ name: String, _ summary: String,
    _ body: @escaping @Sendable (inout Graph, inout FusionLog, PassSettings) throws(Failure) -> Void
  ) {
    self.name = name
    self.summary = summary
    self.body = body
  }

  package func apply(
    _ graph: inout Graph, _ log: inout FusionLog, _ settings: PassSettings = PassSettings()
  ) throws(Failure) {
    try body(&graph, &log, settings)
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
