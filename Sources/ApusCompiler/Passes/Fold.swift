import ApusCore
import ApusGraph
import ApusOps

/// Replaces what is known at build time by constants.
enum Fold {
  /// Results of at most this many bytes are folded whatever they are made of.
  private static let smallByteCount = 1 << 20
  /// Bytes that all larger results may add to what they are made of: a weight that is a broadcast number is still a weight.
  private static let growthLimit = 1 << 30

  static let pass = Pass("fold", "compute what depends on constants only, and turn shape arithmetic into sizes") {
    (graph, log, _) throws(BuildError) in
    try constants(&graph)
    sizes(&graph)
    graph.removeDeadNodes()
  }

  private static func constants(_ graph: inout Graph) throws(BuildError) {
    var growth = growthLimit
    let uses = graph.uses()
    for id in graph.order {
      let node = graph[id]
      guard node.op.isPure, node.op.bodies.isEmpty, !node.outputs.isEmpty, node.op.boundSymbols.isEmpty else {
        continue
      }
      let inputs = node.inputs.compactMap { graph[$0].constant }
      guard inputs.count == node.inputs.count, !isTied(node, graph, uses),
        isWorthFolding(node, inputs, graph, &growth)
      else { continue }
      guard let results = try? node.op.reference(inputs.map { .tensor($0) }) else { continue }
      for (output, result) in zip(node.outputs, results) {
        guard let tensor = result.tensor, graph.type(output) == .tensor(tensor.type) else { continue }
        graph[output].source = .constant(tensor)
      }
    }
    drop(&graph)
  }

  /// Whether a node transposes a matrix that is also looked up by row, for products: both can read one copy of it.
  private static func isTied(_ node: Node, _ graph: Graph, _ uses: [ValueID: [NodeID]]) -> Bool {
    guard node.op.name == "transpose", let type = graph.type(node.inputs[0]).tensor, type.dtype == .f32, type.rank == 2
    else { return false }
    let users = (uses[node.outputs[0]] ?? []).map { graph[$0] }
    return users.allSatisfy { $0.op.name == "matmul" && $0.inputs[1] == node.outputs[0] }
      && (uses[node.inputs[0]] ?? []).contains { graph[$0].op.name == "gather" }
  }

  private static func isWorthFolding(
    _ node: Node, _ inputs: [HostTensor], _ graph: Graph, _ growth: inout Int
  ) -> Bool {
    var bytes = 0
    for output in node.outputs {
      guard let type = graph.type(output).tensor, let count = type.elementCount.constantValue else { return false }
      if type.dtype == .string { return false }
      bytes = saturatingAdd(bytes, saturatingMultiply(count, type.dtype.byteCount))
    }
    let added = bytes - inputs.reduce(0) { $0 + $1.byteCount }
    if bytes <= smallByteCount || added <= 0 { return true }
    if added > growth { return false }
    growth -= added
    return true
  }

  /// Values whose elements are known sizes are constants, or are made by one `sizes` node.
  private static func sizes(_ graph: inout Graph) {
    let order = graph.order
    // What sets symbols when it runs cannot be made from them.
    let binding = Set(order.flatMap { graph[$0].op.boundSymbols.isEmpty ? [] : graph[$0].inputs })
    graph.order = []
    for id in order {
      let node = graph[id]
      let isKnown = !node.outputs.isEmpty && node.outputs.allSatisfy { graph[$0].dims != nil } && node.op.isPure
      guard isKnown, node.op.name != "sizes", !node.outputs.contains(where: binding.contains) else {
        graph.order.append(id)
        continue
      }
      for output in node.outputs { materialise(output, &graph) }
      if node.outputs.contains(where: { graph.producer($0) == id }) { graph.order.append(id) }
    }
    drop(&graph)
  }

  private static func materialise(_ value: ValueID, _ graph: inout Graph) {
    guard let dims = graph[value].dims, let type = graph.type(value).tensor, let shape = type.constantShape else {
      return
    }
    let known = dims.compactMap(\.constantValue)
    if known.count == dims.count {
      graph[value].source = .constant(HostTensor(type.dtype, shape, int64s: known.map(Int64.init)))
      return
    }
    guard type.dtype == .i64 || type.dtype == .i32,
      let made = try? graph.add(Sizes(dims), []).first
    else { return }
    var result = made
    if type.dtype != .i64,
      let op = try? Catalogue.standard.make("cast", ["to": .dtype(type.dtype), "saturate": .bool(true)]),
      let cast = try? graph.add(op, [result]).first
    {
      result = cast
    }
    if shape != [dims.count], let op = try? Catalogue.standard.make("reshape", ["shape": .dims(type.shape)]),
      let reshaped = try? graph.add(op, [result]).first
    {
      result = reshaped
    }
    guard graph.type(result) == graph.type(value) else { return }
    graph[value].source = graph[result].source
    if let producer = graph.producer(result), let position = graph[producer].outputs.firstIndex(of: result) {
      graph[producer].outputs[position] = value
    }
  }

  /// Removes nodes all of whose results have become constants.
  private static func drop(_ graph: inout Graph) {
    graph.order = graph.order.filter { id in
      let outputs = graph[id].outputs
      return outputs.isEmpty || outputs.contains { graph.producer($0) == id }
    }
  }
}
