import ApusCore
import ApusGraph
import ApusOps

/// Sub-graphs of a node: inlined where that is possible, else bodies with graphs of their own.
extension NodeContext {
  private var bodyPath: String {
    scope.path + (node.name.isEmpty ? node.output.first { !$0.isEmpty } ?? node.opType : node.name)
  }

  /// Lowers a sub-graph in place, with its inputs standing for `arguments`, and gives its results.
  func inline(_ proto: Onnx_GraphProto, _ arguments: [ValueID], _ label: String) throws(ImportError) -> [ValueID] {
    let child = scope.child(builder, path: "\(bodyPath)/\(label)/")
    guard proto.input.count == arguments.count else {
      throw ImportError(
        "APUS-I-0014", "the sub-graph '\(label)' takes \(proto.input.count) inputs, \(arguments.count) are given")
    }
    for (input, argument) in zip(proto.input, arguments) { try child.define(input.name, argument) }
    try child.lower(proto)
    guard let results = try child.outputs(proto), !results.isEmpty else { throw ImportError(problems: []) }
    return results
  }

  /// A sub-graph that becomes an operation's body.
  struct Body {
    let builder: GraphBuilder
    /// How many of the graph's inputs are the sub-graph's own; the others stand for captured values.
    let ownInputCount: Int
  }

  /// This node while operations are added to one of its bodies.
  func inner(_ body: Body, _ label: String) -> NodeContext {
    NodeContext(
      scope: scope.child(body.builder, path: "\(bodyPath)/\(label)/"), node: node, inputs: [], attributes: attributes)
  }

  /// Lowers a sub-graph into a graph of its own whose inputs have the types given.
  func body(_ proto: Onnx_GraphProto, _ inputTypes: [ValueType], _ label: String) throws(ImportError) -> Body {
    let inner = GraphBuilder(parent: builder)
    let child = scope.child(inner, path: "\(bodyPath)/\(label)/")
    guard proto.input.count == inputTypes.count else {
      throw ImportError(
        "APUS-I-0014", "the sub-graph '\(label)' takes \(proto.input.count) inputs, \(inputTypes.count) are given")
    }
    for (input, type) in zip(proto.input, inputTypes) {
      try child.define(input.name, inner.graph.addInput(input.name, type))
    }
    try child.lower(proto)
    guard let results = try child.outputs(proto) else { throw ImportError(problems: []) }
    inner.graph.outputs = results
    inner.graph.outputNames = proto.output.map(\.name)
    return Body(builder: inner, ownInputCount: inputTypes.count)
  }

  /// Adds an operation with bodies. The values that the bodies capture become operands after `operands`, and every body
  /// has one input for each of them.
  ///
  /// - Parameter make: the operation for bodies and the symbols of sizes that are known only when it has run.
  func emit<Op: ControlOperation>(
    _ operands: [ValueID], bodies: [Body], make: ([Graph], [Dim]) -> Op
  ) throws(ImportError) -> [ValueID] {
    var captures: [ValueID] = []
    for body in bodies { for id in body.builder.captures where !captures.contains(id) { captures.append(id) } }
    var graphs: [Graph] = []
    for body in bodies {
      let own = body.builder.graph.inputs.prefix(body.ownInputCount)
      let captured = captures.map { body.builder.capture($0) }
      body.builder.graph.inputs = own + captured
      body.builder.graph.removeDeadNodes()
      graphs.append(body.builder.graph)
    }
    let all = operands + captures
    let openSizes: Int
    do { openSizes = try make(graphs, []).openSizeCount(all.map { builder.graph.type($0) }) } catch {
      throw ImportError(problems: error.problems)
    }
    let stem = node.output.first { !$0.isEmpty } ?? node.opType
    let symbols = (0..<openSizes).map { Dim(freshSymbol("\(stem)_size\($0)")) }
    return try add(make(graphs, symbols), all)
  }
}
