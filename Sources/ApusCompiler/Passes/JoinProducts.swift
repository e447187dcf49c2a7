import ApusCore
import ApusGraph
import ApusKernel
import ApusOps

/// Computes products of one left matrix with several constant ones, such as the projections of attention, as one product
/// with the constants side by side, whose parts are slices.
enum JoinProducts {
  /// Products with larger constants take so long that launches do not show.
  private static func limit(_ target: any Target) -> Int { 16 * target.launchElements }
  /// Parts begin at multiples of it, so that they can be read in place.
  private static let alignment = 8

  static func run(_ graph: inout Graph, for target: any Target, _ log: inout FusionLog) {
    let groups = groups(graph, limit(target))
    if groups.isEmpty { return }
    var replaced: [ValueID: ValueID] = [:]
    var done: Set<NodeID> = []
    let firsts = Dictionary(uniqueKeysWithValues: groups.compactMap { group in group.first.map { ($0.node, group) } })
    let order = graph.order
    graph.order = []
    for id in order {
      if let group = firsts[id], let parts = try? join(group, &graph) {
        for (part, member) in zip(parts, group) {
          replaced[member.result] = part
          done.formUnion(member.nodes)
        }
        let names = group.map { graph[$0.node].name }.joined(separator: ", ")
        log.record(
          "matmul", into: names, taken: true, "products of one matrix with \(group.count) constants are joined")
      }
      if done.contains(id) { continue }
      for (position, input) in graph[id].inputs.enumerated() {
        if let part = replaced[input] { graph[id].inputs[position] = part }
      }
      graph.order.append(id)
    }
    for (position, output) in graph.outputs.enumerated() { graph.outputs[position] = replaced[output] ?? output }
    graph.removeDeadNodes()
  }

  private struct Member {
    let node: NodeID
    let weights: HostTensor
    /// The node that adds a constant to each row, and the constant.
    var bias: (node: NodeID, tensor: HostTensor)?
    var result: ValueID

    var nodes: [NodeID] { [node] + (bias.map { [$0.node] } ?? []) }
    var columns: Int { weights.shape[1] }
  }

  /// Products that can be joined, in the order of the graph.
  private static func groups(_ graph: Graph, _ limit: Int) -> [[Member]] {
    let users = graph.uses()
    var members: [ValueID: [Member]] = [:]
    var lefts: [ValueID] = []
    for id in graph.order {
      let node = graph[id]
      guard node.op.name == "matmul", let weights = graph[node.inputs[1]].constant, weights.shape.count == 2,
        [.f32, .f16, .bf16].contains(weights.dtype), weights.elementCount <= limit,
        weights.shape[1] % alignment == 0, graph.tensorType(node.inputs[0]).rank >= 2
      else { continue }
      if members[node.inputs[0]] == nil { lefts.append(node.inputs[0]) }
      let result = node.outputs[0]
      var member = Member(node: id, weights: weights, result: result)
      if let user = users[result], user.count == 1, !graph.outputs.contains(result) {
        member.bias = bias(user[0], adding: weights.shape[1], to: result, graph)
      }
      members[node.inputs[0], default: []].append(member)
    }
    return lefts.compactMap { left in
      guard var group = members[left], group.count > 1 else { return nil }
      let hasBias = group.allSatisfy { $0.bias != nil }
      for index in group.indices {
        if !hasBias { group[index].bias = nil }
        if let bias = group[index].bias { group[index].result = graph[bias.node].outputs[0] }
      }
      return group
    }
  }

  private static func bias(
    _ id: NodeID, adding columns: Int, to value: ValueID, _ graph: Graph
  ) -> (node: NodeID, tensor: HostTensor)? {
    let node = graph[id]
    guard node.op.name == "add", let side = node.inputs.firstIndex(where: { $0 != value }),
      let constant = graph[node.inputs[side]].constant, constant.shape.last == columns,
      constant.elementCount == columns, graph.type(node.outputs[0]) == graph.type(value)
    else { return nil }
    return (id, constant.reshaped([columns]))
  }

  private static func join(_ group: [Member], _ graph: inout Graph) throws(ShapeError) -> [ValueID] {
    let name = group.map { graph[$0.node].name }.filter { !$0.isEmpty }.joined(separator: ", ")
    let left = graph[group[0].node].inputs[0]
    let weights = graph.addConstant(sideBySide(group.map(\.weights)))
    var result = try graph.add(MatMul(), [left, weights], name: name)[0]
    let biases = group.compactMap { $0.bias?.tensor }
    if biases.count == group.count {
      let bias = graph.addConstant(sideBySide(biases))
      result = try graph.add(Elementwise(.add), [result, bias], name: name)[0]
    }
    let shape = graph.tensorType(result).shape
    var start = 0
    var parts: [ValueID] = []
    for member in group {
      let slice = Slice(
        starts: Array(repeating: 0, count: shape.count - 1) + [Dim(start)],
        sizes: shape.dropLast() + [Dim(member.columns)], steps: Array(repeating: 1, count: shape.count))
      parts += try graph.add(slice, [result], name: graph[member.node].name)
      start += member.columns
    }
    return parts
  }

  /// Constants of equal shapes but for the last axis, joined along it.
  private static func sideBySide(_ tensors: [HostTensor]) -> HostTensor {
    let dtype = tensors[0].dtype
    let widths = tensors.map { ($0.shape.last ?? 0) * dtype.byteCount }
    let rows = tensors[0].shape.dropLast().reduce(1, *)
    let storage = HostStorage(byteCount: rows * widths.reduce(0, +))
    var column = 0
    for (tensor, width) in zip(tensors, widths) {
      tensor.withUnsafeBytes { bytes in
        guard let from = bytes.baseAddress else { return }
        for row in 0..<rows {
          (storage.base + row * widths.reduce(0, +) + column).copyMemory(from: from + row * width, byteCount: width)
        }
      }
      column += width
    }
    let last = tensors.reduce(0) { $0 + ($1.shape.last ?? 0) }
    return HostTensor(dtype: dtype, shape: tensors[0].shape.dropLast() + [last], storage: storage)
  }
}
