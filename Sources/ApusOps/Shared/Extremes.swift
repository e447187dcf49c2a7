import ApusCore
import ApusKernel

extension DType {
  /// The smallest and largest value of an integer type (u64 as bit patterns), or of bool.
  var integerBounds: (lowest: Int64, highest: Int64) {
    switch self {
    case .bool: (0, 1)
    case .u64: (0, -1)
    case .i64: (.min, .max)
    default:
      isUnsignedInteger
        ? (0, (1 << Int64(bitWidth)) - 1) : (-(1 << Int64(bitWidth - 1)), (1 << Int64(bitWidth - 1)) - 1)
    }
  }
}

extension ExprArena {
  /// A value that no element of the type is below: −∞ for floats.
  func lowest(_ dtype: DType) -> Expr {
    dtype.isFloat ? constant(-Double.infinity, dtype) : constant(dtype.integerBounds.lowest, dtype)
  }
}
