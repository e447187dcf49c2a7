import ApusCore
import ApusGraph

/// A graph under construction: the main graph, or the body of a loop or branch.
final class GraphBuilder {
  var graph = Graph()
  let parent: GraphBuilder?
  /// Outer values that this body uses, in the order of the inputs that stand for them.
  private(set) var captures: [ValueID] = []
  private var captured: [ValueID: ValueID] = [:]
  /// Elements of float tensors that were computed from sizes.
  var fractions: [ValueID: [Fraction]] = [:]
  private var scalars: [ScalarKey: ValueID] = [:]

  private struct ScalarKey: Hashable {
    let dtype: DType
    let bits: UInt64
  }

  init(parent: GraphBuilder?) { self.parent = parent }

  /// The value in this body that stands for one of the parent's: a copy of a constant, or one more input.
  func capture(_ outer: ValueID) -> ValueID {
    guard let parent else { return outer }
    if let inner = captured[outer] { return inner }
    let value = parent.graph[outer]
    let inner: ValueID
    if let constant = value.constant {
      inner = graph.addConstant(constant, name: value.name)
    } else {
      inner = graph.addInput(value.name, value.type)
      graph[inner].dims = value.dims
      captures.append(outer)
    }
    captured[outer] = inner
    return inner
  }

  /// A constant of rank 0.
  func scalar(_ value: Double, _ dtype: DType) -> ValueID {
    let key = ScalarKey(dtype: dtype, bits: value.bitPattern)
    if let id = scalars[key] { return id }
    let id = graph.addConstant(HostTensor(scalar: value, dtype))
    scalars[key] = id
    return id
  }
}
