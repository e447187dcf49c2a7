package import ApusCore
package import ApusGraph

/// Reads the bits of every element as another type of the same width.
///
/// - Types: any two of equal bit width, except strings and bool.
/// - Source: ONNX BitCast-26.
package struct BitCast: TensorOperation {
  package let dtype: DType

  package init(to dtype: DType) { self.dtype = dtype }

  package init(name: String, attributes: Attributes) throws(GraphError) { dtype = try attributes.dtype("to") }

  package var name: String { "bit_cast" }
  package var attributes: Attributes { ["to": .dtype(dtype)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    let fits = x[0].dtype.bitWidth == dtype.bitWidth && x[0].dtype.isNumeric && dtype.isNumeric
    try expect(fits, x[0], operand: 0, is: "a type as wide as \(dtype)")
    return [x[0].with(dtype: dtype)]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    _ = try resultType(for: x)
    if dtype.bitWidth >= 8 { return [x[0].reinterpreted(as: dtype)] }
    // Sub-byte integers are kept sign-extended on the host, so the upper bits have to be made anew.
    return [HostTensor(dtype, x[0].shape, int64s: x[0].elements(as: UInt8.self).map(Int64.init))]
  }

  package static let samples = [
    Sample(BitCast(to: .i32), "f32[A, 3]", where: ["A": 1...5]),
    Sample(BitCast(to: .f16), "i16[A, 3]", where: ["A": 1...5]),
    Sample(BitCast(to: .u4), "i4[A, 3]", where: ["A": 1...5]),
  ]
}
