import ApusCore
import ApusKernel

extension ExprArena {
  /// A value that no element of the type is below: −∞ for floats.
  func lowest(_ dtype: DType) -> Expr {
    dtype.isFloat ? constant(-Double.infinity, dtype) : constant(dtype.integerBounds.lowest, dtype)
  }

  /// A value that no element of the type is above: ∞ for floats.
  func highest(_ dtype: DType) -> Expr {
    dtype.isFloat ? constant(Double.infinity, dtype) : constant(dtype.integerBounds.highest, dtype)
  }
}
