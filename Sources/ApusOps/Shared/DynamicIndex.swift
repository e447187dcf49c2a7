import ApusCore
import ApusKernel

extension ExprArena {
  /// An element of an index tensor as a coordinate: negative values count from the end, and what is still outside
  /// `0 ..< size` is clamped, so that a kernel never reads beyond its argument.
  func coordinate(_ value: Expr, in size: Dim) -> Dim {
    let index = cast(value, to: .i64)
    if let known = knownIndex(index), known.range.lower >= 0, (size - 1 - known).range.lower >= 0 { return known }
    let isNegative = binary(.less, index, constant(Int64(0), .i64))
    return clamped(select(isNegative, binary(.add, index, self.index(size)), index), in: size)
  }

  /// An i64 expression as a coordinate clamped into `0 ..< size`.
  func clamped(_ index: Expr, in size: Dim) -> Dim {
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
