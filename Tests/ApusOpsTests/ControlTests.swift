import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import Testing

@Suite struct ControlTests {
  private func body(_ inputs: [ValueType], _ build: (inout Graph, [ValueID]) throws -> [ValueID]) throws -> Graph {
    var graph = Graph()
    let ids = inputs.enumerated().map { graph.addInput("x\($0.offset)", $0.element) }
    graph.outputs = try build(&graph, ids)
    return graph
  }

  private let vector = ValueType.tensor(TensorType(.f32, [Dim(Symbol("N"))]))
  private let counter = ValueType.tensor(TensorType(.i64, []))
  private let flag = ValueType.tensor(TensorType(.bool, []))
  private func bool(_ value: Bool) -> HostValue { .tensor(HostTensor(.bool, [], int64s: [value ? 1 : 0])) }

  @Test func branchesOfDifferentSizesNeedSymbols() throws {
    let whole = try body([vector]) { $1 }
    let twice = try body([vector]) { try $0.add(Concat(axis: 0), [$1[0], $1[0]]) }
    let open = If(symbols: [], bodies: [whole, twice])
    #expect(try open.openSizeCount([flag, vector]) == 1)
    #expect(throws: ShapeError.self) { try open.infer([flag, vector]) }
    let op = If(symbols: [someCount], bodies: [whole, twice])
    #expect(try op.infer([flag, vector]) == [.tensor(TensorType(.f32, [someCount]))])
    let x = HostValue.tensor(floats([2], [1, 2]))
    #expect(try op.reference([bool(true), x])[0].tensor?.doubles == [1, 2])
    #expect(try op.reference([bool(false), x])[0].tensor?.doubles == [1, 2, 1, 2])
  }

  @Test func branchesOfDifferentTypesAreRefused() throws {
    let floats = try body([vector]) { $1 }
    let integers = try body([vector]) { try $0.add(Cast(to: .i64), $1) }
    #expect(throws: ShapeError.self) { try If(symbols: [], bodies: [floats, integers]).infer([flag, vector]) }
  }

  @Test func loopsRunWhileTheirConditionHolds() throws {
    // Adds x to the state until the iteration is 2.
    let graph = try body([counter, flag, vector, vector]) { graph, ids in
      let limit = graph.addConstant(HostTensor(.i64, [], int64s: [2]))
      let goesOn = try graph.add(Elementwise(.less), [ids[0], limit])
      let next = try graph.add(Elementwise(.add), [ids[2], ids[3]])
      return goesOn + next + next
    }
    let op = Loop(carried: 1, symbols: [someCount], body: graph)
    #expect(try op.infer([counter, flag, vector, vector]).count == 2)
    let start = HostValue.tensor(floats([1], [0]))
    let step = HostValue.tensor(floats([1], [5]))
    func run(_ trips: Int64) throws -> [[Double]] {
      try op.reference([.tensor(integers([], [trips])), bool(true), start, step]).compactMap { $0.tensor?.doubles }
    }
    #expect(try run(-1) == [[15], [5, 10, 15]])
    #expect(try run(2) == [[10], [5, 10]])
    #expect(try run(0) == [[0], []])
  }

  @Test func scansGoBothWays() throws {
    let scalar = ValueType.tensor(TensorType(.f32, []))
    let graph = try body([scalar, scalar]) { graph, ids in
      let next = try graph.add(Elementwise(.add), ids)
      return next + next
    }
    let op = Scan(
      states: 1, inputAxes: [0], inputDirections: [1], outputAxes: [0], outputDirections: [1], symbols: [], body: graph)
    let results = try op.reference([.tensor(floats([], [0])), .tensor(floats([3], [1, 2, 3]))])
    #expect(results.compactMap { $0.tensor?.doubles } == [[6], [6, 5, 3]])
  }
}
