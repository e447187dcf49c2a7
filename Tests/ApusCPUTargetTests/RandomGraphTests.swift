import ApusCore
import ApusGraph
import ApusTesting
import Testing

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Made-up graphs give what the interpreter gives, with every node by itself and optimised.
@Suite(.serialized) struct RandomGraphTests {
  /// Batches of ten graphs; `APUS_TEST_BATCHES` tries more.
  static let batches = getenv("APUS_TEST_BATCHES").flatMap { UInt64(String(cString: $0)) } ?? 20

  @Test(arguments: 0..<batches) func agreeWithTheInterpreter(_ batch: UInt64) throws {
    try check(Array(batch * 10..<batch * 10 + 10))
  }

  private func check(_ seeds: [UInt64]) throws {
    var graph = Graph()
    for seed in seeds { RandomGraph.append(seed: seed, to: &graph) }
    try Verifier.verify(graph)
    for form in [GraphRunner.Form.raw, .optimised, .cut] {
      let runner: GraphRunner
      do {
        runner = try GraphRunner(graph, form, target: Machine.target(), device: Machine.device)
      } catch {
        if seeds.count == 1 {
          Issue.record("\(form), seed \(seeds[0]): \(error)\n\(GraphText(graph).text)")
        } else {
          for seed in seeds { try check([seed]) }
        }
        return
      }
      for trial in 0..<3 { try run(graph, runner, form, trial: trial) }
    }
  }

  private func run(_ graph: Graph, _ runner: GraphRunner, _ form: GraphRunner.Form, trial: Int) throws {
    let (inputs, sizes) = RandomInputs.make(graph, trial: trial, seed: UInt64(trial + 1))
    let expected = try Interpreter.run(graph, inputs: inputs)
    let (outputs, overrun) = try runner.run(inputs, expected: expected)
    #expect(overrun.isEmpty, "\(form): wrote beyond \(overrun)")
    var reported: Set<Substring> = []
    for (index, name) in graph.outputNames.enumerated() {
      guard let complaint = Closeness.complaint(outputs[index], expected[index], f32: 1e-4) else { continue }
      let seed = name.dropFirst().prefix { $0 != "_" }
      if !reported.insert(seed).inserted { continue }
      let text = GraphText(RandomGraph.make(seed: UInt64(seed) ?? 0)).text
      let own = sizes.filter { $0.key.hasSuffix(seed) }
      Issue.record("\(form), output \(name) with \(own): \(complaint)\n\(text)")
    }
  }
}
