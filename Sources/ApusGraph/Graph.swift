package import ApusCore

/// A value's index in its graph.
package struct ValueID: Hashable, Sendable {
  package let index: Int

  package init(index: Int) { self.index = index }
}

/// A node's index in its graph.
package struct NodeID: Hashable, Sendable {
  package let index: Int
}

/// Something computed, given or constant in a graph.
package struct Value: Sendable {
  package enum Source: Sendable {
    case input
    case constant(HostTensor)
    case node(NodeID, result: Int)
  }

  package var name: String
  package var type: ValueType
  package var source: Source
  /// The elements of a small integer tensor as sizes, where they are known before running.
  package var dims: [Dim]?

  package var constant: HostTensor? {
    if case .constant(let tensor) = source { tensor } else { nil }
  }
}

/// An operation with the values it takes and gives.
package struct Node: Sendable {
  package var op: any Operation
  package var inputs: [ValueID]
  package var outputs: [ValueID]
  /// Path of the node in the model it came from.
  package var name: String
}

/// A computation as an arena of nodes and values. Nodes are kept in an order in which every operand precedes its users.
package struct Graph: Sendable {
  package private(set) var values: [Value] = []
  package private(set) var nodes: [Node?] = []
  /// Live nodes in execution order.
  package var order: [NodeID] = []
  package var inputs: [ValueID] = []
  package var outputs: [ValueID] = []
  package var outputNames: [String] = []

  package init() {}

  package subscript(_ id: ValueID) -> Value {
    get { values[id.index] }
    set { values[id.index] = newValue }
  }

  /// - Precondition: the node has not been removed.
  package subscript(_ id: NodeID) -> Node {
    get {
      guard let node = nodes[id.index] else { preconditionFailure("node \(id.index) was removed") }
      return node
    }
    set { nodes[id.index] = newValue }
  }

  package func type(_ id: ValueID) -> ValueType { values[id.index].type }

  /// The tensor type of a value. Containers have none: asking is a bug of the caller.
  package func tensorType(_ id: ValueID) -> TensorType {
    guard let type = values[id.index].type.tensor else { preconditionFailure("\(values[id.index].name) is no tensor") }
    return type
  }

  package func producer(_ id: ValueID) -> NodeID? {
    if case .node(let node, _) = values[id.index].source { node } else { nil }
  }

  // MARK: Building

  package mutating func addInput(_ name: String, _ type: ValueType) -> ValueID {
    let id = addValue(Value(name: name, type: type, source: .input, dims: nil))
    inputs.append(id)
    return id
  }

  package mutating func addConstant(_ tensor: HostTensor, name: String = "") -> ValueID {
    addValue(
      Value(name: name, type: .tensor(tensor.type), source: .constant(tensor), dims: Graph.knownDims(of: tensor)))
  }

  private mutating func addValue(_ value: Value) -> ValueID {
    values.append(value)
    return ValueID(index: values.count - 1)
  }

  /// Largest tensor whose integer elements are followed as sizes.
  private static let knownDimsLimit = 1024

  private static func knownDims(of tensor: HostTensor) -> [Dim]? {
    guard tensor.dtype == .i64 || tensor.dtype == .i32 || tensor.dtype == .bool,
      tensor.elementCount <= knownDimsLimit
    else { return nil }
    return tensor.int64s.map { Dim(Int(truncatingIfNeeded: $0)) }
  }

  /// Appends a node and infers its results' types and known sizes.
  ///
  /// - Throws: ``ShapeError`` of the operation, or `APUS-S-0003` when a size expression has grown out of hand, placed at
  ///   `name`.
  @discardableResult
  package mutating func add(
    _ op: any Operation, _ inputs: [ValueID], name: String = "", resultNames: [String] = []
  ) throws(ShapeError) -> [ValueID] {
    let types: [ValueType]
    do {
      types = try op.infer(inputs.map { type($0) })
      for case .tensor(let type) in types { try Self.requireManageable(type, op) }
    } catch {
      throw name.isEmpty ? error : error.at(name)
    }
    return append(op, inputs, types, name: name, resultNames: resultNames)
  }

  /// Refuses sizes that are too long to compute with, alone or multiplied.
  private static func requireManageable(_ type: TensorType, _ op: any Operation) throws(ShapeError) {
    let productLimit = 16 * Dim.partLimit
    var count: Dim = 1
    for (axis, dim) in type.shape.enumerated() where !dim.isConstant {
      let isManageable = dim.isManageable && count.summands.count * dim.summands.count <= productLimit
      if isManageable { count = count * dim }
      if !isManageable || count.partCount(upTo: productLimit) > productLimit {
        throw ShapeError(
          "APUS-S-0003", "\(op.name): the size of dim \(axis) is an expression of too many parts",
          hint: "Give the model's inputs fixed shapes, with --shape.")
      }
    }
  }

  private mutating func append(
    _ op: any Operation, _ inputs: [ValueID], _ types: [ValueType], name: String, resultNames: [String]
  ) -> [ValueID] {
    let id = NodeID(index: nodes.count)
    let known = knownDims(op, inputs, types)
    var results: [ValueID] = []
    for (index, type) in types.enumerated() {
      let resultName = index < resultNames.count ? resultNames[index] : ""
      results.append(
        addValue(
          Value(
            name: resultName, type: type, source: .node(id, result: index),
            dims: index < known.count ? known[index] : nil)))
    }
    nodes.append(Node(op: op, inputs: inputs, outputs: results, name: name))
    order.append(id)
    return results
  }

  private func knownDims(_ op: any Operation, _ inputs: [ValueID], _ types: [ValueType]) -> [[Dim]?] {
    let tensors = inputs.compactMap { type($0).tensor }
    guard tensors.count == inputs.count,
      types.allSatisfy({ type in
        guard let tensor = type.tensor, let count = tensor.elementCount.constantValue else { return false }
        return count <= Graph.knownDimsLimit && (tensor.dtype.isInteger || tensor.dtype == .bool)
      })
    else { return [] }
    let known = op.dims(inputs.map { values[$0.index].dims }, tensors) ?? []
    return known.map { dims in dims?.allSatisfy(\.isManageable) == true ? dims : nil }
  }

  // MARK: Changing

  /// Redirects every use of `old` (by nodes and graph outputs) to `new`.
  package mutating func replaceUses(of old: ValueID, with new: ValueID) {
    for id in order {
      for (position, input) in self[id].inputs.enumerated() where input == old { self[id].inputs[position] = new }
    }
    for (position, output) in outputs.enumerated() where output == old { outputs[position] = new }
  }

  /// Nodes that use each value, and how often the graph's outputs do.
  package func uses() -> [ValueID: [NodeID]] {
    var users: [ValueID: [NodeID]] = [:]
    for id in order { for input in self[id].inputs { users[input, default: []].append(id) } }
    return users
  }

  /// Removes nodes whose results nobody needs.
  package mutating func removeDeadNodes() {
    var needed = Set(outputs)
    var live: [NodeID] = []
    for id in order.reversed() {
      let node = self[id]
      let isNeeded = node.outputs.contains(where: needed.contains) || !node.op.boundSymbols.isEmpty
      guard isNeeded else {
        nodes[id.index] = nil
        continue
      }
      live.append(id)
      needed.formUnion(node.inputs)
    }
    order = live.reversed()
  }
}
