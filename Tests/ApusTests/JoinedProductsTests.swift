import Apus
import ApusCompiler
import ApusCore
import ApusGraph
import ApusImport
import ApusOps
import ApusPlan
import ApusTesting
import Testing

/// Products of one matrix with several constants on the processor.
@Suite struct JoinedProductsTests {
  /// Runs a model against the operations' references, and gives the nodes of each step.
  private static func sources(_ text: String, outputs: [String]) throws -> [Set<String>] {
    var graph = try GraphText.parse(text, catalogue: .standard)
    graph.outputNames = outputs
    let model = Model(graph: graph, name: "products", producer: "", opsets: [:], metadata: [:])
    let plans = try build(model, targets: ["x86-64-v3"], options: BuildOptions()).plans
    let context = try Engine(plans: plans, threads: 2).makeContext()
    for rows in [1, 5, 64] {
      let x = RandomTensor.make(.f32, [rows, 64], seed: UInt64(rows))
      let expected = try Interpreter.run(graph, inputs: [.tensor(x)])
      let found = try context.run(inputs: ["x": x])
      for (name, value) in zip(outputs, expected) {
        let complaint = Closeness.complaint(try #require(found[name]), value, f32: 1e-4)
        #expect(complaint == nil, "'\(name)' of \(rows): \(complaint ?? "")")
      }
    }
    return plans[0].allSteps.map { Set($0.sources) }
  }

  @Test func projectionsOfAttentionAreOneProductHoweverLarge() throws {
    let sources = try Self.sources(
      """
      graph(%x: f32[seq, 64]) -> (%a, %b, %c) symbols(seq: 1...64) {
        %wq = constant f32[64, 128] random(1) %wk = constant f32[64, 96] random(2) %wv = constant f32[64, 128] random(3)
        %bq = constant f32[128] random(4) %bk = constant f32[96] random(5) %bv = constant f32[128] random(6)
        %pq = matmul(%x, %wq) @"query"
        %pk = matmul(%x, %wk) @"key"
        %pv = matmul(%x, %wv) @"value"
        %a = add(%pq, %bq) %b = add(%pk, %bk) %c = add(%pv, %bv)
      }
      """, outputs: ["a", "b", "c"])
    #expect(sources.contains { $0.contains("query, key, value") }, "\(sources)")
  }

  @Test func whatIsGatedStaysWithItsProduct() throws {
    let sources = try Self.sources(
      """
      graph(%x: f32[seq, 64]) -> (%y) symbols(seq: 1...64) {
        %wg = constant f32[64, 128] random(1) %wu = constant f32[64, 128] random(2)
        %g = matmul(%x, %wg) @"gate"
        %u = matmul(%x, %wu) @"up"
        %s = silu(%g) @"silu"
        %y = mul(%s, %u) @"mul"
      }
      """, outputs: ["y"])
    #expect(sources.count == 2 && sources.contains { $0.contains("mul") && $0.count > 1 }, "\(sources)")
  }
}
