package import ApusCore

/// A function of one or two scalars: the vocabulary of kernel expressions and of the element-wise operations, which bear
/// the same names.
package enum ScalarFunction: String, CaseIterable, Sendable, Hashable {
  // One operand.
  case neg, abs, sign, floor, ceil, round, trunc, sqrt, rsqrt, reciprocal
  case exp, expm1, log, log1p, sin, cos, tan, asin, acos, atan, sinh, cosh, tanh, asinh, acosh, atanh
  case erf, sigmoid, softplus, relu, gelu, silu
  case gelu_tanh, hard_swish, softsign, mish
  case not, bit_not, is_nan, is_inf, is_positive_inf, is_negative_inf
  // Two operands.
  case add, sub, mul, div, floor_mod, fmod, pow, min, max
  case equal, not_equal, less, less_equal, greater, greater_equal
  case and, or, xor, bit_and, bit_or, bit_xor, shift_left, shift_right

  package var arity: Int {
    switch self {
    case .add, .sub, .mul, .div, .floor_mod, .fmod, .pow, .min, .max, .equal, .not_equal, .less, .less_equal, .greater,
      .greater_equal, .and, .or, .xor, .bit_and, .bit_or, .bit_xor, .shift_left, .shift_right:
      2
    default: 1
    }
  }

  /// Whether results jump where operands hardly differ.
  package var hasSteps: Bool {
    switch self {
    case .sign, .floor, .ceil, .round, .trunc, .is_nan, .is_inf, .is_positive_inf, .is_negative_inf, .floor_mod, .fmod,
      .equal, .not_equal, .less, .less_equal, .greater, .greater_equal:
      true
    default: false
    }
  }

  package var isCommutative: Bool {
    switch self {
    case .add, .mul, .min, .max, .equal, .not_equal, .and, .or, .xor, .bit_and, .bit_or, .bit_xor: true
    default: false
    }
  }

  /// Whether the result is bool whatever the operands are.
  package var isPredicate: Bool {
    switch self {
    case .equal, .not_equal, .less, .less_equal, .greater, .greater_equal, .and, .or, .xor, .not, .is_nan, .is_inf,
      .is_positive_inf, .is_negative_inf:
      true
    default: false
    }
  }

  /// Whether a call costs many instructions, so that computing it twice should be avoided.
  package var isExpensive: Bool {
    switch self {
    case .exp, .expm1, .log, .log1p, .sin, .cos, .tan, .asin, .acos, .atan, .sinh, .cosh, .tanh, .asinh, .acosh, .atanh,
      .erf, .sigmoid, .softplus, .gelu, .silu, .gelu_tanh, .mish, .pow, .fmod, .floor_mod:
      true
    default: false
    }
  }

  /// The dtype of the result for operands of `dtype`.
  package func resultType(_ dtype: DType) -> DType { isPredicate ? .bool : dtype }
}

/// How a reduction combines elements.
package enum Reduction: String, CaseIterable, Sendable, Hashable {
  case sum, prod, min, max
  /// Index of the first extreme element along one axis.
  case argmin, argmax
  case and, or
}
