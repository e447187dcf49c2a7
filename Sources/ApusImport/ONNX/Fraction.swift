import ApusCore
import ApusGraph

/// An exact quotient of two sizes: what a float tensor holds when it was computed from sizes.
struct Fraction: Hashable {
  var numerator: Dim
  /// Positive.
  var denominator: Dim

  init(_ numerator: Dim, _ denominator: Dim = 1) {
    if let whole = numerator.dividedExactly(by: denominator) {
      self.numerator = whole
      self.denominator = 1
    } else {
      self.numerator = numerator
      self.denominator = denominator
    }
  }

  /// Largest denominator that a float is read as a fraction with.
  private static let denominatorLimit = 64

  /// The fraction of small numbers that a float stands for; nil when none is close.
  init?(_ value: Double) {
    guard value.magnitude < 16_777_216 else { return nil }
    for denominator in 1...Fraction.denominatorLimit {
      let scaled = value * Double(denominator)
      let whole = scaled.rounded()
      if (scaled - whole).magnitude <= 1e-6 * max(1, scaled.magnitude) / 4 {
        self.init(Dim(Int(whole)), Dim(denominator))
        return
      }
    }
    return nil
  }

  static func + (a: Fraction, b: Fraction) -> Fraction {
    Fraction(a.numerator * b.denominator + b.numerator * a.denominator, a.denominator * b.denominator)
  }

  static func - (a: Fraction, b: Fraction) -> Fraction {
    Fraction(a.numerator * b.denominator - b.numerator * a.denominator, a.denominator * b.denominator)
  }

  static func * (a: Fraction, b: Fraction) -> Fraction {
    Fraction(a.numerator * b.numerator, a.denominator * b.denominator)
  }

  /// Nil when the divisor may be zero or negative.
  static func / (a: Fraction, b: Fraction) -> Fraction? {
    guard b.numerator.range.lower >= 0, b.numerator != 0 else { return nil }
    return Fraction(a.numerator * b.denominator, a.denominator * b.numerator)
  }

  var floor: Dim { numerator.floorDivided(by: denominator) }
  var ceil: Dim { numerator.ceilDivided(by: denominator) }
}

extension Fraction {
  /// Largest tensor whose elements are followed.
  private static let countLimit = 64

  /// What is known of the elements of an operation's float result, in row-major order.
  static func follow(_ name: String, _ inputs: [ValueID], _ builder: GraphBuilder) -> [Fraction]? {
    let operands = inputs.map { elements(of: $0, builder) }
    guard let first = operands.first ?? nil, operands.allSatisfy({ $0 != nil }) else { return nil }
    switch name {
    case "cast", "reshape": return first
    case "floor": return first.map { Fraction($0.floor) }
    case "ceil": return first.map { Fraction($0.ceil) }
    case "concat": return operands.flatMap { $0 ?? [] }
    case "add", "sub", "mul", "div":
      guard operands.count == 2, let second = operands[1] else { return nil }
      let count = max(first.count, second.count)
      guard first.count == count || first.count == 1, second.count == count || second.count == 1 else { return nil }
      let values = (0..<count).compactMap { index in
        combine(name, first[first.count == 1 ? 0 : index], second[second.count == 1 ? 0 : index])
      }
      return values.count == count ? values : nil
    default: return nil
    }
  }

  private static func combine(_ name: String, _ a: Fraction, _ b: Fraction) -> Fraction? {
    switch name {
    case "add": a + b
    case "sub": a - b
    case "mul": a * b
    default: a / b
    }
  }

  /// The elements of a tensor as fractions: sizes, a constant of small fractions, or what was followed so far.
  static func elements(of id: ValueID, _ builder: GraphBuilder) -> [Fraction]? {
    if let known = builder.fractions[id] { return known }
    let value = builder.graph[id]
    if let dims = value.dims, dims.count <= countLimit { return dims.map { Fraction($0) } }
    guard let tensor = value.constant, tensor.dtype.isFloat, tensor.elementCount <= countLimit else { return nil }
    let fractions = tensor.doubles.compactMap { Fraction($0) }
    return fractions.count == tensor.elementCount ? fractions : nil
  }
}
