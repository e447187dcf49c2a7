package import ApusCore
package import ApusGraph

extension Operation {
  /// The element type of a sequence operand.
  func sequenceElement(_ type: ValueType) throws(ShapeError) -> ValueType {
    guard case .sequence(let element) = type else {
      throw shapeError("APUS-S-0207", "a sequence is expected, found \(type)")
    }
    return element
  }

  func sequenceValues(_ value: HostValue) throws(EvaluationError) -> ([HostValue], element: ValueType) {
    guard case .sequence(let values, let element) = value else {
      throw evaluationError("APUS-V-0207", "a sequence is expected, found \(value.type)")
    }
    return (values, element)
  }

  func tensorValue(_ value: HostValue) throws(EvaluationError) -> HostTensor {
    guard let tensor = value.tensor else {
      throw evaluationError("APUS-V-0207", "a tensor is expected, found \(value.type)")
    }
    return tensor
  }

  /// The position operand of a sequence operation; nil when it is absent.
  func position(_ x: [HostValue], at operand: Int, _ count: Int) throws(EvaluationError) -> Int? {
    guard x.count > operand else { return nil }
    guard let index = try tensorValue(x[operand]).ints.first else {
      throw evaluationError("APUS-V-0202", "the position is an empty tensor")
    }
    return try normalized(index, count)
  }

  func expectPosition(_ x: [ValueType], at operand: Int) throws(ShapeError) {
    guard x.count > operand else { return }
    guard let type = x[operand].tensor, type.dtype == .i64 || type.dtype == .i32 else {
      throw shapeError("APUS-S-0204", "the position is \(x[operand]), one i64 or i32 is expected")
    }
    try expectEqual(type.elementCount, 1, "elements of the position")
  }
}

/// Makes a sequence of its operands.
///
/// - Shapes: sizes that differ between the operands become ``ApusCore/ValueType/anySize``.
/// - Types: operands of one element type.
/// - Source: ONNX SequenceConstruct-11.
package struct SequenceConstruct: Operation {
  package init() {}
  package init(name: String, attributes: Attributes) throws(GraphError) {}

  package var name: String { "sequence_construct" }
  package var attributes: Attributes { [:] }

  package func infer(_ x: [ValueType]) throws(ShapeError) -> [ValueType] {
    guard var element = x.first else { throw shapeError("APUS-S-0010", "one operand or more is expected, 0 given") }
    for type in x.dropFirst() {
      guard let joined = element.joined(with: type) else {
        throw shapeError("APUS-S-0207", "\(element) and \(type) cannot be in one sequence")
      }
      element = joined
    }
    return [.sequence(element)]
  }

  package func reference(_ x: [HostValue]) throws(EvaluationError) -> [HostValue] {
    let type: ValueType
    do { type = try infer(x.map(\.type))[0] } catch { throw EvaluationError(problems: error.problems) }
    guard case .sequence(let element) = type else { return [] }
    return [.sequence(x, element: element)]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { 0 }

  package static var samples: [Sample] {
    [Sample(SequenceConstruct(), "f32[N]", "f32[3]", where: ["N": 1...4])]
  }
}

/// Makes an empty sequence of tensors.
///
/// - Shapes: the element type is `dtype` and `shape`, where that is known; inserting another rank changes it.
/// - Source: ONNX SequenceEmpty-11.
package struct SequenceEmpty: Operation {
  package let dtype: DType
  package let shape: Shape

  package init(_ dtype: DType, _ shape: Shape = []) {
    self.dtype = dtype
    self.shape = shape
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    dtype = try attributes.dtype("dtype")
    shape = try attributes.dims("shape")
  }

  package var name: String { "sequence_empty" }
  package var attributes: Attributes { ["dtype": .dtype(dtype), "shape": .dims(shape)] }

  package func infer(_ x: [ValueType]) throws(ShapeError) -> [ValueType] {
    try expectOperands(x, 0...0)
    return [.sequence(.tensor(TensorType(dtype, shape)))]
  }

  package func reference(_ x: [HostValue]) throws(EvaluationError) -> [HostValue] {
    [.sequence([], element: .tensor(TensorType(dtype, shape)))]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { 0 }

  package static var samples: [Sample] { [Sample(SequenceEmpty(.f32, [2]))] }
}

/// Puts a tensor into a sequence: before a position, or at the end where none is given.
///
/// - Shapes: sequence, tensor, position (one integer, −n … n) → sequence.
/// - Source: ONNX SequenceInsert-11.
package struct SequenceInsert: Operation {
  package init() {}
  package init(name: String, attributes: Attributes) throws(GraphError) {}

  package var name: String { "sequence_insert" }
  package var attributes: Attributes { [:] }

  package func infer(_ x: [ValueType]) throws(ShapeError) -> [ValueType] {
    try expectOperands(x, 2...3)
    try expectPosition(x, at: 2)
    let element = try sequenceElement(x[0])
    guard let joined = element.joined(with: x[1]) else {
      throw shapeError("APUS-S-0207", "\(x[1]) does not fit into a sequence of \(element)")
    }
    return [.sequence(joined)]
  }

  package func reference(_ x: [HostValue]) throws(EvaluationError) -> [HostValue] {
    var (values, element) = try sequenceValues(x[0])
    // Inserting at the end is a position too.
    values.insert(x[1], at: try position(x, at: 2, values.count + 1, negativeFrom: values.count) ?? values.count)
    return [.sequence(values, element: element.joined(with: x[1].type) ?? element)]
  }

  private func position(
    _ x: [HostValue], at operand: Int, _ count: Int, negativeFrom end: Int
  ) throws(EvaluationError) -> Int? {
    guard x.count > operand else { return nil }
    guard let index = try tensorValue(x[operand]).ints.first else {
      throw evaluationError("APUS-V-0202", "the position is an empty tensor")
    }
    return try normalized(index < 0 ? saturatingAdd(index, end) : index, count)
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { 0 }
  package static var samples: [Sample] {
    [Sample(SequenceInsert(), "seq<f32[2]>", "f32[2]", "i64[]", values: [2: -3...3])]
  }
}

/// Takes a tensor out of a sequence: the one at a position, or the last where none is given.
///
/// - Shapes: sequence, position (one integer, −n ..< n) → sequence.
/// - Source: ONNX SequenceErase-11.
package struct SequenceErase: Operation {
  package init() {}
  package init(name: String, attributes: Attributes) throws(GraphError) {}

  package var name: String { "sequence_erase" }
  package var attributes: Attributes { [:] }

  package func infer(_ x: [ValueType]) throws(ShapeError) -> [ValueType] {
    try expectOperands(x, 1...2)
    try expectPosition(x, at: 1)
    return [.sequence(try sequenceElement(x[0]))]
  }

  package func reference(_ x: [HostValue]) throws(EvaluationError) -> [HostValue] {
    var (values, element) = try sequenceValues(x[0])
    guard !values.isEmpty else { throw evaluationError("APUS-V-0201", "the sequence is empty") }
    values.remove(at: try position(x, at: 1, values.count) ?? values.count - 1)
    return [.sequence(values, element: element)]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { 0 }
  package static var samples: [Sample] { [Sample(SequenceErase(), "seq<f32[2]>", "i64[]", values: [1: -3...2])] }
}

/// Gives one tensor of a sequence.
///
/// - Shapes: sequence, position (one integer, −n ..< n) → a tensor of `shape`, whose symbols, all fresh, the operation
///   sets.
/// - Throws: ``EvaluationError`` `APUS-V-0208` when the tensor has another shape.
/// - Source: ONNX SequenceAt-11.
package struct SequenceAt: Operation {
  package let shape: Shape

  package init(shape: Shape) { self.shape = shape }

  package init(name: String, attributes: Attributes) throws(GraphError) { shape = try attributes.dims("shape") }

  package var name: String { "sequence_at" }
  package var attributes: Attributes { ["shape": .dims(shape)] }
  package var boundSymbols: [Symbol] { Self.symbols(shape) }

  package func infer(_ x: [ValueType]) throws(ShapeError) -> [ValueType] {
    try expectOperands(x, 2...2)
    try expectPosition(x, at: 1)
    guard let element = try sequenceElement(x[0]).tensor else {
      throw shapeError("APUS-S-0207", "a sequence of tensors is expected, found \(x[0])")
    }
    return [.tensor(element.with(shape: shape))]
  }

  package func reference(_ x: [HostValue]) throws(EvaluationError) -> [HostValue] {
    let (values, _) = try sequenceValues(x[0])
    guard let index = try position(x, at: 1, values.count) else { return [] }
    try checkShape(values[index], shape)
    return [values[index]]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { 0 }
  package static var samples: [Sample] {
    [Sample(SequenceAt(shape: [2, 3]), "seq<f32[2, 3]>", "i64[]", values: [1: -3...2])]
  }
}

extension Operation {
  /// Refuses a tensor whose rank or known sizes differ from `shape`.
  func checkShape(_ value: HostValue, _ shape: Shape) throws(EvaluationError) {
    let found = try tensorValue(value).shape
    guard found.count == shape.count, zip(found, shape).allSatisfy({ ($1.constantValue ?? $0) == $0 }) else {
      throw evaluationError("APUS-V-0208", "the tensor has shape \(found), \(shape) is expected")
    }
  }
}

/// Counts the elements of a sequence.
///
/// - Shapes: sequence → i64 of rank 0.
/// - Source: ONNX SequenceLength-11.
package struct SequenceLength: Operation {
  package init() {}
  package init(name: String, attributes: Attributes) throws(GraphError) {}

  package var name: String { "sequence_length" }
  package var attributes: Attributes { [:] }

  package func infer(_ x: [ValueType]) throws(ShapeError) -> [ValueType] {
    try expectOperands(x, 1...1)
    _ = try sequenceElement(x[0])
    return [.tensor(TensorType(.i64, []))]
  }

  package func reference(_ x: [HostValue]) throws(EvaluationError) -> [HostValue] {
    [.tensor(HostTensor(.i64, [], int64s: [Int64(try sequenceValues(x[0]).0.count)]))]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { 0 }
  package static var samples: [Sample] { [Sample(SequenceLength(), "seq<f32[2]>")] }
}
