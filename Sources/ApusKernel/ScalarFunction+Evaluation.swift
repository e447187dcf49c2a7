package import ApusCore

extension DType {
  /// The value that an integer type (or bool) of this width holds after wrapping; u64 keeps its bit pattern.
  package func wrapping(_ value: Int64) -> Int64 {
    switch self {
    case .bool: return value == 0 ? 0 : 1
    case .i64, .u64: return value
    default:
      let unused = Int64(64 - bitWidth)
      return isUnsignedInteger ? value & ((1 << Int64(bitWidth)) - 1) : (value << unused) >> unused
    }
  }
}

// MARK: Floats

extension ScalarFunction {
  /// The function on floats, in f64; predicates give 0 or 1. NaN goes through `min` and `max`.
  package func evaluate(_ x: Double, _ y: Double = 0) -> Double {
    switch self {
    case .add: x + y
    case .sub: x - y
    case .mul: x * y
    case .div: x / y
    case .floor_mod: Self.floorModulo(x, y)
    case .fmod: CMath.fmod(x, y)
    case .pow: CMath.pow(x, y)
    case .min: x.isNaN ? x : y.isNaN ? y : Swift.min(x, y)
    case .max: x.isNaN ? x : y.isNaN ? y : Swift.max(x, y)
    case .equal: x == y ? 1 : 0
    case .not_equal: x != y ? 1 : 0
    case .less: x < y ? 1 : 0
    case .less_equal: x <= y ? 1 : 0
    case .greater: x > y ? 1 : 0
    case .greater_equal: x >= y ? 1 : 0
    case .and: x != 0 && y != 0 ? 1 : 0
    case .or: x != 0 || y != 0 ? 1 : 0
    case .xor: (x != 0) != (y != 0) ? 1 : 0
    case .not: x == 0 ? 1 : 0
    case .is_nan: x.isNaN ? 1 : 0
    case .is_inf: x.isInfinite ? 1 : 0
    case .is_positive_inf: x == .infinity ? 1 : 0
    case .is_negative_inf: x == -.infinity ? 1 : 0
    case .bit_not, .bit_and, .bit_or, .bit_xor, .shift_left, .shift_right: .nan
    default: evaluateUnary(x)
    }
  }

  private func evaluateUnary(_ x: Double) -> Double {
    switch self {
    case .neg: -x
    case .abs: x.magnitude
    case .sign: x.isNaN ? x : x > 0 ? 1 : x < 0 ? -1 : 0
    case .floor: x.rounded(.down)
    case .ceil: x.rounded(.up)
    case .round: x.rounded(.toNearestOrEven)
    case .trunc: x.rounded(.towardZero)
    case .sqrt: x.squareRoot()
    case .rsqrt: 1 / x.squareRoot()
    case .reciprocal: 1 / x
    case .exp: CMath.exp(x)
    case .expm1: CMath.expm1(x)
    case .log: CMath.log(x)
    case .log1p: CMath.log1p(x)
    case .sin: CMath.sin(x)
    case .cos: CMath.cos(x)
    case .tan: CMath.tan(x)
    case .asin: CMath.asin(x)
    case .acos: CMath.acos(x)
    case .atan: CMath.atan(x)
    case .sinh: CMath.sinh(x)
    case .cosh: CMath.cosh(x)
    case .tanh: CMath.tanh(x)
    case .asinh: CMath.asinh(x)
    case .acosh: CMath.acosh(x)
    case .atanh: CMath.atanh(x)
    case .erf: CMath.erf(x)
    default: evaluateActivation(x)
    }
  }

  private func evaluateActivation(_ x: Double) -> Double {
    switch self {
    case .sigmoid: Self.sigmoid(x)
    case .softplus: Self.softplus(x)
    case .relu: x < 0 ? 0 : x
    case .gelu: 0.5 * x * (1 + CMath.erf(x * 0.5.squareRoot()))
    case .gelu_tanh: 0.5 * x * (1 + CMath.tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
    case .silu: x * Self.sigmoid(x)
    case .hard_swish: x * Swift.max(0, Swift.min(1, x / 6 + 0.5))
    case .softsign: x / (1 + x.magnitude)
    case .mish: x * CMath.tanh(Self.softplus(x))
    default: .nan
    }
  }

  private static func sigmoid(_ x: Double) -> Double { 1 / (1 + CMath.exp(-x)) }

  private static func softplus(_ x: Double) -> Double {
    x.isNaN ? x : Swift.max(x, 0) + CMath.log1p(CMath.exp(-x.magnitude))
  }

  private static func floorModulo(_ x: Double, _ y: Double) -> Double {
    let rest = CMath.fmod(x, y)
    return rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest
  }
}

// MARK: Integers

extension ScalarFunction {
  /// The function on integers or bools of `dtype`, wrapped to its width; u64 values are bit patterns, predicates give 0
  /// or 1.
  ///
  /// Nothing traps: a division by zero gives 0, the smallest value divided by −1 wraps to itself, a shift by the width or
  /// more (or by a negative amount) shifts every bit out, and a negative exponent gives the truncated quotient.
  package func evaluate(_ x: Int64, _ y: Int64 = 0, as dtype: DType) -> Int64 {
    switch self {
    case .equal: return x == y ? 1 : 0
    case .not_equal: return x != y ? 1 : 0
    case .less, .less_equal, .greater, .greater_equal:
      return compare(x, y, unsigned: dtype == .u64) ? 1 : 0
    case .and: return x != 0 && y != 0 ? 1 : 0
    case .or: return x != 0 || y != 0 ? 1 : 0
    case .xor: return (x != 0) != (y != 0) ? 1 : 0
    case .not: return x == 0 ? 1 : 0
    case .is_nan, .is_inf, .is_positive_inf, .is_negative_inf: return 0
    default: return dtype.wrapping(dtype == .u64 ? computeUnsigned(x, y) : compute(x, y, dtype))
    }
  }

  private func compare(_ x: Int64, _ y: Int64, unsigned: Bool) -> Bool {
    let isLess = unsigned ? UInt64(bitPattern: x) < UInt64(bitPattern: y) : x < y
    switch self {
    case .less: return isLess
    case .less_equal: return isLess || x == y
    case .greater: return !isLess && x != y
    default: return !isLess
    }
  }

  private func compute(_ x: Int64, _ y: Int64, _ dtype: DType) -> Int64 {
    switch self {
    case .neg: 0 &- x
    case .abs: x < 0 ? 0 &- x : x
    case .sign: x.signum()
    case .floor, .ceil, .round, .trunc: x
    case .relu: Swift.max(x, 0)
    case .div: y == 0 ? 0 : x.dividedReportingOverflow(by: y).partialValue
    case .fmod: y == 0 ? 0 : x.remainderReportingOverflow(dividingBy: y).partialValue
    case .floor_mod: Self.floorModulo(x, y)
    case .min: Swift.min(x, y)
    case .max: Swift.max(x, y)
    case .shift_right: Self.isShiftedOut(y, dtype) ? (x < 0 ? -1 : 0) : x >> y
    case .shift_left: Self.isShiftedOut(y, dtype) ? 0 : x << y
    default: computeBits(x, y)
    }
  }

  private func computeUnsigned(_ x: Int64, _ y: Int64) -> Int64 {
    let a = UInt64(bitPattern: x)
    let b = UInt64(bitPattern: y)
    switch self {
    case .abs, .floor, .ceil, .round, .trunc, .relu: return x
    case .neg: return 0 &- x
    case .sign: return x == 0 ? 0 : 1
    case .div: return b == 0 ? 0 : Int64(bitPattern: a / b)
    case .fmod, .floor_mod: return b == 0 ? 0 : Int64(bitPattern: a % b)
    case .min: return Int64(bitPattern: Swift.min(a, b))
    case .max: return Int64(bitPattern: Swift.max(a, b))
    case .shift_left: return Self.isShiftedOut(y, .u64) ? 0 : Int64(bitPattern: a << b)
    case .shift_right: return Self.isShiftedOut(y, .u64) ? 0 : Int64(bitPattern: a >> b)
    default: return computeBits(x, y)
    }
  }

  private func computeBits(_ x: Int64, _ y: Int64) -> Int64 {
    switch self {
    case .add: x &+ y
    case .sub: x &- y
    case .mul: x &* y
    case .bit_not: ~x
    case .bit_and: x & y
    case .bit_or: x | y
    case .bit_xor: x ^ y
    case .pow: Self.power(x, y)
    default: 0
    }
  }

  private static func isShiftedOut(_ amount: Int64, _ dtype: DType) -> Bool {
    amount < 0 || amount >= Int64(dtype.bitWidth)
  }

  private static func floorModulo(_ x: Int64, _ y: Int64) -> Int64 {
    if y == 0 || y == -1 { return 0 }
    let rest = x % y
    return rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest
  }

  private static func power(_ base: Int64, _ exponent: Int64) -> Int64 {
    if exponent < 0 { return base == 1 ? 1 : base == -1 ? (exponent % 2 == 0 ? 1 : -1) : 0 }
    var result: Int64 = 1
    var square = base
    var rest = exponent
    while rest > 0 {
      if rest & 1 == 1 { result = result &* square }
      square = square &* square
      rest >>= 1
    }
    return result
  }
}

// MARK: Domains

extension ScalarFunction {
  /// The element types a function is defined on.
  package enum Domain: Sendable {
    case any, ordered, numbers, floats, integers, bools
  }

  package var domain: Domain {
    switch self {
    case .equal, .not_equal: .any
    case .less, .less_equal, .greater, .greater_equal: .ordered
    case .neg, .abs, .sign, .floor, .ceil, .round, .trunc, .relu, .add, .sub, .mul, .div, .floor_mod, .fmod, .pow,
      .min, .max:
      .numbers
    case .and, .or, .xor, .not: .bools
    case .bit_not, .bit_and, .bit_or, .bit_xor, .shift_left, .shift_right: .integers
    default: .floats
    }
  }

  package func accepts(_ dtype: DType) -> Bool {
    switch domain {
    case .any: true
    case .ordered: dtype != .string
    case .numbers: dtype.isNumeric
    case .floats: dtype.isFloat
    case .integers: dtype.isInteger
    case .bools: dtype == .bool
    }
  }

  /// Whether a result for operands of a float type is always a value of that type, so that it needs no rounding.
  package var isExact: Bool {
    switch self {
    case .neg, .abs, .sign, .floor, .ceil, .round, .trunc, .relu, .min, .max: true
    default: isPredicate
    }
  }
}
