/// A closed range of integers; `Int.min` and `Int.max` stand for −∞ and +∞. All arithmetic saturates.
public struct Interval: Hashable, Sendable {
  public var lower: Int
  public var upper: Int

  public init(_ lower: Int, _ upper: Int) {
    self.lower = lower
    self.upper = upper
  }

  public static let all = Interval(.min, .max)

  public var isConstant: Bool { lower == upper }

  /// `1…512`, with ∞ where there is no end.
  package var text: String { "\(lower == .min ? "−∞" : String(lower))…\(upper == .max ? "∞" : String(upper))" }

  public func contains(_ value: Int) -> Bool { lower <= value && value <= upper }

  static func + (a: Interval, b: Interval) -> Interval {
    Interval(saturatingAdd(a.lower, b.lower), saturatingAdd(a.upper, b.upper))
  }

  static func * (a: Interval, b: Interval) -> Interval {
    let corners = [
      saturatingMultiply(a.lower, b.lower), saturatingMultiply(a.lower, b.upper),
      saturatingMultiply(a.upper, b.lower), saturatingMultiply(a.upper, b.upper),
    ]
    return Interval(corners.min() ?? .min, corners.max() ?? .max)
  }

  /// Floor division; a divisor that may be zero or negative gives no information.
  func floorDivided(by b: Interval) -> Interval {
    guard b.lower > 0 else { return .all }
    let corners = [
      saturatingFloorDivide(lower, b.lower), saturatingFloorDivide(lower, b.upper),
      saturatingFloorDivide(upper, b.lower), saturatingFloorDivide(upper, b.upper),
    ]
    return Interval(corners.min() ?? .min, corners.max() ?? .max)
  }
}

/// Adds; `Int.min` and `Int.max` absorb, overflow saturates.
package func saturatingAdd(_ a: Int, _ b: Int) -> Int {
  if a == .max || b == .max { return a == .min || b == .min ? 0 : .max }
  if a == .min || b == .min { return .min }
  let (sum, overflow) = a.addingReportingOverflow(b)
  return overflow ? (a > 0 ? .max : .min) : sum
}

/// Multiplies; overflow saturates with the sign of the exact product.
package func saturatingMultiply(_ a: Int, _ b: Int) -> Int {
  let (product, overflow) = a.multipliedReportingOverflow(by: b)
  return overflow ? ((a < 0) == (b < 0) ? .max : .min) : product
}

/// Divides rounding towards −∞; infinities absorb, a zero divisor gives 0.
package func saturatingFloorDivide(_ a: Int, _ b: Int) -> Int {
  if b == 0 { return 0 }
  if a == .max || a == .min { return (a > 0) == (b > 0) ? .max : .min }
  if b == .max || b == .min { return (a < 0) != (b < 0) && a != 0 ? -1 : 0 }
  let quotient = a / b
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient
}
