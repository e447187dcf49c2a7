import ApusCore
import ApusGraph

/// Optimises the sub-graphs of branches: constants that they capture become their own, and every pass runs on them.
enum Bodies {
  static let pass = Pass("bodies", "give branches their constants and optimise them") {
    (graph, log, settings) throws(BuildError) in
    for id in graph.order where graph[id].op.name == "if" {
      var node = graph[id]
      var bodies = node.op.bodies
      moveConstants(graph, &node, &bodies)
      for index in bodies.indices {
        for pass in Pass.standard { try pass.apply(&bodies[index], &log, settings) }
      }
      node.op = try replacing(bodies, in: node.op)
      graph[id] = node
    }
    graph.removeDeadNodes()
  }

  private static func replacing(_ bodies: [Graph], in op: any Operation) throws(BuildError) -> any Operation {
    do { return try op.with(bodies: bodies) } catch { throw BuildError(problems: error.problems) }
  }

  private static func moveConstants(_ graph: Graph, _ node: inout Node, _ bodies: inout [Graph]) {
    let captured = Array(node.inputs.dropFirst())
    guard bodies.allSatisfy({ $0.inputs.count == captured.count }) else { return }
    for (position, value) in captured.enumerated().reversed() {
      guard let tensor = graph[value].constant else { continue }
      for index in bodies.indices {
        let constant = bodies[index].addConstant(tensor, name: graph[value].name)
        bodies[index].replaceUses(of: bodies[index].inputs[position], with: constant)
        bodies[index].inputs.remove(at: position)
      }
      node.inputs.remove(at: position + 1)
    }
  }
}
