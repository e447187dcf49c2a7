/// How a float format of at most 16 bits lays out its bits and treats its extremes.
///
/// Source: OCP 8-bit Floating Point Specification 1.0, OCP Microscaling Formats 1.0, ONNX float8 notes.
package struct SmallFloat: Sendable {
  package enum Specials: Sendable {
    /// IEEE: the all-ones exponent is infinity or NaN.
    case ieee
    /// No infinity; the all-ones pattern (with either sign) is NaN.
    case nanOnly
    /// No infinity, no −0; the pattern of −0 is NaN.
    case unsignedZero
    /// Every pattern is a number.
    case none
  }

  package let exponentBits: Int
  package let mantissaBits: Int
  package let bias: Int
  package let specials: Specials

  package static let f16 = SmallFloat(exponentBits: 5, mantissaBits: 10, bias: 15, specials: .ieee)
  package static let bf16 = SmallFloat(exponentBits: 8, mantissaBits: 7, bias: 127, specials: .ieee)
  package static let f8e4m3fn = SmallFloat(exponentBits: 4, mantissaBits: 3, bias: 7, specials: .nanOnly)
  package static let f8e4m3fnuz = SmallFloat(exponentBits: 4, mantissaBits: 3, bias: 8, specials: .unsignedZero)
  package static let f8e5m2 = SmallFloat(exponentBits: 5, mantissaBits: 2, bias: 15, specials: .ieee)
  package static let f8e5m2fnuz = SmallFloat(exponentBits: 5, mantissaBits: 2, bias: 16, specials: .unsignedZero)
  package static let f4e2m1 = SmallFloat(exponentBits: 2, mantissaBits: 1, bias: 1, specials: .none)

  private var signShift: Int { exponentBits + mantissaBits }
  private var magnitudeMask: UInt16 { UInt16((1 << signShift) - 1) }
  private var nanPattern: UInt16 {
    switch specials {
    case .ieee: UInt16(((1 << exponentBits) - 1) << mantissaBits | 1 << (mantissaBits - 1))
    case .nanOnly: magnitudeMask
    case .unsignedZero: UInt16(1 << signShift)
    case .none: magnitudeMask
    }
  }
  /// The largest finite magnitude's pattern.
  private var largestPattern: UInt16 {
    switch specials {
    case .ieee: UInt16((((1 << exponentBits) - 1) << mantissaBits) - 1)
    case .nanOnly: magnitudeMask - 1
    case .unsignedZero, .none: magnitudeMask
    }
  }

  package func decode(_ bits: UInt16) -> Double {
    let negative = (bits >> UInt16(signShift)) & 1 == 1
    let magnitude = bits & magnitudeMask
    if specials == .unsignedZero, negative, magnitude == 0 { return .nan }
    if specials == .nanOnly, magnitude == magnitudeMask { return .nan }
    let exponent = Int(magnitude) >> mantissaBits
    let mantissa = Int(magnitude) & ((1 << mantissaBits) - 1)
    if specials == .ieee, exponent == (1 << exponentBits) - 1 {
      return mantissa == 0 ? (negative ? -.infinity : .infinity) : .nan
    }
    let significand = exponent == 0 ? mantissa : mantissa + (1 << mantissaBits)
    let scale = Double(sign: .plus, exponent: max(exponent, 1) - bias - mantissaBits, significand: 1)
    let value = Double(significand) * scale
    return negative ? -value : value
  }

  /// Rounds to nearest even. `saturating` clamps what does not fit to the largest finite value instead of infinity (or
  /// NaN where the format has no infinity).
  package func encode(_ value: Double, saturating: Bool) -> UInt16 {
    let sign: UInt16 = value.sign == .minus ? UInt16(1) << UInt16(signShift) : 0
    if value.isNaN {
      // A format without NaN gives its negative zero.
      if specials == .none { return UInt16(1) << UInt16(signShift) }
      return specials == .unsignedZero ? nanPattern : (sign | nanPattern)
    }
    let magnitude = value.magnitude
    if magnitude == 0 { return specials == .unsignedZero ? 0 : sign }
    if magnitude.isInfinite { return overflow(sign, saturating: saturating) }
    let exponent = max(Int(magnitude.exponent), 1 - bias)
    let unit = Double(sign: .plus, exponent: exponent - mantissaBits, significand: 1)
    let rounded = (magnitude / unit).rounded(.toNearestOrEven)
    // A carry out of the significand moves into the exponent field by plain addition.
    let subnormalOffset = exponent == 1 - bias && rounded < Double(1 << mantissaBits) ? 0 : exponent + bias - 1
    let pattern = Int(rounded) + (subnormalOffset << mantissaBits)
    if pattern > Int(largestPattern) { return overflow(sign, saturating: saturating) }
    if pattern == 0, specials == .unsignedZero { return 0 }
    return sign | UInt16(pattern)
  }

  private func overflow(_ sign: UInt16, saturating: Bool) -> UInt16 {
    if saturating { return sign | largestPattern }
    switch specials {
    case .ieee: return sign | UInt16(((1 << exponentBits) - 1) << mantissaBits)
    case .nanOnly: return sign | nanPattern
    case .unsignedZero: return nanPattern
    case .none: return sign | largestPattern
    }
  }
}

extension DType {
  /// The bit layout of the float types of at most 16 bits that have a sign, mantissa and exponent.
  package var smallFloat: SmallFloat? {
    switch self {
    case .f16: .f16
    case .bf16: .bf16
    case .f8e4m3fn: .f8e4m3fn
    case .f8e4m3fnuz: .f8e4m3fnuz
    case .f8e5m2: .f8e5m2
    case .f8e5m2fnuz: .f8e5m2fnuz
    case .f4e2m1: .f4e2m1
    default: nil
    }
  }
}

/// f8e8m0: an exponent only, 2^(bits − 127); 255 is NaN.
package enum PowerOfTwoScale {
  package static func decode(_ bits: UInt8) -> Double {
    bits == 255 ? .nan : Double(sign: .plus, exponent: Int(bits) - 127, significand: 1)
  }

  /// Rounds up to a power of two, as ONNX's Cast-24 does by default.
  package static func encode(_ value: Double) -> UInt8 {
    if value.isNaN || value < 0 { return 255 }
    if value == 0 { return 0 }
    if value.isInfinite { return 254 }
    var exponent = Int(value.exponent)
    if value.significand > 1 { exponent += 1 }
    return UInt8(clamping: min(max(exponent + 127, 0), 254))
  }
}
