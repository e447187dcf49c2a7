package import ApusCore
package import ApusGraph
package import ApusKernel

/// Makes a tensor in which every element is its own coordinate along one axis.
///
/// - Types: any numeric type.
package struct Iota: TensorOperation {
  package let shape: Shape
  package let axis: Int
  package let dtype: DType

  package init(_ shape: Shape, axis: Int, dtype: DType = .i64) {
    self.shape = shape
    self.axis = axis
    self.dtype = dtype
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    shape = try attributes.dims("shape")
    axis = try attributes.int("axis")
    dtype = try attributes.dtype("dtype")
  }

  package var name: String { "iota" }
  package var attributes: Attributes { ["shape": .dims(shape), "axis": .int(axis), "dtype": .dtype(dtype)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 0...0)
    guard shape.indices.contains(axis), dtype.isNumeric, shape.allSatisfy({ $0.range.upper >= 0 }) else {
      throw shapeError("APUS-S-0029", "no coordinates along axis \(axis) of \(TensorType(dtype, shape))")
    }
    return [TensorType(dtype, shape)]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    let strides = shape.indices.map { $0 == axis ? 1 : 0 }
    return [HostTensor(dtype, shape, int64s: IndexMap.strided(shape: shape, strides: strides).map(Int64.init))]
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let (axis, dtype) = (axis, dtype)
    return [Operand(results[0]) { coordinates, arena in arena.cast(arena.index(coordinates[axis]), to: dtype) }]
  }

  package func dims(_ x: [[Dim]?], _ types: [TensorType]) -> [[Dim]?]? {
    let sizes = shape.compactMap(\.constantValue)
    guard sizes.count == shape.count, dtype.isInteger, sizes.reduce(1, saturatingMultiply) <= 1024 else { return nil }
    let strides = shape.indices.map { $0 == axis ? 1 : 0 }
    return [IndexMap.strided(shape: sizes, strides: strides).map { Dim(Int(dtype.wrapping(Int64($0)))) }]
  }

  package static let samples = [
    Sample(Iota([Dim(Symbol("A"))], axis: 0), where: ["A": 0...5]),
    Sample(Iota([3, Dim(Symbol("A")), 2], axis: 1, dtype: .f32), where: ["A": 1...5]),
    Sample(Iota([3, 20], axis: 1, dtype: .i4)),
  ]
}
