import ApusCore
package import ApusGraph
import ApusKernel

/// Builds a small body; nil when an operation refuses its operands, which the samples' test then reports as missing.
private func makeBody(
  _ inputs: [(String, ValueType)], _ build: (inout Graph, [ValueID]) throws -> [ValueID]
) -> Graph? {
  var graph = Graph()
  let ids = inputs.map { graph.addInput($0.0, $0.1) }
  guard let outputs = try? build(&graph, ids) else { return nil }
  graph.outputs = outputs
  graph.outputNames = outputs.map { graph[$0].name }
  return graph
}

private let rows = Dim(Symbol("N", Interval(1, 4)))

extension If {
  package static var samples: [Sample] {
    let type = ValueType.tensor(TensorType(.f32, [rows, 3]))
    guard let then = makeBody([("x", type)], { try $0.add(Elementwise(.neg), [$1[0]]) }),
      let other = makeBody([("x", type)], { try $0.add(Elementwise(.add), [$1[0], $1[0]]) })
    else { return [] }
    return [Sample(If(symbols: [], bodies: [then, other]), "bool[]", "f32[N, 3]", where: ["N": 1...4])]
  }
}

extension Loop {
  package static var samples: [Sample] {
    let inputs: [(String, ValueType)] = [
      ("i", .tensor(TensorType(.i64, []))), ("c", .tensor(TensorType(.bool, []))),
      ("h", .tensor(TensorType(.f32, [rows]))), ("x", .tensor(TensorType(.f32, [rows]))),
    ]
    let body = makeBody(inputs) { graph, ids in
      let next = try graph.add(Elementwise(.add), [ids[2], ids[3]])
      return [ids[1], next[0]] + (try graph.add(Elementwise(.neg), next))
    }
    guard let body else { return [] }
    let trips = HostTensor(.i64, [], int64s: [3])
    let yes = HostTensor(.bool, [], int64s: [1])
    return [
      Sample(
        Loop(carried: 1, symbols: [Dim(Symbol("trips"))], body: body), "i64[]", "bool[]", "f32[N]", "f32[N]",
        where: ["N": 1...4], constants: [0: trips, 1: yes])
    ]
  }
}

extension Scan {
  package static var samples: [Sample] {
    let type = ValueType.tensor(TensorType(.f32, [rows]))
    let body = makeBody([("h", type), ("x", type)]) { graph, ids in
      let next = try graph.add(Elementwise(.add), ids)
      return next + next
    }
    guard let body else { return [] }
    return [
      Sample(
        Scan(
          states: 1, inputAxes: [1], inputDirections: [1], outputAxes: [0], outputDirections: [0], symbols: [],
          body: body), "f32[N]", "f32[N, T]", where: ["N": 1...4, "T": 1...5])
    ]
  }
}
