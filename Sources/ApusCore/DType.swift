/// The element type of a tensor.
///
/// Sub-byte types are stored unpacked on the host, one element per byte; ``bitWidth`` gives the width that a file or a
/// device may pack them to.
public enum DType: String, CaseIterable, Sendable, Hashable {
  case f64, f32, f16, bf16
  case f8e4m3fn, f8e4m3fnuz, f8e5m2, f8e5m2fnuz, f8e8m0, f4e2m1
  case i64, i32, i16, i8, i4, i2
  case u64, u32, u16, u8, u4, u2
  case bool
  case string

  /// Width of one element in bits, as packed in files; 0 for `string`.
  public var bitWidth: Int {
    switch self {
    case .f64, .i64, .u64: 64
    case .f32, .i32, .u32: 32
    case .f16, .bf16, .i16, .u16: 16
    case .f8e4m3fn, .f8e4m3fnuz, .f8e5m2, .f8e5m2fnuz, .f8e8m0, .i8, .u8, .bool: 8
    case .f4e2m1, .i4, .u4: 4
    case .i2, .u2: 2
    case .string: 0
    }
  }

  /// Bytes of one element in host memory; 0 for `string`, whose elements are kept beside the bytes.
  public var byteCount: Int { self == .string ? 0 : Swift.max(1, bitWidth / 8) }

  public var isFloat: Bool {
    switch self {
    case .f64, .f32, .f16, .bf16, .f8e4m3fn, .f8e4m3fnuz, .f8e5m2, .f8e5m2fnuz, .f8e8m0, .f4e2m1: true
    default: false
    }
  }

  public var isSignedInteger: Bool {
    switch self {
    case .i64, .i32, .i16, .i8, .i4, .i2: true
    default: false
    }
  }

  public var isUnsignedInteger: Bool {
    switch self {
    case .u64, .u32, .u16, .u8, .u4, .u2: true
    default: false
    }
  }

  public var isInteger: Bool { isSignedInteger || isUnsignedInteger }
  public var isNumeric: Bool { isFloat || isInteger }
}

extension DType: CustomStringConvertible {
  public var description: String { rawValue }
}
