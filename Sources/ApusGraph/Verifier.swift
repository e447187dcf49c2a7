package import ApusCore

/// Checks what every graph must hold: order, arity, types, names of symbols.
package enum Verifier {
  /// - Throws: ``GraphError`` with every problem found.
  package static func verify(_ graph: Graph) throws(GraphError) {
    var problems: [Diagnostic] = []
    check(graph, place: "", &problems)
    var ranges: [String: Interval] = [:]
    GraphText.visitDims(of: graph) { dim in
      for symbol in dim.symbols {
        if let known = ranges.updateValue(symbol.range, forKey: symbol.name), known != symbol.range {
          problems.append(
            Diagnostic("APUS-G-0055", "symbol '\(symbol.name)' has two ranges: \(known) and \(symbol.range)"))
        }
      }
    }
    if !problems.isEmpty { throw GraphError(problems: problems) }
  }

  private static func check(_ graph: Graph, place: String, _ problems: inout [Diagnostic]) {
    var defined = Set(graph.inputs)
    for id in graph.order {
      guard graph.nodes.indices.contains(id.index), let node = graph.nodes[id.index] else {
        problems.append(Diagnostic("APUS-G-0050", "node \(id.index) is in the order but was removed", place: place))
        continue
      }
      let name = node.name.isEmpty ? "node \(id.index) (\(node.op.name))" : "'\(node.name)'"
      check(id, node, graph, defined, place: place + name, &problems)
      defined.formUnion(node.outputs)
    }
    for (index, output) in graph.outputs.enumerated() where !isDefined(output, graph, defined) {
      problems.append(Diagnostic("APUS-G-0051", "output \(index) is not computed by any node", place: place))
    }
    if !graph.outputNames.isEmpty, graph.outputNames.count != graph.outputs.count {
      problems.append(
        Diagnostic(
          "APUS-G-0052", "\(graph.outputNames.count) output names for \(graph.outputs.count) outputs", place: place))
    }
  }

  private static func isDefined(_ id: ValueID, _ graph: Graph, _ defined: Set<ValueID>) -> Bool {
    graph.values.indices.contains(id.index) && (defined.contains(id) || graph[id].constant != nil)
  }

  private static func check(
    _ id: NodeID, _ node: Node, _ graph: Graph, _ defined: Set<ValueID>, place: String,
    _ problems: inout [Diagnostic]
  ) {
    if let missing = node.inputs.firstIndex(where: { !isDefined($0, graph, defined) }) {
      problems.append(Diagnostic("APUS-G-0051", "operand \(missing) is not computed before its use", place: place))
      return
    }
    for (index, output) in node.outputs.enumerated() {
      let isOwn =
        if graph.values.indices.contains(output.index), case .node(id, result: index) = graph[output].source {
          true
        } else { false }
      if !isOwn {
        problems.append(Diagnostic("APUS-G-0053", "result \(index) does not name its node", place: place))
        return
      }
    }
    do {
      let types = try node.op.infer(node.inputs.map { graph.type($0) })
      let found = node.outputs.map { graph.type($0) }
      if types != found {
        problems.append(Diagnostic("APUS-G-0054", "results have types \(found), inferred are \(types)", place: place))
      }
    } catch {
      problems += error.at(place).problems
    }
    for (index, body) in node.op.bodies.enumerated() { check(body, place: "\(place) body \(index): ", &problems) }
  }
}
