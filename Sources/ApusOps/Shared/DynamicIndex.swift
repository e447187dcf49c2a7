package import ApusCore
package import ApusKernel

extension ExprArena {
  /// An element of an index tensor as a coordinate: negative values count from the end, and what is still outside
  /// `0 ..< size` is clamped, so that a kernel never reads beyond its argument.
  func coordinate(_ value: Expr, in size: Dim) -> Dim {
    if let known = knownIndex(cast(value, to: .i64)), known.range.lower >= 0, (size - 1 - known).range.lower >= 0 {
      return known
    }
    return clamped(position(value, in: size), in: size)
  }

  /// An element of an index tensor as an i64 value in which negative ones count from the end.
  package func position(_ value: Expr, in size: Dim) -> Expr {
    let index = cast(value, to: .i64)
    let isNegative = binary(.less, index, constant(Int64(0), .i64))
    return select(isNegative, binary(.add, index, self.index(size)), index)
  }

  /// An i64 expression as a coordinate clamped into `0 ..< size`.
  package func clamped(_ index: Expr, in size: Dim) -> Dim {
    if let known = knownIndex(index) { return Dim.maximum(Dim.minimum(known, size - 1), 0) }
    let upper = binary(.min, index, self.index(size - 1))
    return dynamicIndex(binary(.max, upper, constant(Int64(0), .i64)))
  }

  /// An i64 expression that is already inside its range, as a coordinate.
  func asDim(_ index: Expr) -> Dim { knownIndex(index) ?? dynamicIndex(index) }

  private func knownIndex(_ expr: Expr) -> Dim? {
    switch self[expr] {
    case .integer(let value, _): Dim(Int(truncatingIfNeeded: value))
    case .index(let dim): dim
    default: nil
    }
  }
}
