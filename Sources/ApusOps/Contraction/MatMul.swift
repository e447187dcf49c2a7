package import ApusCore
package import ApusGraph
package import ApusKernel

/// Matrix product with numpy's rules: the last two axes multiply, those before broadcast, a vector is a row on the left
/// and a column on the right.
///
/// - Types: numeric, one type; f16 and bf16 accumulate in f32; integers wrap.
/// - Source: ONNX MatMul-13.
package struct MatMul: TensorOperation {
  package init() {}
  package init(name: String, attributes: Attributes) throws(GraphError) {}

  package var name: String { "matmul" }
  package var attributes: Attributes { [:] }

  /// The sizes of one product.
  package struct Geometry: Sendable {
    package let batch: Shape
    package let m: Dim
    package let n: Dim
    package let k: Dim
    package let aIsVector: Bool
    package let bIsVector: Bool

    package var resultShape: Shape { batch + (aIsVector ? [] : [m]) + (bIsVector ? [] : [n]) }
  }

  /// The sizes of a product of these operands.
  ///
  /// - Throws: ``ShapeError`` where inner sizes or batches cannot agree.
  package func geometry(_ a: TensorType, _ b: TensorType) throws(ShapeError) -> Geometry {
    guard let aLast = a.shape.last, let bLast = b.shape.last else {
      throw shapeError("APUS-S-0040", "operands need at least one axis: \(a) and \(b)")
    }
    let inner = b.rank == 1 ? bLast : b.shape[b.rank - 2]
    if !(aLast - inner).range.contains(0) {
      throw shapeError(
        "APUS-S-0041", "inner sizes differ: \(aLast) in \(a) and \(inner) in \(b)",
        hint: "Check for a missing transpose.")
    }
    guard let batch = Broadcasting.shape(Array(a.shape.dropLast(2)), Array(b.shape.dropLast(2))) else {
      throw shapeError("APUS-S-0042", "batches of \(a) and \(b) do not broadcast")
    }
    return Geometry(
      batch: batch, m: a.rank == 1 ? 1 : a.shape[a.rank - 2], n: b.rank == 1 ? 1 : bLast,
      k: inner.isConstant ? inner : aLast, aIsVector: a.rank == 1, bIsVector: b.rank == 1)
  }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 2...2)
    try expectSameDType(x)
    try expect(x[0].dtype.isNumeric, x[0], operand: 0, is: "a numeric tensor")
    return [x[0].with(shape: try geometry(x[0], x[1]).resultShape)]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    if shape.contains(0) { return [HostTensor(dtype, shape)] }
    guard let sizes = try? geometry(x[0].type, x[1].type), let m = sizes.m.constantValue,
      let n = sizes.n.constantValue, let k = sizes.k.constantValue
    else { return [] }
    let batch = sizes.batch.compactMap(\.constantValue)
    let aBatch = Broadcasting.indices(from: x[0].shape.dropLast(2), to: batch) ?? []
    let bBatch = Broadcasting.indices(from: x[1].shape.dropLast(2), to: batch) ?? []
    let pairs = zip(aBatch, bBatch).map { (a: $0 * m * k, b: $1 * k * n) }
    if dtype.isFloat {
      let results = Self.multiply(x[0].doubles, x[1].doubles, 0.0, pairs, (m, n, k)) { $0 += $1 * $2 }
      return [HostTensor(dtype, shape, doubles: results)]
    }
    let results = Self.multiply(x[0].int64s, x[1].int64s, 0, pairs, (m, n, k)) { $0 &+= $1 &* $2 }
    return [HostTensor(dtype, shape, int64s: results)]
  }

  private static func multiply<Element>(
    _ a: [Element], _ b: [Element], _ zero: Element, _ pairs: [(a: Int, b: Int)], _ sizes: (m: Int, n: Int, k: Int),
    _ accumulate: (inout Element, Element, Element) -> Void
  ) -> [Element] {
    let (m, n, k) = sizes
    var results = [Element](repeating: zero, count: pairs.count * m * n)
    for (index, pair) in pairs.enumerated() {
      for row in 0..<m {
        let target = (index * m + row) * n
        for inner in 0..<k {
          let factor = a[pair.a + row * k + inner]
          let source = pair.b + inner * n
          for column in 0..<n { accumulate(&results[target + column], factor, b[source + column]) }
        }
      }
    }
    return results
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    guard let sizes = try? geometry(x[0].type, x[1].type) else { return nil }
    let (a, b) = (x[0], x[1])
    let rank = sizes.batch.count
    return [
      Operand(results[0]) { coordinates, arena in
        let variable = arena.makeVariable(sizes.k)
        let batch = Array(coordinates.prefix(rank))
        let left =
          sizes.aIsVector
          ? a.at([variable.dim], arena)
          : a.broadcast(
            .coordinates(batch + [coordinates[rank], variable.dim]), of: sizes.batch + a.type.shape.suffix(2), arena)
        let right =
          sizes.bIsVector
          ? b.at([variable.dim], arena)
          : b.broadcast(
            .coordinates(batch + [variable.dim, coordinates[coordinates.count - 1]]),
            of: sizes.batch + b.type.shape.suffix(2), arena)
        let sum = arena.reduce(.sum, over: [variable], arena.binary(.mul, left, right))
        return arena.cast(sum, to: results[0].dtype)
      }
    ]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim {
    guard x.count == 2, let a = x[0].tensor, let b = x[1].tensor, let sizes = try? geometry(a, b) else { return 0 }
    return 2 * sizes.m * sizes.n * sizes.k * Dim.product(sizes.batch)
  }

  package static let samples: [Sample] = {
    let sizes = ["M": 1...7, "N": 1...9, "K": 1...20, "B": 1...3]
    return [
      Sample(MatMul(), "f32[M, K]", "f32[K, N]", where: sizes),
      Sample(MatMul(), "f16[M, K]", "f16[K, N]", where: sizes),
      Sample(MatMul(), "bf16[B, M, K]", "bf16[K, N]", where: sizes),
      Sample(MatMul(), "f64[B, 1, M, K]", "f64[3, K, N]", where: sizes),
      Sample(MatMul(), "i32[M, K]", "i32[B, K, N]", where: sizes),
      Sample(MatMul(), "i8[M, K]", "i8[K, 4]", where: sizes),
      Sample(MatMul(), "f32[K]", "f32[B, K, N]", where: sizes),
      Sample(MatMul(), "f32[B, M, K]", "f32[K]", where: sizes),
      Sample(MatMul(), "f32[K]", "f32[K]", where: sizes),
      Sample(MatMul(), "f32[M, 0]", "f32[0, N]", where: sizes),
    ]
  }()
}
