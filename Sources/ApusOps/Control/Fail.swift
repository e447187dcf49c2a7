package import ApusCore
package import ApusGraph

/// Refuses to run: stands for the results of a branch that cannot be computed for the sizes a model was read with.
///
/// - Shapes: no operands → a tensor of `shape`.
/// - Throws: ``EvaluationError`` `APUS-V-0211` with `message`, always.
package struct Fail: TensorOperation {
  package let message: String
  package let type: TensorType

  package init(_ message: String, _ type: TensorType) {
    self.message = message
    self.type = type
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    message = try attributes.string("message")
    type = TensorType(try attributes.dtype("dtype"), try attributes.dims("shape"))
  }

  package var name: String { "fail" }
  package var attributes: Attributes {
    ["message": .string(message), "dtype": .dtype(type.dtype), "shape": .dims(type.shape)]
  }

  /// It must neither be computed ahead of time nor be shared.
  package var isPure: Bool { false }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 0...0)
    return [type]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    throw EvaluationError("APUS-V-0211", message)
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { 0 }
}
