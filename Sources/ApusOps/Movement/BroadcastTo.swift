package import ApusCore
package import ApusGraph
package import ApusKernel

/// Repeats a tensor along axes of size 1 (and new leading axes) until it has a shape.
///
/// - Shapes: the operand must broadcast to `shape`; a dim of 1 in `shape` does not shrink the operand's.
/// - Source: ONNX Expand-13 with the broadcast shape resolved.
package struct BroadcastTo: MovementOperation {
  package let shape: Shape

  package init(_ shape: Shape) { self.shape = shape }

  package init(name: String, attributes: Attributes) throws(GraphError) { shape = try attributes.dims("shape") }

  package var name: String { "broadcast_to" }
  package var attributes: Attributes { ["shape": .dims(shape)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    let result = x[0].with(shape: shape)
    let isValid =
      x[0].rank <= shape.count && shape.allSatisfy { $0.range.upper >= 0 }
      && zip(x[0].shape, shape.suffix(x[0].rank)).allSatisfy { dim, target in
        dim.range.contains(1) || (dim - target).range.contains(0)
      }
    if !isValid { throw shapeError("APUS-S-0022", "\(x[0]) does not broadcast to \(result)") }
    return [result]
  }

  func sourceIndices(_ shape: [Int]) throws(EvaluationError) -> [Int] {
    let target = try constants(self.shape)
    if let indices = Broadcasting.indices(from: shape, to: target) { return indices }
    throw evaluationError("APUS-V-0005", "\(shape) does not broadcast to \(target)")
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    if results[0].dtype == .string { return nil }
    let shape = results[0].shape
    return [Operand(results[0]) { (position: Position, arena) in x[0].broadcast(position, of: shape, arena) }]
  }

  package static let samples = [
    Sample(BroadcastTo([2, Dim(Symbol("A")), 3]), "f32[A, 1]", where: ["A": 1...4]),
    Sample(BroadcastTo([4, Dim(Symbol("A"))]), "i64[]", where: ["A": 1...4]),
    Sample(BroadcastTo([4, Dim(Symbol("A"))]), "bool[4, A]", where: ["A": 1...4]),
  ]
}
