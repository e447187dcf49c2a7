import ApusCore
import ApusGraph
import ApusOps
import ApusTesting
import Testing

@Suite struct AttentionTests {
  @Test func decompositionAgreesWithTheReference() throws {
    try SampleCase.forEach("attention") { sample in
      let op = try #require(sample.symbolicOp as? Attention)
      var graph = Graph()
      let inputs = sample.symbolicTypes.map { graph.addInput("", $0) }
      graph.outputs = [try op.decompose(inputs, into: &graph)]
      try Verifier.verify(graph)
      let result = try #require(try Interpreter.run(graph, inputs: sample.operands).first?.tensor)
      let expected = try #require(sample.results.first?.tensor)
      #expect(Closeness.difference(result, expected) <= Closeness.tolerance(expected.dtype, 1e-5) * 2, "\(sample)")
    }
  }

  @Test func headsThatDoNotDivideAreRefused() throws {
    let types = [[2, 5, 3, 8], [2, 2, 4, 8], [2, 2, 4, 8]].map { TensorType(.f32, sizes: $0) }
    #expect(throws: ShapeError.self) { try Attention(scale: 1).infer(types) }
  }
}
