import ApusCore
import ApusGraph

/// Gives the results of control flow their types: sizes that branches or iterations do not share become symbols.
package struct ResultSizes {
  /// Symbols to take, in order; nil to count how many are needed.
  private let symbols: [Dim]?
  private(set) var count = 0
  private let op: any ApusGraph.Operation

  init(_ symbols: [Dim]?, of op: any ApusGraph.Operation) {
    self.symbols = symbols
    self.op = op
  }

  mutating func nextSymbol() throws(ShapeError) -> Dim {
    count += 1
    guard let symbols else { return ValueType.anySize }
    guard count <= symbols.count else {
      throw op.shapeError("APUS-S-0208", "\(symbols.count) symbols are given, the results need more")
    }
    return symbols[count - 1]
  }

  /// The type of a result that is one of `types`, in which the symbols `hidden` have no meaning outside.
  mutating func merge(_ types: [ValueType], hidden: Set<String>) throws(ShapeError) -> ValueType {
    guard let first = types.first else { throw op.shapeError("APUS-S-0208", "a result has no type") }
    let tensors = types.compactMap(\.tensor)
    guard tensors.count == types.count else {
      var joined = first.hiding(hidden)
      for type in types.dropFirst() {
        guard let next = joined.joined(with: type.hiding(hidden)) else {
          throw op.shapeError("APUS-S-0209", "a result is \(joined) on one way and \(type) on another")
        }
        joined = next
      }
      return joined
    }
    let type = tensors[0]
    for other in tensors.dropFirst() where other.dtype != type.dtype || other.rank != type.rank {
      throw op.shapeError(
        "APUS-S-0209", "a result is \(type) on one way and \(other) on another",
        hint: "Element type and rank must be the same on every way.")
    }
    var shape: Shape = []
    for axis in 0..<type.rank {
      let dim = type.shape[axis]
      let isShared = tensors.allSatisfy { $0.shape[axis] == dim }
      let isVisible = !dim.symbols.contains { hidden.contains($0.name) }
      shape.append(isShared && isVisible ? dim : try nextSymbol())
    }
    return .tensor(type.with(shape: shape))
  }
}

extension Graph {
  /// Names of the symbols that the graph's own nodes bind.
  var innerSymbols: Set<String> {
    var names: Set<String> = []
    for id in order { for symbol in self[id].op.boundSymbols { names.insert(symbol.name) } }
    return names
  }
}

extension Operation {
  func body(_ index: Int) throws(ShapeError) -> Graph {
    guard index < bodies.count else {
      throw shapeError("APUS-S-0210", "\(bodies.count) bodies are given, more are needed")
    }
    return bodies[index]
  }

  func expectInputs(_ body: Graph, _ count: Int) throws(ShapeError) {
    guard body.inputs.count == count else {
      throw shapeError("APUS-S-0210", "a body takes \(body.inputs.count) values, \(count) are given")
    }
  }

  /// A bool of one element.
  func condition(_ value: HostValue) throws(EvaluationError) -> Bool {
    guard let element = try tensorValue(value).int64s.first else {
      throw evaluationError("APUS-V-0202", "the condition is an empty tensor")
    }
    return element != 0
  }

  /// Tensors of one shape put together along a new axis; without any, zeros of the sizes in `type`.
  func stacked(_ parts: [HostTensor], axis: Int, _ type: ValueType?) throws(EvaluationError) -> HostTensor {
    guard let first = parts.first else {
      guard let type = type?.tensor else { throw evaluationError("APUS-V-0207", "a tensor is expected") }
      var shape = type.shape.map { $0.constantValue ?? 0 }
      if axis < shape.count { shape[axis] = 0 }
      return HostTensor.empty(type.dtype, shape)
    }
    for part in parts where part.shape != first.shape || part.dtype != first.dtype {
      throw evaluationError("APUS-V-0208", "iterations give \(first.type) and \(part.type), which cannot be stacked")
    }
    guard axis <= first.rank else { throw evaluationError("APUS-V-0202", "axis \(axis) is beyond rank \(first.rank)") }
    let shape = Array(first.shape[..<axis]) + [1] + Array(first.shape[axis...])
    let joined = try Concat(axis: axis).reference(parts.map { $0.reshaped(shape) })
    guard let result = joined.first else { throw evaluationError("APUS-V-0207", "nothing was stacked") }
    return result
  }
}
