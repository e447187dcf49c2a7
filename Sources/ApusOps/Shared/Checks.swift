import ApusCore
import ApusGraph

extension Operation {
  /// A shape error of this operation.
  func shapeError(_ code: String, _ message: String, hint: String = "") -> ShapeError {
    ShapeError(code, "\(name): \(message)", hint: hint)
  }

  func evaluationError(_ code: String, _ message: String, hint: String = "") -> EvaluationError {
    EvaluationError(code, "\(name): \(message)", hint: hint)
  }

  func expectOperands(_ x: [TensorType], _ counts: ClosedRange<Int>) throws(ShapeError) {
    if counts.contains(x.count) { return }
    let expected =
      counts.lowerBound == counts.upperBound
      ? "\(counts.lowerBound)" : "\(counts.lowerBound) to \(counts.upperBound == .max ? "any" : "\(counts.upperBound)")"
    throw shapeError("APUS-S-0010", "\(expected) operands are expected, \(x.count) given")
  }

  func expectSameDType(_ x: [TensorType]) throws(ShapeError) {
    for (index, type) in x.enumerated().dropFirst() where type.dtype != x[0].dtype {
      throw shapeError(
        "APUS-S-0011", "operands must have one element type; operand 0 is \(x[0]), operand \(index) is \(type)")
    }
  }

  func expect(_ accepted: Bool, _ type: TensorType, operand: Int, is what: String) throws(ShapeError) {
    if !accepted { throw shapeError("APUS-S-0012", "operand \(operand) is \(type), \(what) is expected") }
  }

  /// The axis counted from the front; −rank … rank−1 is accepted.
  func resolve(axis: Int, rank: Int) throws(ShapeError) -> Int {
    guard axis >= -rank, axis < rank else {
      throw shapeError("APUS-S-0013", "axis \(axis) does not exist in a tensor of rank \(rank)")
    }
    return axis < 0 ? axis + rank : axis
  }

  /// The result type that `infer` gives for these tensors, whose sizes must all be known and not absurd.
  func resultTypes(for x: [HostTensor]) throws(EvaluationError) -> [(dtype: DType, shape: [Int])] {
    let types: [ValueType]
    do { types = try infer(x.map { .tensor($0.type) }) } catch { throw EvaluationError(problems: error.problems) }
    var results: [(dtype: DType, shape: [Int])] = []
    for type in types {
      guard let tensor = type.tensor, let shape = tensor.constantShape else {
        throw evaluationError("APUS-V-0002", "the result's size \(type) is not known")
      }
      try checkSize(shape)
      results.append((tensor.dtype, shape))
    }
    return results
  }

  /// Refuses sizes that no reference should be asked to compute: negative ones and more than 2^31 elements (zeros not
  /// counted, so that strides stay sane).
  func checkSize(_ shape: [Int]) throws(EvaluationError) {
    let count = shape.lazy.filter { $0 != 0 }.reduce(1, saturatingMultiply)
    if count > 1 << 31 || shape.contains(where: { $0 < 0 }) {
      throw evaluationError("APUS-V-0003", "a result of shape \(shape) is beyond what can be evaluated")
    }
  }
}

extension TensorOperation {
  /// The only result's type; see ``Operation/resultTypes(for:)``.
  func resultType(for x: [HostTensor]) throws(EvaluationError) -> (dtype: DType, shape: [Int]) {
    let types = try resultTypes(for: x)
    guard types.count == 1 else {
      throw evaluationError("APUS-V-0004", "one result is expected, \(types.count) inferred")
    }
    return types[0]
  }
}

extension HostTensor {
  /// A tensor without elements.
  static func empty(_ dtype: DType, _ shape: [Int]) -> HostTensor {
    dtype == .string ? HostTensor(strings: [], shape: shape) : HostTensor(dtype, shape)
  }
}
