import ApusCore
import ApusGraph
import ApusKernel
import ApusOps

/// Computes products of one left matrix with several constant ones, such as the projections of attention, as one product
/// with the constants side by side, whose parts are slices. Where the parts meet element by element, as a gate and what it gates do,
/// and a template can make one element of neighbours, their columns take turns.
enum JoinProducts {
  /// Products with larger constants take so long that launches do not show.
  private static func limit(_ target: any Target) -> Int { 16 * target.launchElements }
  /// Parts begin at multiples of it, so that they can be read in place.
  private static let alignment = 8

  static func run(_ graph: inout Graph, for target: any Target, _ log: inout FusionLog) {
    let users = graph.uses()
    let limit = limit(target)
    // What makes one value of large parts goes along with one of the products where they cannot take turns.
    let groups = groups(graph, target.joinsLargeProducts ? .max : limit).filter { group in
      group.allSatisfy { $0.weights.elementCount <= limit } || takesTurns(group, graph, users, target)
        || !meet(group, graph, users)
    }
    if groups.isEmpty { return }
    var replaced: [ValueID: ValueID] = [:]
    var done: Set<NodeID> = []
    let firsts = Dictionary(uniqueKeysWithValues: groups.map { ($0[0].node, $0) })
    let inTurn = Set(groups.filter { takesTurns($0, graph, users, target) }.map { $0[0].node })
    let order = graph.order
    graph.order = []
    for id in order {
      if let group = firsts[id], let parts = try? join(group, inTurn.contains(id), &graph) {
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

  /// Whether element-wise operations make one value of all parts before anything else needs them, and a template lets them.
  private static func takesTurns(
    _ group: [Member], _ graph: Graph, _ users: [ValueID: [NodeID]], _ target: any Target
  ) -> Bool {
    let template = target.templates.first { $0.refusal(graph[group[0].node], in: graph) == nil }
    return group.allSatisfy { $0.columns == group[0].columns } && (template?.largestGroup ?? 1) >= group.count
      && meet(group, graph, users)
  }

  /// Whether element-wise operations make one value of all parts before anything else needs them.
  private static func meet(_ group: [Member], _ graph: Graph, _ users: [ValueID: [NodeID]]) -> Bool {
    var open = Set(group.map(\.result))
    while open.count > 1 {
      // The first node that needs one of them.
      guard let next = graph.order.first(where: { graph[$0].inputs.contains(where: open.contains) }) else {
        return false
      }
      let node = graph[next]
      let inputs = Set(node.inputs).intersection(open)
      guard inputs.allSatisfy({ users[$0]?.count == 1 && !graph.outputs.contains($0) }), node.outputs.count == 1,
        isElementwise(node, in: inputs, graph)
      else { return false }
      open = open.subtracting(inputs).union(node.outputs)
    }
    return true
  }

  /// Whether each result element needs just those elements of some inputs that are in the same place.
  private static func isElementwise(_ node: Node, in inputs: Set<ValueID>, _ graph: Graph) -> Bool {
    let types = node.inputs.compactMap { graph.type($0).tensor }
    guard types.count == node.inputs.count, let type = graph.type(node.outputs[0]).tensor,
      inputs.allSatisfy({ graph.tensorType($0).shape == type.shape })
    else { return false }
    let arena = ExprArena()
    let index = arena.makeVariable(type.elementCount)
    var isSame = true
    let operands = zip(node.inputs, types).map { input, own in
      let buffer = arena.addBuffer(own.dtype)
      return Operand(own) { position, arena in
        let flat = arena.flat(position, in: own.shape)
        if inputs.contains(input), flat != index.dim { isSame = false }
        return arena.load(buffer, flat)
      }
    }
    guard let result = node.op.lower(operands, [type])?.first else { return false }
    _ = result.at(.flat(index.dim), arena)
    return isSame
  }

  private static func join(
    _ group: [Member], _ takesTurns: Bool, _ graph: inout Graph
  ) throws(ShapeError) -> [ValueID] {
    let name = group.map { graph[$0.node].name }.filter { !$0.isEmpty }.joined(separator: ", ")
    let left = graph[group[0].node].inputs[0]
    let weights = graph.addConstant(sideBySide(group.map(\.weights), takesTurns))
    var result = try graph.add(MatMul(), [left, weights], name: name)[0]
    let biases = group.compactMap { $0.bias?.tensor }
    if biases.count == group.count {
      let bias = graph.addConstant(sideBySide(biases, takesTurns))
      result = try graph.add(Elementwise(.add), [result, bias], name: name)[0]
    }
    let shape = graph.tensorType(result).shape
    var start = 0
    var parts: [ValueID] = []
    for member in group {
      let slice = Slice(
        starts: Array(repeating: 0, count: shape.count - 1) + [Dim(start)],
        sizes: shape.dropLast() + [Dim(member.columns)],
        steps: Array(repeating: 1, count: shape.count - 1) + [takesTurns ? group.count : 1])
      parts += try graph.add(slice, [result], name: graph[member.node].name)
      start += takesTurns ? 1 : member.columns
    }
    return parts
  }

  /// Constants of equal shapes but for the last axis, joined along it: one after the other, or element by element in turn.
  private static func sideBySide(_ tensors: [HostTensor], _ takesTurns: Bool) -> HostTensor {
    let dtype = tensors[0].dtype
    let columns = tensors.map { $0.shape.last ?? 0 }
    let (all, rows) = (columns.reduce(0, +), tensors[0].shape.dropLast().reduce(1, *))
    let storage = HostStorage(byteCount: rows * all * dtype.byteCount)
    var column = 0
    for (tensor, width) in zip(tensors, columns) {
      tensor.withUnsafeBytes { bytes in
        guard let from = bytes.baseAddress else { return }
        if takesTurns {
          switch dtype.byteCount {
          case 2: spread(from, to: storage.base, tensor.elementCount, by: tensors.count, at: column, UInt16.self)
          default: spread(from, to: storage.base, tensor.elementCount, by: tensors.count, at: column, UInt32.self)
          }
          return
        }
        for row in 0..<rows {
          (storage.base + (row * all + column) * dtype.byteCount).copyMemory(
            from: from + row * width * dtype.byteCount, byteCount: width * dtype.byteCount)
        }
      }
      column += takesTurns ? 1 : width
    }
    return HostTensor(dtype: dtype, shape: tensors[0].shape.dropLast() + [all], storage: storage)
  }

  private static func spread<T>(
    _ from: UnsafeRawPointer, to: UnsafeMutableRawPointer, _ count: Int, by step: Int, at place: Int, _: T.Type
  ) {
    let source = from.assumingMemoryBound(to: T.self)
    let target = to.assumingMemoryBound(to: T.self)
    for index in 0..<count { target[index * step + place] = source[index] }
  }
}
