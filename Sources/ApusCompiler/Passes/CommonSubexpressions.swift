import ApusCore
import ApusGraph

/// Lets equal nodes on equal operands be computed once.
enum CommonSubexpressions {
  private struct Key: Hashable {
    let name: String
    let attributes: Attributes
    let inputs: [ValueID]
  }

  static let pass = Pass("cse", "compute equal nodes once, and keep equal small constants once") {
    (graph, log, _) throws(BuildError) in
    var known: [Key: [ValueID]] = [:]
    var replaced: [ValueID: ValueID] = [:]
    mergeConstants(graph, &replaced)
    let order = graph.order
    graph.order = []
    for id in order {
      for (position, input) in graph[id].inputs.enumerated() {
        if let other = replaced[input] { graph[id].inputs[position] = other }
      }
      let node = graph[id]
      let key = Key(name: node.op.name, attributes: node.op.attributes, inputs: node.inputs)
      if node.op.isPure, node.op.bodies.isEmpty, node.op.boundSymbols.isEmpty, !node.outputs.isEmpty {
        if let results = known[key] {
          for (old, new) in zip(node.outputs, results) { replaced[old] = new }
          continue
        }
        known[key] = node.outputs
      }
      graph.order.append(id)
    }
    for (position, output) in graph.outputs.enumerated() { graph.outputs[position] = replaced[output] ?? output }
    graph.removeDeadNodes()
  }

  private static func mergeConstants(_ graph: Graph, _ replaced: inout [ValueID: ValueID]) {
    struct Content: Hashable {
      let type: TensorType
      let bytes: [UInt8]
    }
    var known: [Content: ValueID] = [:]
    for index in graph.values.indices {
      guard let tensor = graph.values[index].constant, tensor.byteCount <= 64, tensor.dtype != .string else { continue }
      let content = Content(type: tensor.type, bytes: tensor.withUnsafeBytes { Array($0) })
      let value = ValueID(index: index)
      if let other = known[content] { replaced[value] = other } else { known[content] = value }
    }
  }
}
