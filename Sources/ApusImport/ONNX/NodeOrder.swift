import ApusCore

/// The order in which the nodes of a graph can be computed.
enum NodeOrder {
  /// Indices of the nodes so that every value is computed before it is used; the file's order where that holds already.
  ///
  /// - Throws: ``ImportError`` with every name given twice (`APUS-I-0030`), every input that nothing computes
  ///   (`APUS-I-0031`) and a cycle (`APUS-I-0032`).
  static func sort(_ nodes: [Onnx_NodeProto], isDefined: (String) -> Bool) throws(ImportError) -> [Int] {
    var problems: [Diagnostic] = []
    var producers: [String: Int] = [:]
    for (index, node) in nodes.enumerated() {
      for name in node.output where !name.isEmpty {
        if producers.updateValue(index, forKey: name) != nil {
          problems.append(
            Diagnostic(
              "APUS-I-0030", "the name '\(name)' is given to two values", place: label(node),
              hint: "Every value needs a name of its own."))
        }
      }
    }
    var dependencies: [[Int]] = []
    for node in nodes {
      var own: [Int] = []
      for name in node.input where !name.isEmpty {
        if let producer = producers[name] {
          own.append(producer)
        } else if !isDefined(name) {
          problems.append(
            Diagnostic(
              "APUS-I-0031", "input '\(name)' is no input or constant of the graph and no node computes it",
              place: label(node)))
        }
      }
      for name in node.attribute.flatMap(freeNames) { if let producer = producers[name] { own.append(producer) } }
      dependencies.append(own)
    }
    if problems.isEmpty { return try order(nodes, dependencies) }
    throw ImportError(problems: problems)
  }

  private static func label(_ node: Onnx_NodeProto) -> String {
    "\(node.qualifiedName) '\(node.name.isEmpty ? node.output.first ?? "" : node.name)'"
  }

  private static func order(_ nodes: [Onnx_NodeProto], _ dependencies: [[Int]]) throws(ImportError) -> [Int] {
    if zip(dependencies.indices, dependencies).allSatisfy({ index, own in own.allSatisfy { $0 < index } }) {
      return Array(nodes.indices)
    }
    var waiting = dependencies.map { Set($0).count }
    var users: [[Int]] = Array(repeating: [], count: nodes.count)
    for (index, own) in dependencies.enumerated() { for producer in Set(own) { users[producer].append(index) } }
    var ready = waiting.indices.filter { waiting[$0] == 0 }
    var sorted: [Int] = []
    var next = 0
    while next < ready.count {
      let index = ready[next]
      next += 1
      sorted.append(index)
      for user in users[index] {
        waiting[user] -= 1
        if waiting[user] == 0 { ready.append(user) }
      }
    }
    if sorted.count == nodes.count { return sorted }
    let stuck = waiting.indices.first { waiting[$0] > 0 }.map { label(nodes[$0]) } ?? ""
    throw ImportError(
      "APUS-I-0032", "the graph has a cycle through \(nodes.count - sorted.count) nodes", place: stuck,
      hint: "The file is corrupt, or its exporter is.")
  }

  /// Outer names that a node's sub-graphs use.
  static func freeNames(_ attribute: Onnx_AttributeProto) -> [String] {
    var names = attribute.hasG ? freeNames(attribute.g) : []
    for graph in attribute.graphs { names += freeNames(graph) }
    return names
  }

  private static func freeNames(_ graph: Onnx_GraphProto) -> [String] {
    var own = Set(graph.input.map(\.name)).union(graph.initializer.map(\.name))
    for node in graph.node { own.formUnion(node.output) }
    var names: [String] = []
    for node in graph.node {
      names += node.input
      for attribute in node.attribute { names += freeNames(attribute) }
    }
    names += graph.output.map(\.name)
    return names.filter { !own.contains($0) }
  }
}
