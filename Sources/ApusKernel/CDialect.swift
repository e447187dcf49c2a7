package import ApusCore

/// How scalars, functions and constants are spelled in C and its relatives, on top of a prelude, functions of mathematics and
/// `scalar.h`.
package enum CDialect {
  /// The type that elements are stored as.
  package static func storage(_ dtype: DType) -> String {
    switch dtype {
    case .f16, .bf16: "u16"
    case .f8e4m3fn, .f8e4m3fnuz, .f8e5m2, .f8e5m2fnuz, .f8e8m0, .f4e2m1: "u8"
    default: scalar(dtype)
    }
  }

  /// The type that values are computed in.
  package static func scalar(_ dtype: DType) -> String {
    switch dtype {
    case .f64: "double"
    case .f32: "float"
    case .i64: "i64"
    case .i32: "i32"
    case .i16: "i16"
    case .i8, .i4, .i2: "i8"
    case .u64: "u64"
    case .u32: "u32"
    case .u16: "u16"
    default: "u8"
    }
  }

  package static func float(_ value: Double, _ dtype: DType) -> String {
    let suffix = dtype == .f32 ? "f" : ""
    if value.isNaN { return "__builtin_nan\(suffix)(\"\")" }
    if value.isInfinite { return (value < 0 ? "-" : "") + "__builtin_inf\(suffix)()" }
    let rounded = dtype == .f32 ? Double(Float(value)) : value
    if rounded.isInfinite { return (rounded < 0 ? "-" : "") + "__builtin_inf\(suffix)()" }
    return hexadecimal(rounded) + suffix
  }

  /// C's exact hexadecimal notation of a finite value.
  private static func hexadecimal(_ value: Double) -> String {
    if value == 0 { return value.sign == .minus ? "-0x0p+0" : "0x0p+0" }
    let digits = String(value.significandBitPattern, radix: 16)
    let fraction = String(repeating: "0", count: 13 - digits.count) + digits
    let sign = value < 0 ? "-" : ""
    if value.isNormal { return "\(sign)0x1.\(fraction)p\(value.exponent)" }
    return "\(sign)0x0.\(fraction)p-1022"
  }

  package static func integer(_ value: Int64, _ dtype: DType) -> String {
    switch dtype {
    case .i64: value == .min ? "(-0x7fffffffffffffffL - 1)" : "\(value)L"
    case .u64: "\(UInt64(bitPattern: value))UL"
    case .u32: "\(UInt32(truncatingIfNeeded: value))u"
    default: value == Int64(Int32.min) ? "(-0x7fffffff - 1)" : "\(value)"
    }
  }

  /// The element of `buffer` at `index`, widened to its compute type.
  package static func load(_ buffer: String, _ index: String, _ dtype: DType) -> String {
    switch dtype {
    case .f16: "apus_f16_f32(\(buffer)[\(index)])"
    case .bf16: "apus_bf16_f32(\(buffer)[\(index)])"
    case .f8e4m3fn, .f8e4m3fnuz, .f8e5m2, .f8e5m2fnuz, .f8e8m0, .f4e2m1:
      "apus_\(dtype)_f32(\(buffer)[\(index)])"
    default: "\(buffer)[\(index)]"
    }
  }

  /// A value of the compute type narrowed to what is stored.
  package static func stored(_ value: String, _ dtype: DType) -> String {
    switch dtype {
    case .f16: "apus_f32_f16(\(value))"
    case .bf16: "apus_f32_bf16(\(value))"
    case .f8e4m3fn, .f8e4m3fnuz, .f8e5m2, .f8e5m2fnuz, .f8e8m0, .f4e2m1: "apus_f32_\(dtype)(\(value))"
    case .i4: "(i8)(((i8)((\(value)) << 4)) >> 4)"
    case .i2: "(i8)(((i8)((\(value)) << 6)) >> 6)"
    case .u4: "(u8)((\(value)) & 15)"
    case .u2: "(u8)((\(value)) & 3)"
    default: value
    }
  }

  /// A compute-type value rounded to what `dtype` holds, still of the compute type.
  package static func rounded(_ value: String, _ dtype: DType) -> String {
    switch dtype {
    case .f16: "apus_f16_f32(apus_f32_f16(\(value)))"
    case .bf16: "apus_bf16_f32(apus_f32_bf16(\(value)))"
    case .f8e4m3fn, .f8e4m3fnuz, .f8e5m2, .f8e5m2fnuz, .f8e8m0, .f4e2m1:
      "apus_\(dtype)_f32(apus_f32_\(dtype)(\(value)))"
    default: stored(value, dtype)
    }
  }

  package static func cast(_ value: String, from source: DType, to target: DType) -> String {
    if target == .bool { return "(u8)(\(value) != 0)" }
    if source.isFloat, target.isInteger { return "apus_\(source)_to_\(scalar(target))(\(value))" }
    return "(\(scalar(target)))(\(value))"
  }

  package static func unary(_ function: ScalarFunction, _ x: String, _ dtype: DType) -> String {
    let type = scalar(dtype)
    switch function {
    case .not: return "(u8)(!\(x))"
    case .bit_not: return "(\(type))(~\(x))"
    case .neg: return "(\(type))(-(\(x)))"
    case .is_nan: return dtype.isFloat ? "(u8)(\(x) != \(x))" : "(u8)0"
    case .is_inf, .is_positive_inf, .is_negative_inf:
      guard dtype.isFloat else { return "(u8)0" }
      let infinity = dtype == .f32 ? "__builtin_inff()" : "__builtin_inf()"
      if function == .is_positive_inf { return "(u8)(\(x) == \(infinity))" }
      if function == .is_negative_inf { return "(u8)(\(x) == -\(infinity))" }
      return "(u8)(\(x) == \(infinity) || \(x) == -\(infinity))"
    case .floor, .ceil, .round, .trunc: if !dtype.isFloat { return x }
    default: break
    }
    return "apus_\(function)_\(dtype.isFloat ? "\(dtype)" : type)(\(x))"
  }

  package static func binary(_ function: ScalarFunction, _ x: String, _ y: String, _ dtype: DType, _ right: DType)
    -> String
  {
    let type = scalar(dtype)
    switch function {
    case .add: return dtype.isFloat ? "\(x) + \(y)" : "(\(type))(\(x) + \(y))"
    case .sub: return dtype.isFloat ? "\(x) - \(y)" : "(\(type))(\(x) - \(y))"
    case .mul: return dtype.isFloat ? "\(x) * \(y)" : "(\(type))(\(x) * \(y))"
    case .div: return dtype.isFloat ? "\(x) / \(y)" : "apus_div_\(type)(\(x), \(y))"
    case .equal: return "(u8)(\(x) == \(y))"
    case .not_equal: return "(u8)(\(x) != \(y))"
    case .less: return "(u8)(\(x) < \(y))"
    case .less_equal: return "(u8)(\(x) <= \(y))"
    case .greater: return "(u8)(\(x) > \(y))"
    case .greater_equal: return "(u8)(\(x) >= \(y))"
    case .and, .bit_and: return "(\(type))(\(x) & \(y))"
    case .or, .bit_or: return "(\(type))(\(x) | \(y))"
    case .xor, .bit_xor: return "(\(type))(\(x) ^ \(y))"
    case .shift_left, .shift_right: return "apus_\(function)_\(type)(\(x), (u64)(\(y)))"
    case .pow:
      if dtype.isFloat { return "apus_pow_\(dtype)(\(x), (\(type))(\(y)))" }
      return right.isFloat
        ? "(\(type))__builtin_pow((double)(\(x)), (double)(\(y)))" : "apus_pow_\(type)(\(x), (i64)(\(y)))"
    default: return "apus_\(function)_\(dtype.isFloat ? "\(dtype)" : type)(\(x), \(y))"
    }
  }

  package static func identity(_ reduction: Reduction, _ dtype: DType) -> String {
    switch reduction {
    case .sum, .or: return dtype.isFloat ? float(0, dtype) : "0"
    case .prod, .and: return dtype.isFloat ? float(1, dtype) : "1"
    case .min, .argmin: return dtype.isFloat ? float(.infinity, dtype) : integer(limit(dtype, high: true), dtype)
    case .max, .argmax: return dtype.isFloat ? float(-.infinity, dtype) : integer(limit(dtype, high: false), dtype)
    }
  }

  private static func limit(_ dtype: DType, high: Bool) -> Int64 {
    if dtype == .bool { return high ? 1 : 0 }
    if dtype.isUnsignedInteger { return high ? (dtype == .u64 ? -1 : (1 << Int64(dtype.bitWidth)) - 1) : 0 }
    if dtype.bitWidth == 64 { return high ? .max : .min }
    let half: Int64 = 1 << Int64(dtype.bitWidth - 1)
    return high ? half - 1 : -half
  }

  package static func combine(_ reduction: Reduction, _ a: String, _ b: String, _ dtype: DType) -> String {
    switch reduction {
    case .sum: binary(.add, a, b, dtype, dtype)
    case .prod: binary(.mul, a, b, dtype, dtype)
    case .min, .argmin: binary(.min, a, b, dtype, dtype)
    case .max, .argmax: binary(.max, a, b, dtype, dtype)
    case .and: binary(.and, a, b, dtype, dtype)
    case .or: binary(.or, a, b, dtype, dtype)
    }
  }
}
