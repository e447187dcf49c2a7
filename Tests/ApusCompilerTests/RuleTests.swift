import ApusCompiler
import ApusCore
import ApusGraph
import ApusOps
import ApusTesting
import Testing

/// Every rule on the graphs that it names: it changes those it must, leaves the others alone, keeps what they compute,
/// and has nothing left to do afterwards.
@Suite struct RuleTests {
  static let names = Pass.rules.map(\.name)

  private func rule(_ name: String) throws -> Rule { try #require(Pass.rules.first { $0.name == name }) }

  @Test func namesAreUnique() { #expect(Set(Self.names).count == Self.names.count) }

  @Test(arguments: names) func rulesHaveExamples(_ name: String) throws {
    let rule = try rule(name)
    #expect(!rule.fires.isEmpty, "no graph that it must change")
    #expect(!rule.skips.isEmpty, "no graph that it must leave alone")
  }

  @Test(arguments: names) func rulesFire(_ name: String) throws {
    let rule = try rule(name)
    for text in rule.fires {
      let original = try GraphText.parse(text, catalogue: .standard)
      var graph = original
      #expect(apply(rule, to: &graph) > 0, "leaves alone\n\(text)")
      try Verifier.verify(graph)
      let once = GraphText(graph).text
      #expect(apply(rule, to: &graph) == 0, "finds more to do in\n\(once)")
      #expect(GraphText(graph).text == once)
      for trial in 0..<3 { try compare(original, graph, trial: trial) }
    }
  }

  @Test(arguments: names) func rulesSkip(_ name: String) throws {
    let rule = try rule(name)
    for text in rule.skips {
      var graph = try GraphText.parse(text, catalogue: .standard)
      let before = GraphText(graph).text
      #expect(apply(rule, to: &graph) == 0, "changes\n\(text)")
      #expect(GraphText(graph).text == before)
    }
  }

  private func apply(_ rule: Rule, to graph: inout Graph) -> Int {
    var count = 0
    Rewriter.run([rule], on: &graph, catalogue: .standard) { _, _ in count += 1 }
    return count
  }

  private func compare(_ original: Graph, _ changed: Graph, trial: Int) throws {
    let inputs = RandomInputs.make(original, trial: trial, seed: UInt64(trial + 1)).inputs
    let expected = try Interpreter.run(original, inputs: inputs)
    let found = try Interpreter.run(changed, inputs: inputs)
    for (a, b) in zip(found, expected) {
      #expect(Closeness.complaint(a, b, f32: 1e-5) == nil, "computes something else:\n\(GraphText(changed).text)")
    }
  }
}
