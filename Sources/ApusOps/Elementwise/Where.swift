package import ApusCore
package import ApusGraph
package import ApusKernel

/// Takes each element from x where the condition holds, else from y.
///
/// - Shapes: the three operands broadcast against each other.
/// - Types: the condition is bool; x and y have one type of any kind.
/// - Source: ONNX Where-16.
package struct Where: TensorOperation {
  package init() {}
  package init(name: String, attributes: Attributes) throws(GraphError) {}

  package var name: String { "where" }
  package var attributes: Attributes { [:] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 3...3)
    try expect(x[0].dtype == .bool, x[0], operand: 0, is: "a bool tensor")
    try expectSameDType([x[1], x[2]])
    return [TensorType(x[1].dtype, try broadcastShape(x))]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    let condition = try broadcast(x[0], to: shape).int64s
    let a = try broadcast(x[1], to: shape)
    let b = try broadcast(x[2], to: shape)
    if dtype == .string {
      return [HostTensor(strings: condition.indices.map { (condition[$0] != 0 ? a : b).strings[$0] }, shape: shape)]
    }
    let width = dtype.byteCount
    let result = a.withUnsafeBytes { first in
      b.withUnsafeBytes { second in
        HostTensor(dtype, shape) { target in
          for (index, chosen) in condition.enumerated() {
            let source = chosen != 0 ? first : second
            for byte in index * width..<(index + 1) * width { target[byte] = source[byte] }
          }
        }
      }
    }
    return [result]
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let type = results[0]
    if type.dtype == .string { return nil }
    return [
      Operand(type) { position, arena in
        let operands = x.map { $0.broadcast(position, of: type.shape, arena) }
        return arena.select(operands[0], operands[1], operands[2])
      }
    ]
  }

  package func dims(_ x: [[Dim]?], _ types: [TensorType]) -> [[Dim]?]? {
    guard let result = try? infer(types), let condition = broadcast(x[0], types[0], to: result[0].shape) else {
      return nil
    }
    let a = broadcast(x[1], types[1], to: result[0].shape)
    let b = broadcast(x[2], types[2], to: result[0].shape)
    let values = condition.indices.compactMap { index in
      condition[index].constantValue.flatMap { $0 != 0 ? a?[index] : b?[index] }
    }
    return values.count == condition.count ? [values] : nil
  }

  package static let samples = [
    Sample(Where(), "bool[A, B]", "f32[A, B]", "f32[A, B]", where: ["A": 1...4, "B": 1...9]),
    Sample(Where(), "bool[A, 1]", "i64[B]", "i64[]", where: ["A": 1...4, "B": 1...9]),
    Sample(Where(), "bool[A, 1]", "f16[A, B]", "f16[1]", where: ["A": 1...4, "B": 1...9]),
    Sample(Where(), "bool[A]", "string[A]", "string[]", where: ["A": 1...4]),
  ]
}
