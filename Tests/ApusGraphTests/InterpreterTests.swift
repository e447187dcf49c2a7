import ApusCore
import ApusGraph
import ApusOps
import Testing

@Suite struct InterpreterTests {
  private func parse(_ text: String) throws -> Graph { try GraphText.parse(text, catalogue: .standard) }

  @Test func symbolsComeFromShapesAndReachAttributes() throws {
    let graph = try parse(
      """
      graph(%x: f32[N, M]) -> (%y, %s) symbols(N: 1...8, M: 1...8) {
        %y = reshape(%x) {shape: [N*M]}
        %s = sizes() {dims: [N + 1, M*2]}
      }
      """)
    let results = try Interpreter.run(graph, inputs: [.tensor(RandomTensor.make(.f32, [3, 5], seed: 1))])
    #expect(results[0].tensor?.shape == [15])
    #expect(results[1].tensor?.ints == [4, 10])
  }

  @Test func inputsThatDoNotFitAreRefused() throws {
    let graph = try parse("graph(%x: f32[N, N], %k: f32[2*N]) -> (%x) symbols(N: 1...8) {}")
    func run(_ x: [Int], _ k: [Int], _ dtype: DType = .f32) throws {
      _ = try Interpreter.run(
        graph, inputs: [.tensor(RandomTensor.make(dtype, x, seed: 1)), .tensor(RandomTensor.make(.f32, k, seed: 1))])
    }
    try run([3, 3], [6])
    #expect(throws: EvaluationError.self) { try run([3, 4], [6]) }
    #expect(throws: EvaluationError.self) { try run([3, 3], [7]) }
    #expect(throws: EvaluationError.self) { try run([9, 9], [18]) }
    #expect(throws: EvaluationError.self) { try run([3, 3, 1], [6]) }
    #expect(throws: EvaluationError.self) { try run([3, 3], [6], .f64) }
    #expect(throws: EvaluationError.self) { _ = try Interpreter.run(graph, inputs: []) }
  }

  @Test func failuresNameTheirNode() throws {
    let graph = try parse(
      """
      graph(%x: f32[N], %y: f32[M]) -> (%z) symbols(N: 1...8, M: 1...8) {
        %z = add(%x, %y) @"sum"
      }
      """)
    let inputs = [3, 4].map { HostValue.tensor(RandomTensor.make(.f32, [$0], seed: 1)) }
    do {
      _ = try Interpreter.run(graph, inputs: inputs)
      Issue.record("3 and 4 were broadcast")
    } catch { #expect(error.problems.first?.place.contains("sum") == true) }
  }

  @Test func verifierFindsWhatIsWrong() throws {
    var graph = try parse("graph(%x: f32[N]) -> (%z) symbols(N: 1...8) {\n %y = neg(%x)\n %z = exp(%y)\n}")
    try Verifier.verify(graph)
    var swapped = graph
    swapped.order.reverse()
    #expect(throws: GraphError.self) { try Verifier.verify(swapped) }
    graph[graph.outputs[0]].type = .tensor(TensorType(.f32, sizes: [4]))
    #expect(throws: GraphError.self) { try Verifier.verify(graph) }
  }
}
