package import ApusCore

/// A named rewrite of one node into an equal, better form.
package struct Rule: Sendable {
  /// `family.what-it-does`.
  package let name: String
  /// Names of the operations it starts from.
  package let roots: [String]
  /// Graph texts that the rule must change, and that it must leave alone.
  package let fires: [String]
  package let skips: [String]
  /// The value to use in place of the node's only result, or nil when the rule does not apply.
  package let rewrite: @Sendable (inout Rewriting, Node) -> ValueID?

  package init(
    _ name: String, roots: [String], fires: [String] = [], skips: [String] = [],
    rewrite: @escaping @Sendable (inout Rewriting, Node) -> ValueID?
  ) {
    self.name = name
    self.roots = roots
    self.fires = fires
    self.skips = skips
    self.rewrite = rewrite
  }

  /// The same rule for nodes that compute one of these values.
  package func among(_ values: Set<ValueID>) -> Rule {
    let rewrite = rewrite
    return Rule(name, roots: roots) { values.contains($1.outputs[0]) ? rewrite(&$0, $1) : nil }
  }
}

/// What a rule sees and may do: read the graph, add nodes.
package struct Rewriting {
  package var graph: Graph
  fileprivate var useCounts: [ValueID: Int] = [:]
  private let catalogue: Catalogue

  fileprivate init(_ graph: Graph, catalogue: Catalogue) {
    self.graph = graph
    self.catalogue = catalogue
  }

  package func type(_ value: ValueID) -> TensorType? { graph.type(value).tensor }

  package func constant(_ value: ValueID) -> HostTensor? { graph[value].constant }

  /// The value of a constant whose elements are all equal.
  package func scalar(_ value: ValueID) -> Double? {
    guard let tensor = constant(value), tensor.dtype != .string, tensor.elementCount >= 1 else { return nil }
    if tensor.elementCount == 1 { return tensor.doubles[0] }
    guard tensor.elementCount <= 4096 else { return nil }
    let values = tensor.doubles
    return values.allSatisfy({ $0 == values[0] }) ? values[0] : nil
  }

  /// The node that computes a value, when its operation has the name.
  package func producer(_ value: ValueID, _ name: String) -> Node? {
    guard let id = graph.producer(value), graph[id].op.name == name else { return nil }
    return graph[id]
  }

  package func isUsedOnce(_ value: ValueID) -> Bool { useCounts[value] == 1 }

  /// Adds a node of the catalogue; nil when the operands do not fit it, which makes the rule not apply.
  package mutating func add(_ name: String, _ inputs: [ValueID], _ attributes: Attributes = [:]) -> ValueID? {
    guard let op = try? catalogue.make(name, attributes) else { return nil }
    return (try? graph.add(op, inputs, name: nodeName))?.first
  }

  package mutating func add(_ op: any Operation, _ inputs: [ValueID]) -> ValueID? {
    (try? graph.add(op, inputs, name: nodeName))?.first
  }

  package mutating func addConstant(_ tensor: HostTensor, name: String = "") -> ValueID {
    graph.addConstant(tensor, name: name)
  }

  fileprivate var nodeName = ""
}

/// Applies rules over a graph until none applies.
package enum Rewriter {
  static let limitKnob = Knob(
    "APUS_REWRITE_LIMIT", "integer", default: "\(Int.max)", "stop after this many rewrites, to find a wrong one",
    accepts: { Int($0) != nil })

  /// Sweeps before giving up on a fixpoint; rules that lower a measure never come near.
  private static let mostSweeps = 50

  /// - Parameter report: called with each rule applied and the node it started from.
  package static func run(
    _ rules: [Rule], on graph: inout Graph, catalogue: Catalogue, report: (Rule, Node) -> Void = { _, _ in }
  ) {
    var byRoot: [String: [Rule]] = [:]
    for rule in rules { for root in rule.roots { byRoot[root, default: []].append(rule) } }
    var rest = limitKnob.level
    for _ in 0..<mostSweeps {
      if !sweep(byRoot, &graph, catalogue, &rest, report) { break }
    }
    graph.removeDeadNodes()
  }

  private static func sweep(
    _ rules: [String: [Rule]], _ graph: inout Graph, _ catalogue: Catalogue, _ rest: inout Int,
    _ report: (Rule, Node) -> Void
  ) -> Bool {
    var rewriting = Rewriting(graph, catalogue: catalogue)
    for (value, users) in graph.uses() { rewriting.useCounts[value] = users.count }
    for output in graph.outputs { rewriting.useCounts[output, default: 0] += 1 }
    var replaced: [ValueID: ValueID] = [:]
    func current(_ value: ValueID) -> ValueID {
      var value = value
      while let next = replaced[value] { value = next }
      return value
    }
    let order = graph.order
    rewriting.graph.order = []
    for id in order {
      for (position, input) in rewriting.graph[id].inputs.enumerated() where replaced[input] != nil {
        rewriting.graph[id].inputs[position] = current(input)
      }
      let node = rewriting.graph[id]
      rewriting.nodeName = node.name
      if rest > 0, node.outputs.count == 1,
        let (rule, value) = apply(rules[node.op.name] ?? [], node, &rewriting)
      {
        report(rule, node)
        replaced[node.outputs[0]] = value
        if rewriting.graph[value].name.isEmpty {
          rewriting.graph[value].name = rewriting.graph[node.outputs[0]].name
        }
        rest -= 1
      } else {
        rewriting.graph.order.append(id)
      }
    }
    graph = rewriting.graph
    for (position, output) in graph.outputs.enumerated() { graph.outputs[position] = current(output) }
    graph.removeDeadNodes()
    return !replaced.isEmpty
  }

  private static func apply(_ rules: [Rule], _ node: Node, _ rewriting: inout Rewriting) -> (Rule, ValueID)? {
    for rule in rules {
      let nodeCount = rewriting.graph.order.count
      let result = node.outputs[0]
      if let value = rule.rewrite(&rewriting, node), value != result,
        rewriting.graph.type(value) == rewriting.graph.type(result)
      {
        return (rule, value)
      }
      rewriting.graph.order.removeSubrange(nodeCount...)
    }
    return nil
  }
}
