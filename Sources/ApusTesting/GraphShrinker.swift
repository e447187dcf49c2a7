import ApusCore
package import ApusGraph

/// Makes a graph with some property smaller while it keeps it.
package enum GraphShrinker {
  /// - Parameter fails: whether a graph has the property; it is asked of graphs that the verifier accepts.
  package static func shrunk(_ graph: Graph, while fails: (Graph) -> Bool) -> Graph {
    var best = graph
    var changes = true
    while changes {
      changes = false
      for candidate in candidates(best) where (try? Verifier.verify(candidate)) != nil && fails(candidate) {
        best = candidate
        changes = true
        break
      }
    }
    return best
  }

  /// Smaller graphs, those first that are much smaller.
  private static func candidates(_ graph: Graph) -> [Graph] {
    var found: [Graph] = []
    if graph.outputs.count > 1 {
      for index in graph.outputs.indices { found.append(cut(graph) { keepOutput(index, &$0) }) }
      for index in graph.outputs.indices { found.append(cut(graph) { removeOutput(index, &$0) }) }
    }
    let used = Set(graph.order.flatMap { graph[$0].inputs } + graph.outputs)
    for input in graph.inputs where !used.contains(input) {
      found.append(cut(graph) { $0.inputs.removeAll { $0 == input } })
    }
    for id in graph.order {
      // The node's results become inputs, or what it takes takes their place.
      found.append(cut(graph) { replaceByInputs(id, &$0) })
      let node = graph[id]
      for input in node.inputs where node.outputs.count == 1 && graph.type(input) == graph.type(node.outputs[0]) {
        found.append(cut(graph) { $0.replaceUses(of: node.outputs[0], with: input) })
      }
      // An operand of an output becomes the output.
      if let index = graph.outputs.firstIndex(where: node.outputs.contains) {
        for input in node.inputs {
          found.append(cut(graph) { $0.outputs[index] = input })
        }
      }
    }
    return found.filter { size($0) < size(graph) }
  }

  private static func size(_ graph: Graph) -> Int { 100 * graph.order.count + graph.outputs.count + graph.inputs.count }

  private static func cut(_ graph: Graph, _ change: (inout Graph) -> Void) -> Graph {
    var smaller = graph
    change(&smaller)
    smaller.removeDeadNodes()
    return smaller
  }

  private static func keepOutput(_ index: Int, _ graph: inout Graph) {
    (graph.outputs, graph.outputNames) = ([graph.outputs[index]], [graph.outputNames[index]])
  }

  private static func removeOutput(_ index: Int, _ graph: inout Graph) {
    graph.outputs.remove(at: index)
    graph.outputNames.remove(at: index)
  }

  private static func replaceByInputs(_ id: NodeID, _ graph: inout Graph) {
    for output in graph[id].outputs where graph.type(output).tensor != nil {
      let input = graph.addInput("cut\(output.index)", graph.type(output))
      graph.replaceUses(of: output, with: input)
    }
  }
}
