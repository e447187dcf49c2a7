package import ApusCore
package import ApusGraph
package import ApusKernel

/// Gives the same elements another shape.
///
/// - Shapes: the element counts must not be provably different.
/// - Source: ONNX Reshape-21 with the target shape resolved.
package struct Reshape: TensorOperation {
  package let shape: Shape

  package init(_ shape: Shape) { self.shape = shape }

  package init(name: String, attributes: Attributes) throws(GraphError) { shape = try attributes.dims("shape") }

  package var name: String { "reshape" }
  package var attributes: Attributes { ["shape": .dims(shape)] }
  package var isView: Bool { true }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    let result = x[0].with(shape: shape)
    let isNegative = shape.contains { $0.range.upper < 0 }
    if isNegative || !(x[0].elementCount - result.elementCount).range.contains(0) {
      throw shapeError("APUS-S-0020", "\(x[0]) does not have as many elements as \(result)")
    }
    return [result]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let shape = try resultType(for: x).shape
    return [x[0].reshaped(shape)]
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    if results[0].dtype == .string { return nil }
    let shape = results[0].shape
    return [
      Operand(results[0]) { (position: Position, arena) in
        x[0].at(.flat(arena.flat(position, in: shape)), arena)
      }
    ]
  }

  package func dims(_ x: [[Dim]?], _ types: [TensorType]) -> [[Dim]?]? { [x[0]] }
  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { 0 }

  package static let samples = [
    Sample(Reshape([Dim(Symbol("A")), 6]), "f32[A, 2, 3]", where: ["A": 1...4]),
    Sample(Reshape([3, Dim(Symbol("A")) * 2]), "i64[A, 2, 3]", where: ["A": 1...4]),
    Sample(Reshape([]), "f16[1, 1]"),
  ]
}
