import ApusCore
import ApusGraph

/// Matrix products and what is written with them.
enum ContractionOperators {
  static let table: [String: Lowering] = [
    "MatMul": matmul, "Gemm": gemm, "MatMulInteger": matmulInteger, "com.microsoft::FusedMatMul": fusedMatmul,
    "com.microsoft::TransposeMatMul": fusedMatmul, "Det": det,
  ]

  private static func matmul(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    [try n("matmul", n.input(0), n.input(1))]
  }

  /// The last two axes exchanged.
  static func transposed(_ n: NodeContext, _ x: ValueID) throws(ImportError) -> ValueID {
    let rank = try n.shape(x, minimumRank: 2, "the operand").count
    var order = Array(0..<rank)
    order.swapAt(rank - 1, rank - 2)
    return try n.transpose(x, order)
  }

  static func gemm(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    var a = try n.input(0)
    var b = try n.input(1)
    _ = try n.shape(a, rank: 2, "a")
    _ = try n.shape(b, rank: 2, "b")
    if try n.flag("transA") { a = try n.transpose(a, [1, 0]) }
    if try n.flag("transB") { b = try n.transpose(b, [1, 0]) }
    var product = try n("matmul", a, b)
    let alpha = try n.float("alpha", 1)
    if alpha != 1 { product = try n("mul", product, n.scalar(alpha, like: product)) }
    let beta = try n.float("beta", 1)
    guard var c = n.optional(2), beta != 0 else { return [product] }
    if beta != 1 { c = try n("mul", c, n.scalar(beta, like: c)) }
    return [try n("add", product, c)]
  }

  private static func fusedMatmul(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    for name in ["transBatchA", "transBatchB"] where try n.flag(name) {
      throw .unsupported("with transposed batch axes")
    }
    var a = try n.input(0)
    var b = try n.input(1)
    if try n.flag("transA") { a = try transposed(n, a) }
    if try n.flag("transB") { b = try transposed(n, b) }
    let product = try n("matmul", a, b)
    let alpha = try n.float("alpha", 1)
    return [alpha == 1 ? product : try n("mul", product, n.scalar(alpha, like: product))]
  }

  /// Integers widened to i32, less their zero point. A zero point of rank 1 belongs to the axis given.
  static func widened(
    _ n: NodeContext, _ x: ValueID, zeroPoint: ValueID?, axis: Int
  ) throws(ImportError) -> ValueID {
    let wide = try n.cast(x, .i32)
    guard let zeroPoint else { return wide }
    if let tensor = n.constant(zeroPoint), tensor.ints.allSatisfy({ $0 == 0 }) { return wide }
    var zero = try n.cast(zeroPoint, .i32)
    let rank = try n.rank(x)
    if try n.rank(zero) == 1, try n.shape(zero) != [1] {
      zero = try n.reshape(zero, n.shape(zero) + Shape(repeating: 1, count: max(0, rank - 1 - axis)))
    } else if try n.rank(zero) == 1 {
      zero = try n.reshape(zero, [])
    }
    return try n("sub", wide, zero)
  }

  private static func matmulInteger(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let a = try n.input(0)
    let b = try n.input(1)
    let rows = max(0, try n.rank(a) - 2)
    let columns = max(0, try n.rank(b) - 1)
    return [
      try n(
        "matmul", widened(n, a, zeroPoint: n.optional(2), axis: rows),
        widened(n, b, zeroPoint: n.optional(3), axis: columns))
    ]
  }

  /// Largest matrix whose determinant is written out.
  private static let determinantLimit = 4

  /// The determinant by expansion along rows.
  private static func det(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let shape = try n.shape(x, minimumRank: 2)
    guard let size = shape[shape.count - 1].constantValue, shape[shape.count - 2].constantValue == size, size > 0 else {
      throw ImportError("APUS-I-0013", "the last two dims must be known and equal, found \(Array(shape.suffix(2)))")
    }
    if size > determinantLimit { throw .unsupported("for matrices larger than \(determinantLimit)") }
    return [try minor(n, x, row: 0, columns: Array(0..<size))]
  }

  /// The determinant of the rows from `row` on, restricted to some columns.
  private static func minor(_ n: NodeContext, _ x: ValueID, row: Int, columns: [Int]) throws(ImportError) -> ValueID {
    let rank = try n.rank(x)
    let line = try n.slice(x, axis: rank - 2, start: Dim(row), size: 1)
    var sum: ValueID?
    for (index, column) in columns.enumerated() {
      let cell = try n.slice(line, axis: rank - 1, start: Dim(column), size: 1)
      var term = try n.squeeze(cell, [rank - 2, rank - 1])
      if columns.count > 1 {
        term = try n("mul", term, minor(n, x, row: row + 1, columns: columns.filter { $0 != column }))
      }
      if let previous = sum {
        sum = try n(index % 2 == 0 ? "add" : "sub", previous, term)
      } else {
        sum = term
      }
    }
    guard let sum else { throw .unsupported() }
    return sum
  }
}
