import ApusCore
import ApusGraph
import ApusKernel

/// Whether the rows of a batch are computed independently of each other, so that a batch may be filled up with rows that nobody
/// reads.
///
/// Followed is in which axis of each value the batch lies. A node keeps rows apart where each element of its results needs
/// operands of its own row only, which its element form tells.
struct RowIndependence {
  /// Where the batch is: the axis whose size is rows · `block`, where `block` neighbours belong to a row.
  private struct Place: Equatable {
    let axis: Int
    let block: Dim
  }

  private let graph: Graph
  private let symbol: String
  private var places: [ValueID: Place] = [:]

  /// Why the rows counted by `symbol` are not independent; nil where they are.
  static func refusal(_ graph: Graph, symbol: String) -> Diagnostic? {
    var analysis = RowIndependence(graph: graph, symbol: symbol)
    return analysis.refusal()
  }

  private init(graph: Graph, symbol: String) {
    self.graph = graph
    self.symbol = symbol
  }

  private mutating func refusal() -> Diagnostic? {
    for id in graph.inputs where mentions(graph.type(id)) {
      guard let shape = graph.type(id).tensor?.shape, shape.first?.asSymbol?.name == symbol, place(in: shape) != nil
      else {
        return problem("input '\(graph[id].name)' is \(graph.type(id))", "its first axis, and no other, is '\(symbol)'")
      }
      places[id] = Place(axis: 0, block: 1)
    }
    let kept = needed
    for id in graph.order where kept.contains(id) {
      if let found = refusal(graph[id]) { return found }
    }
    for (name, id) in zip(graph.outputNames, graph.outputs) where places[id].map({ $0.axis != 0 }) ?? false {
      return problem("output '\(name)' is \(graph.type(id))", "rows lie one after the other in the first axis")
    }
    return nil
  }

  /// The nodes that outputs need; the others are removed.
  private var needed: Set<NodeID> {
    var values = Set(graph.outputs)
    var nodes: Set<NodeID> = []
    for id in graph.order.reversed() where graph[id].outputs.contains(where: values.contains) {
      nodes.insert(id)
      values.formUnion(graph[id].inputs)
    }
    return nodes
  }

  private func problem(_ found: String, _ expected: String) -> Diagnostic {
    Diagnostic(
      "APUS-B-0060", "batches of '\(symbol)' cannot be filled up: \(found); \(expected) where that is possible",
      hint: "Declare a range of sizes instead: \(symbol)=1..MAX.")
  }

  private func problem(_ node: Node, _ reason: String) -> Diagnostic {
    Diagnostic(
      "APUS-B-0060", "batches of '\(symbol)' cannot be filled up: \(node.op.name) \(reason)",
      place: node.name.isEmpty ? "a node without a name" : "node '\(node.name)'",
      hint: "Declare a range of sizes instead: \(symbol)=1..MAX.")
  }

  private func mentions(_ type: ValueType) -> Bool {
    switch type {
    case .tensor(let tensor): tensor.shape.contains(where: mentions)
    case .sequence(let element), .optional(let element): mentions(element)
    }
  }

  private func mentions(_ dim: Dim) -> Bool { dim.symbols.contains { $0.name == symbol } }

  /// The one axis that the rows are in.
  private func place(in shape: Shape) -> Place? {
    let axes = shape.indices.filter { mentions(shape[$0]) }
    guard axes.count == 1, let rows = shape[axes[0]].symbols.first(where: { $0.name == symbol }) else { return nil }
    let block = shape[axes[0]].substituting { $0.name == symbol ? 1 : nil }
    return Dim(rows) * block == shape[axes[0]] ? Place(axis: axes[0], block: block) : nil
  }

  private mutating func refusal(_ node: Node) -> Diagnostic? {
    let carried = node.inputs.contains { places[$0] != nil }
    let isAbout = carried || node.outputs.contains { mentions(graph.type($0)) }
    if !isAbout {
      // What the number of rows is used for is not followed.
      return isNumber(node) ? problem(node, "computes with the number of rows") : nil
    }
    if !node.op.bodies.isEmpty || !node.op.boundSymbols.isEmpty || !node.op.isPure {
      return problem(node, "may treat rows together")
    }
    for id in node.outputs {
      guard let shape = graph.type(id).tensor?.shape, let place = place(in: shape) else {
        return problem(node, "gives \(graph.type(id)), of which not one axis is the rows")
      }
      places[id] = place
    }
    return keepsRowsApart(node) ? nil : problem(node, "needs several rows for one")
  }

  private func isNumber(_ node: Node) -> Bool {
    node.op.attributes.entries.contains { entry in
      switch entry.value {
      case .dim(let dim): mentions(dim)
      case .dims(let dims): dims.contains(where: mentions)
      default: false
      }
    }
  }

  private func keepsRowsApart(_ node: Node) -> Bool {
    if node.op.isView, let from = node.inputs.first, let to = node.outputs.first { return isSameOrder(from, to) }
    let results = node.outputs.compactMap { graph.type($0).tensor }
    let types = node.inputs.compactMap { graph.type($0).tensor }
    guard results.count == node.outputs.count, types.count == node.inputs.count else { return false }
    let probe = Probe()
    let operands = zip(node.inputs, types).enumerated().map { index, operand -> Operand in
      let (id, type) = operand
      let buffer = probe.arena.addBuffer(type.dtype)
      let axis = places[id]?.axis
      return Operand(
        type,
        at: { coordinates, arena in
          if let axis { probe.rows.append((index, coordinates[axis])) }
          return arena.load(buffer, arena.flat(.coordinates(coordinates), in: type.shape))
        })
    }
    guard let elements = node.op.lower(operands, results) else { return keepsRowsApartByName(node) }
    for (id, element) in zip(node.outputs, elements) {
      guard let place = places[id] else { return false }
      let coordinates = Kernel.variables(for: element.type.shape, probe.arena).coordinates
      probe.rows = []
      _ = element.at(.coordinates(coordinates), probe.arena)
      let isOwn = probe.rows.allSatisfy { operand, row in
        places[node.inputs[operand]]?.block == place.block && row == coordinates[place.axis]
      }
      if !isOwn { return false }
    }
    return true
  }

  /// Which rows an element form reads.
  private final class Probe {
    let arena = ExprArena()
    var rows: [(operand: Int, row: Dim)] = []
  }

  /// Whether rows are at the same distance in row-major order, with as much around them.
  private func isSameOrder(_ from: ValueID, _ to: ValueID) -> Bool {
    guard let a = places[from], let b = places[to], let x = graph.type(from).tensor?.shape,
      let y = graph.type(to).tensor?.shape
    else { return false }
    return Dim.product(x[..<a.axis]) == Dim.product(y[..<b.axis])
      && a.block * Dim.product(x[(a.axis + 1)...]) == b.block * Dim.product(y[(b.axis + 1)...])
  }

  /// Operations without an element form whose first axis is a batch by definition.
  private static let batched: Set<String> = ["attention", "resize"]

  private func keepsRowsApartByName(_ node: Node) -> Bool {
    let first = Place(axis: 0, block: 1)
    return Self.batched.contains(node.op.name)
      && (node.inputs + node.outputs).allSatisfy { places[$0] ?? first == first }
      && node.inputs.allSatisfy { places[$0] != nil || graph.type($0).tensor?.rank ?? 0 <= 1 }
  }
}
