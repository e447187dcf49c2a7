import ApusCore
import ApusGraph

/// An operation with one operand whose result's elements are elements of it: which, follows from the sizes alone.
///
/// The reference and the following of known sizes come from one index map.
protocol MovementOperation: TensorOperation {
  /// For each element of the result, the linear index of the operand's element it is, or −1 for none.
  ///
  /// Called with sizes that `infer` accepts; every size attribute is a constant.
  func sourceIndices(_ shape: [Int]) throws(EvaluationError) -> [Int]
}

extension MovementOperation {
  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    if shape.contains(0) { return [HostTensor.empty(dtype, shape)] }
    let indices = try sourceIndices(x[0].shape)
    try checkIndices(indices, shape, sourceCount: x[0].elementCount)
    return [x[0].gathering(indices, shape: shape)]
  }

  /// Guards ``HostTensor/gathering(_:shape:)`` against attributes that reach outside the operand.
  func checkIndices(_ indices: [Int], _ shape: [Int], sourceCount: Int) throws(EvaluationError) {
    guard indices.count == shape.reduce(1, saturatingMultiply), indices.allSatisfy({ $0 < sourceCount }) else {
      throw evaluationError("APUS-V-0020", "the attributes reach outside the operand")
    }
  }

  package func dims(_ x: [[Dim]?], _ types: [TensorType]) -> [[Dim]?]? {
    guard let first = x.first, let dims = first, let shape = types[0].constantShape,
      let result = try? infer(types), let count = result[0].elementCount.constantValue, (1...4096).contains(count),
      let indices = try? sourceIndices(shape), indices.count == count, indices.allSatisfy(dims.indices.contains)
    else { return nil }
    return [indices.map { dims[$0] }]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { 0 }
}

extension Operation {
  /// The values of size attributes, which must be known by now.
  func constants(_ dims: [Dim]) throws(EvaluationError) -> [Int] {
    let values = dims.compactMap(\.constantValue)
    if values.count == dims.count { return values }
    throw evaluationError("APUS-V-0002", "the sizes \(dims) are not known")
  }
}
