import ApusCore
import ApusKernel

/// Scalar functions on sizes that may be symbolic, for following shape arithmetic before running.
enum DimArithmetic {
  /// The result, or nil when it is not a size expression or a comparison is not decided by the symbols' ranges.
  static func apply(_ function: ScalarFunction, _ a: Dim, _ b: Dim, _ dtype: DType) -> Dim? {
    if let x = a.constantValue, let y = b.constantValue {
      return Dim(Int(function.evaluate(Int64(x), Int64(y), as: dtype)))
    }
    switch function {
    case .add: return a + b
    case .sub: return a - b
    case .mul: return a * b
    case .neg: return -a
    case .min: return Dim.minimum(a, b)
    case .max: return Dim.maximum(a, b)
    case .relu: return Dim.maximum(a, 0)
    case .floor, .ceil, .round, .trunc: return a
    case .abs: return a.range.lower >= 0 ? a : a.range.upper <= 0 ? -a : nil
    case .sign: return a.range.lower > 0 ? 1 : a.range.upper < 0 ? -1 : nil
    case .div: return isDivision(a, b) ? a.floorDivided(by: b) : nil
    case .fmod: return isDivision(a, b) ? a.remainder(by: b) : nil
    case .floor_mod: return b.range.lower > 0 ? a.remainder(by: b) : nil
    case .pow: return power(a, b)
    default: return decide(function, (a - b).range).map { $0 ? 1 : 0 }
    }
  }

  /// Truncating division agrees with floor division.
  private static func isDivision(_ a: Dim, _ b: Dim) -> Bool { a.range.lower >= 0 && b.range.lower > 0 }

  private static func power(_ base: Dim, _ exponent: Dim) -> Dim? {
    guard let count = exponent.constantValue, (0...8).contains(count) else { return nil }
    return Dim.product([Dim](repeating: base, count: count))
  }

  /// A comparison by the range of the operands' difference.
  private static func decide(_ function: ScalarFunction, _ difference: Interval) -> Bool? {
    switch function {
    case .equal: return difference == Interval(0, 0) ? true : difference.contains(0) ? nil : false
    case .not_equal: return decide(.equal, difference).map { !$0 }
    case .less: return difference.upper < 0 ? true : difference.lower >= 0 ? false : nil
    case .less_equal: return difference.upper <= 0 ? true : difference.lower > 0 ? false : nil
    case .greater: return difference.lower > 0 ? true : difference.upper <= 0 ? false : nil
    case .greater_equal: return difference.lower >= 0 ? true : difference.upper < 0 ? false : nil
    default: return nil
    }
  }
}
