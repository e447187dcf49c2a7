package import ApusCore
package import ApusGraph
package import ApusKernel

/// Running sum or product along an axis.
///
/// - Types: numeric; integers wrap.
/// - Source: ONNX CumSum-14, CumProd-26.
package struct Cumulative: TensorOperation {
  package let isProduct: Bool
  package let axis: Int
  /// Leaves each element out of its own result.
  package let exclusive: Bool
  /// Runs from the end.
  package let reverse: Bool

  package init(isProduct: Bool = false, axis: Int, exclusive: Bool = false, reverse: Bool = false) {
    self.isProduct = isProduct
    self.axis = axis
    self.exclusive = exclusive
    self.reverse = reverse
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    isProduct = name == "cumprod"
    axis = try attributes.int("axis")
    exclusive = try attributes.bool("exclusive")
    reverse = try attributes.bool("reverse")
  }

  package var name: String { isProduct ? "cumprod" : "cumsum" }
  package var attributes: Attributes {
    ["axis": .int(axis), "exclusive": .bool(exclusive), "reverse": .bool(reverse)]
  }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    try expect(x[0].dtype.isNumeric, x[0], operand: 0, is: "a numeric tensor")
    _ = try resolve(axis: axis, rank: x[0].rank)
    return x
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    if shape.contains(0) { return x }
    let reduced = ReducedAxes(axes: [axis < 0 ? axis + shape.count : axis], keepDims: false)
    let forward = reduced.offsets(shape)
    let offsets = reverse ? forward.reversed() : forward
    let function: ScalarFunction = isProduct ? .mul : .add
    if dtype.isFloat {
      var values = x[0].doubles
      for start in reduced.starts(shape) {
        var total: Double = isProduct ? 1 : 0
        for offset in offsets {
          let next = function.evaluate(total, values[start + offset])
          values[start + offset] = exclusive ? total : next
          total = next
        }
      }
      return [HostTensor(dtype, shape, doubles: values)]
    }
    var values = x[0].int64s
    for start in reduced.starts(shape) {
      var total: Int64 = isProduct ? 1 : 0
      for offset in offsets {
        let next = function.evaluate(total, values[start + offset], as: dtype)
        values[start + offset] = exclusive ? total : next
        total = next
      }
    }
    return [HostTensor(dtype, shape, int64s: values)]
  }

  /// Longest axis that is worth a masked reduction per element; longer ones are run serially on the host.
  private static let longestLowered = 256

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let type = results[0]
    let axis = axis < 0 ? axis + type.rank : axis
    if type.shape[axis].range.upper > Self.longestLowered { return nil }
    let (reverse, exclusive, isProduct) = (reverse, exclusive, isProduct)
    return [
      Operand(type) { coordinates, arena in
        let variable = arena.makeVariable(type.shape[axis])
        var source = coordinates
        source[axis] = variable.dim
        let comparison: ScalarFunction =
          reverse ? (exclusive ? .greater : .greater_equal) : (exclusive ? .less : .less_equal)
        let counts = arena.binary(comparison, arena.index(variable.dim), arena.index(coordinates[axis]))
        let identity = arena.constant(Int64(isProduct ? 1 : 0), type.dtype)
        let element = arena.select(counts, x[0].at(source, arena), identity)
        return arena.cast(arena.reduce(isProduct ? .prod : .sum, over: [variable], element), to: type.dtype)
      }
    ]
  }

  package func dims(_ x: [[Dim]?], _ types: [TensorType]) -> [[Dim]?]? {
    // Narrow sums wrap, which sizes do not.
    guard var dims = x[0], let shape = types[0].constantShape, !shape.contains(0), !types[0].dtype.isFloat,
      types[0].dtype.byteCount >= 4
    else { return nil }
    let reduced = ReducedAxes(axes: [axis < 0 ? axis + shape.count : axis], keepDims: false)
    let forward = reduced.offsets(shape)
    for start in reduced.starts(shape) {
      var total: Dim = isProduct ? 1 : 0
      for offset in reverse ? forward.reversed() : forward {
        let next = isProduct ? total * dims[start + offset] : total + dims[start + offset]
        dims[start + offset] = exclusive ? total : next
        total = next
      }
    }
    return [dims]
  }

  package static let samples: [Sample] = [false, true].flatMap { isProduct in
    [
      Sample(Cumulative(isProduct: isProduct, axis: 1), "f32[A, B]", where: ["A": 1...4, "B": 1...12]),
      Sample(Cumulative(isProduct: isProduct, axis: 0, exclusive: true), "i64[9, A]", where: ["A": 1...4]),
      Sample(Cumulative(isProduct: isProduct, axis: -1, reverse: true), "i32[A, 6]", where: ["A": 1...4]),
      Sample(Cumulative(isProduct: isProduct, axis: 0, exclusive: true, reverse: true), "f64[A]", where: ["A": 1...9]),
      Sample(Cumulative(isProduct: isProduct, axis: 0, reverse: true), "i8[A, 2]", where: ["A": 3000...5000]),
      Sample(
        Cumulative(isProduct: isProduct, axis: 1, exclusive: true), "f16[2, 2100, 1]",
        values: [0: isProduct ? 0.999...1.001 : -0.1...0.1]),
    ]
  }
}
