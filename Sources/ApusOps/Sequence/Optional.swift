package import ApusCore
package import ApusGraph

/// Wraps a value into an optional, or makes an empty one when it has no operand.
///
/// - Shapes: x any value → optional of its type; without x an optional of a tensor `dtype`, `shape`, or with `of_sequence`
///   of a sequence of such tensors.
/// - Source: ONNX Optional-15.
package struct OptionalWrap: Operation {
  package let dtype: DType
  package let shape: Shape
  package let ofSequence: Bool

  package init(dtype: DType, shape: Shape, ofSequence: Bool = false) {
    self.dtype = dtype
    self.shape = shape
    self.ofSequence = ofSequence
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    dtype = try attributes.dtype("dtype")
    shape = try attributes.dims("shape")
    ofSequence = try attributes.bool("of_sequence")
  }

  package var name: String { "optional" }
  package var attributes: Attributes {
    ["dtype": .dtype(dtype), "shape": .dims(shape), "of_sequence": .bool(ofSequence)]
  }

  private var element: ValueType {
    let type = ValueType.tensor(TensorType(dtype, shape))
    return ofSequence ? .sequence(type) : type
  }

  package func infer(_ x: [ValueType]) throws(ShapeError) -> [ValueType] {
    try expectOperands(x, 0...1)
    return [.optional(x.first ?? element)]
  }

  package func reference(_ x: [HostValue]) throws(EvaluationError) -> [HostValue] {
    [.optional(x.first, element: x.first?.type ?? element)]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { 0 }

  package static var samples: [Sample] { [Sample(OptionalWrap(dtype: .f32, shape: []), "f32[N]", where: ["N": 1...3])] }
}

/// Tells whether an optional holds a value.
///
/// - Shapes: optional → bool of rank 0; any other value is there, no operand is not.
/// - Source: ONNX OptionalHasElement-18.
package struct OptionalHasElement: Operation {
  package init() {}
  package init(name: String, attributes: Attributes) throws(GraphError) {}

  package var name: String { "optional_has_element" }
  package var attributes: Attributes { [:] }

  package func infer(_ x: [ValueType]) throws(ShapeError) -> [ValueType] {
    try expectOperands(x, 0...1)
    return [.tensor(TensorType(.bool, []))]
  }

  package func reference(_ x: [HostValue]) throws(EvaluationError) -> [HostValue] {
    let isPresent =
      switch x.first {
      case nil, .optional(nil, _)?: false
      default: true
      }
    return [.tensor(HostTensor(.bool, [], int64s: [isPresent ? 1 : 0]))]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { 0 }
  package static var samples: [Sample] { [Sample(OptionalHasElement())] }
}

/// Gives the value that an optional holds.
///
/// - Shapes: optional of a tensor → a tensor of `shape`, whose symbols, all fresh, the operation sets;
///   optional of a sequence → the sequence.
/// - Throws: ``EvaluationError`` `APUS-V-0209` when it holds none.
/// - Source: ONNX OptionalGetElement-18.
package struct OptionalGetElement: Operation {
  package let shape: Shape

  package init(shape: Shape) { self.shape = shape }

  package init(name: String, attributes: Attributes) throws(GraphError) { shape = try attributes.dims("shape") }

  package var name: String { "optional_get_element" }
  package var attributes: Attributes { ["shape": .dims(shape)] }
  package var boundSymbols: [Symbol] { Self.symbols(shape) }

  package func infer(_ x: [ValueType]) throws(ShapeError) -> [ValueType] {
    try expectOperands(x, 1...1)
    guard case .optional(let element) = x[0] else {
      throw shapeError("APUS-S-0207", "an optional is expected, found \(x[0])")
    }
    return [element.tensor.map { .tensor($0.with(shape: shape)) } ?? element]
  }

  package func reference(_ x: [HostValue]) throws(EvaluationError) -> [HostValue] {
    guard case .optional(let held, _)? = x.first, let held else {
      throw evaluationError("APUS-V-0209", "the optional holds no value")
    }
    if held.tensor != nil { try checkShape(held, shape) }
    return [held]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { 0 }
  package static var samples: [Sample] { [Sample(OptionalGetElement(shape: [2]), "opt<f32[2]>")] }
}
