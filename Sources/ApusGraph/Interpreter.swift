package import ApusCore

/// Runs a graph by its operations' references: slow, and what everything else is compared with.
package enum Interpreter {
  /// Computes the graph's outputs.
  ///
  /// Symbols get their values from the inputs' shapes, from operations that bind them, and from `symbols` (those of an
  /// enclosing graph).
  ///
  /// - Throws: ``EvaluationError`` when the inputs do not fit the graph's, or of the operation that cannot be computed,
  ///   placed at its node.
  package static func run(
    _ graph: Graph, inputs: [HostValue], symbols: [String: Int] = [:]
  ) throws(EvaluationError) -> [HostValue] {
    var run = GraphRun(graph, symbols: symbols)
    try run.bind(inputs)
    for id in graph.order {
      let node = graph[id]
      do { try run.execute(node) } catch {
        throw error.at(node.name.isEmpty ? "node \(id.index) (\(node.op.name))" : "'\(node.name)'")
      }
    }
    return try run.outputs()
  }
}

/// Values and symbols of one run of a graph.
private struct GraphRun {
  private let graph: Graph
  private var symbols: [String: Int]
  private var values: [ValueID: HostValue] = [:]
  /// Uses still to come of each value.
  private var remaining: [ValueID: Int] = [:]

  init(_ graph: Graph, symbols: [String: Int]) {
    self.graph = graph
    self.symbols = symbols
    for id in graph.order { for input in graph[id].inputs { remaining[input, default: 0] += 1 } }
    for output in graph.outputs { remaining[output, default: 0] += 1 }
  }

  mutating func bind(_ inputs: [HostValue]) throws(EvaluationError) {
    guard inputs.count == graph.inputs.count else {
      throw EvaluationError("APUS-V-0030", "\(graph.inputs.count) inputs are expected, \(inputs.count) given")
    }
    for (id, value) in zip(graph.inputs, inputs) {
      if let type = graph.type(id).tensor, let tensor = value.tensor {
        do { try bind(type, tensor) } catch { throw error.at("input '\(graph[id].name)'") }
        if let dims = graph[id].dims, dims.count == tensor.elementCount {
          for (dim, value) in zip(dims, tensor.ints) { if let symbol = dim.asSymbol { symbols[symbol.name] = value } }
        }
      } else if graph.type(id).isTensor != value.type.isTensor {
        throw EvaluationError("APUS-V-0031", "input '\(graph[id].name)' is \(value.type), not \(graph.type(id))")
      }
      values[id] = value
    }
    for (id, value) in zip(graph.inputs, inputs) {
      guard let type = graph.type(id).tensor, let tensor = value.tensor else { continue }
      try check(type, tensor, "input '\(graph[id].name)'")
    }
  }

  private mutating func bind(_ type: TensorType, _ tensor: HostTensor) throws(EvaluationError) {
    guard type.rank == tensor.rank, type.dtype == tensor.dtype else {
      throw EvaluationError("APUS-V-0031", "the type is \(tensor.type), \(type) is expected")
    }
    for (dim, size) in zip(type.shape, tensor.shape) {
      guard let symbol = dim.asSymbol, symbols[symbol.name] == nil else { continue }
      guard symbol.range.contains(size) else {
        throw EvaluationError(
          "APUS-V-0032",
          "size \(size) of \(symbol.name) is outside its range \(symbol.range.lower)...\(symbol.range.upper)")
      }
      symbols[symbol.name] = size
    }
  }

  /// Compares a tensor with the type that the graph gives it, as far as the symbols are known.
  private func check(_ type: TensorType, _ tensor: HostTensor, _ what: String) throws(EvaluationError) {
    let fits =
      type.rank == tensor.rank && type.dtype == tensor.dtype
      && zip(type.shape, tensor.shape).allSatisfy { dim, size in
        (dim.evaluate { symbols[$0] }).map { $0 == size } ?? true
      }
    if fits { return }
    let known = type.with(shape: type.shape.map { dim in dim.substituting { symbols[$0.name].map { Dim($0) } } })
    throw EvaluationError("APUS-V-0033", "\(what) is \(tensor.type), the graph says \(known)")
  }

  private func value(_ id: ValueID) throws(EvaluationError) -> HostValue {
    if let value = values[id] { return value }
    if let constant = graph[id].constant { return .tensor(constant) }
    throw EvaluationError("APUS-V-0034", "value '\(graph[id].name)' is used before it is computed")
  }

  mutating func execute(_ node: Node) throws(EvaluationError) {
    var operands: [HostValue] = []
    for input in node.inputs { operands.append(try value(input)) }
    let op: any Operation
    do { op = try node.op.substituting { symbol in symbols[symbol.name].map { Dim($0) } } } catch {
      throw EvaluationError(problems: error.problems)
    }
    let results = try op.evaluate(operands)
    guard results.count == node.outputs.count else {
      throw EvaluationError("APUS-V-0035", "\(results.count) results instead of \(node.outputs.count)")
    }
    bindSymbols(node, operands, results)
    for (index, (id, result)) in zip(node.outputs, results).enumerated() {
      if let type = graph.type(id).tensor, let tensor = result.tensor { try check(type, tensor, "result \(index)") }
      if remaining[id] != nil { values[id] = result }
    }
    for input in node.inputs { release(input) }
  }

  /// Takes the values of the symbols that the operation binds from its results' shapes, or, when it has no results, from
  /// its operand's elements.
  private mutating func bindSymbols(_ node: Node, _ operands: [HostValue], _ results: [HostValue]) {
    let bound = node.op.boundSymbols
    if bound.isEmpty { return }
    if results.isEmpty, let tensor = operands.first?.tensor {
      for (symbol, value) in zip(bound, tensor.ints) { symbols[symbol.name] = value }
      return
    }
    for (id, result) in zip(node.outputs, results) {
      guard let type = graph.type(id).tensor, let tensor = result.tensor else { continue }
      for (dim, size) in zip(type.shape, tensor.shape) {
        if let symbol = dim.asSymbol, bound.contains(symbol) { symbols[symbol.name] = size }
      }
    }
  }

  private mutating func release(_ id: ValueID) {
    guard let count = remaining[id] else { return }
    remaining[id] = count - 1
    if count == 1 { values[id] = nil }
  }

  func outputs() throws(EvaluationError) -> [HostValue] {
    var results: [HostValue] = []
    for id in graph.outputs { results.append(try value(id)) }
    return results
  }
}

extension ValueType {
  fileprivate var isTensor: Bool { tensor != nil }
}
