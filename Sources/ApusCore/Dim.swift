/// A named integer that is known when a call's shapes are bound, with the range it lies in.
public struct Symbol: Hashable, Sendable {
  public var name: String
  public var range: Interval
  /// The size that code is tuned for: a profile's opt. Nil where nothing is known.
  public var opt: Int?

  public init(_ name: String, _ range: Interval = Interval(0, .max), opt: Int? = nil) {
    self.name = name
    self.range = range
    self.opt = opt
  }
}

/// A symbolic integer: a polynomial over symbols, floor quotients, minima and maxima, kept in one canonical form so that
/// equal expressions compare equal.
///
/// Arithmetic saturates instead of overflowing: a hostile file yields an absurd size, never a crash.
public struct Dim: Hashable, Sendable {
  /// What a product is made of.
  indirect enum Atom: Hashable, Sendable {
    case symbol(Symbol)
    /// Floor of the first divided by the second.
    case quotient(Dim, Dim)
    case minimum(Dim, Dim)
    case maximum(Dim, Dim)
  }

  struct Term: Hashable, Sendable {
    var coefficient: Int
    /// Sorted by text, never empty.
    var factors: [Atom]
  }

  var constant: Int
  /// Sorted by text, coefficients not zero.
  var terms: [Term]

  init(constant: Int, terms: [Term]) {
    self.constant = constant
    self.terms = terms
  }

  public init(_ value: Int) { self.init(constant: value, terms: []) }

  public init(_ symbol: Symbol) { self.init(atom: .symbol(symbol)) }

  init(atom: Atom) { self.init(constant: 0, terms: [Term(coefficient: 1, factors: [atom])]) }

  /// The value when no symbol occurs.
  public var constantValue: Int? { terms.isEmpty ? constant : nil }

  public var isConstant: Bool { terms.isEmpty }

  /// The symbol when the expression is nothing but one symbol.
  public var asSymbol: Symbol? {
    guard constant == 0, terms.count == 1, terms[0].coefficient == 1, terms[0].factors.count == 1,
      case .symbol(let symbol) = terms[0].factors[0]
    else { return nil }
    return symbol
  }
}

extension Dim: ExpressibleByIntegerLiteral {
  public init(integerLiteral value: Int) { self.init(value) }
}

// MARK: Arithmetic

extension Dim {
  public static func + (a: Dim, b: Dim) -> Dim {
    if b.terms.isEmpty { return Dim(constant: saturatingAdd(a.constant, b.constant), terms: a.terms) }
    if a.terms.isEmpty { return Dim(constant: saturatingAdd(a.constant, b.constant), terms: b.terms) }
    return collect(saturatingAdd(a.constant, b.constant), a.terms + b.terms)
  }

  public static prefix func - (a: Dim) -> Dim { a * Dim(-1) }

  public static func - (a: Dim, b: Dim) -> Dim { a + (-b) }

  public static func * (a: Dim, b: Dim) -> Dim {
    if let value = b.constantValue { return a.scaled(by: value) }
    if let value = a.constantValue { return b.scaled(by: value) }
    var products: [Term] = []
    for left in a.terms {
      if b.constant != 0 {
        products.append(Term(coefficient: saturatingMultiply(left.coefficient, b.constant), factors: left.factors))
      }
      for right in b.terms {
        products.append(
          Term(
            coefficient: saturatingMultiply(left.coefficient, right.coefficient),
            factors: Dim.sorted(left.factors + right.factors)))
      }
    }
    if a.constant != 0 {
      for right in b.terms {
        products.append(Term(coefficient: saturatingMultiply(a.constant, right.coefficient), factors: right.factors))
      }
    }
    return collect(saturatingMultiply(a.constant, b.constant), products)
  }

  private func scaled(by factor: Int) -> Dim {
    if factor == 0 { return 0 }
    if factor == 1 { return self }
    return Dim(
      constant: saturatingMultiply(constant, factor),
      terms: terms.map { Term(coefficient: saturatingMultiply($0.coefficient, factor), factors: $0.factors) })
  }

  private static func sorted(_ atoms: [Atom]) -> [Atom] {
    atoms.count < 2 ? atoms : atoms.sorted { $0.text < $1.text }
  }

  static func collect(_ constant: Int, _ terms: [Term]) -> Dim {
    var byFactors: [[Atom]: Int] = [:]
    for term in terms {
      byFactors[term.factors] = saturatingAdd(byFactors[term.factors] ?? 0, term.coefficient)
    }
    var merged: [(text: String, term: Term)] = []
    for (factors, coefficient) in byFactors where coefficient != 0 {
      let term = Term(coefficient: coefficient, factors: factors)
      merged.append((term.factors.map(\.text).joined(separator: "*"), term))
    }
    merged.sort { $0.text < $1.text }
    return Dim(constant: constant, terms: merged.map(\.term))
  }

  /// Floor of `self / divisor`. The divisor must be positive when evaluated.
  public func floorDivided(by divisor: Dim) -> Dim {
    if let d = divisor.constantValue {
      if d == 1 { return self }
      if d == 0 { return Dim(atom: .quotient(self, divisor)) }
      if let value = constantValue { return Dim(saturatingFloorDivide(value, d)) }
      if d < 0 { return (-self).floorDivided(by: -divisor) }
      return floorDivided(byPositive: d)
    }
    if self == divisor && divisor.range.lower > 0 { return 1 }
    if let quotient = dividedExactly(by: divisor) { return quotient }
    if range.lower >= 0, range.upper < divisor.range.lower { return 0 }
    return Dim(atom: .quotient(self, divisor))
  }

  private func floorDivided(byPositive d: Int) -> Dim {
    var whole = Dim(saturatingFloorDivide(constant, d))
    var rest = Dim(constant - saturatingMultiply(saturatingFloorDivide(constant, d), d))
    for term in terms {
      if term.coefficient % d == 0 {
        whole = whole + Dim(constant: 0, terms: [Term(coefficient: term.coefficient / d, factors: term.factors)])
      } else {
        rest = rest + Dim(constant: 0, terms: [term])
      }
    }
    if rest.terms.isEmpty { return whole }
    let range = rest.range
    let low = saturatingFloorDivide(range.lower, d)
    if low == saturatingFloorDivide(range.upper, d), range.lower > .min, range.upper < .max { return whole + Dim(low) }
    if rest.constant == 0, rest.terms.count == 1, rest.terms[0].coefficient == 1, rest.terms[0].factors.count == 1,
      case .quotient(let inner, let innerDivisor) = rest.terms[0].factors[0], let k = innerDivisor.constantValue
    {
      return whole + inner.floorDivided(by: Dim(saturatingMultiply(k, d)))
    }
    return whole + Dim(atom: .quotient(rest, Dim(d)))
  }

  /// Remainder of the floor division: in 0 ..< divisor.
  public func remainder(by divisor: Dim) -> Dim { self - floorDivided(by: divisor) * divisor }

  public func ceilDivided(by divisor: Dim) -> Dim { -((-self).floorDivided(by: divisor)) }

  /// The quotient when `divisor` divides this polynomial, else nil.
  public func dividedExactly(by divisor: Dim) -> Dim? {
    if let d = divisor.constantValue {
      guard d != 0, constant % d == 0, terms.allSatisfy({ $0.coefficient % d == 0 }) else { return nil }
      return Dim(
        constant: constant / d, terms: terms.map { Term(coefficient: $0.coefficient / d, factors: $0.factors) })
    }
    guard let lead = divisor.terms.max(by: { $0.factors.count < $1.factors.count }) else { return nil }
    var rest = self
    var quotient: Dim = 0
    for _ in 0..<16 {
      if rest == 0 { return quotient }
      guard let piece = rest.terms.lazy.compactMap({ $0.divided(by: lead) }).first else { return nil }
      quotient = quotient + piece
      rest = rest - piece * divisor
    }
    return nil
  }

  public static func minimum(_ a: Dim, _ b: Dim) -> Dim {
    if a == b { return a }
    let difference = (a - b).range
    if difference.upper <= 0 { return a }
    if difference.lower >= 0 { return b }
    return a.description < b.description ? Dim(atom: .minimum(a, b)) : Dim(atom: .minimum(b, a))
  }

  public static func maximum(_ a: Dim, _ b: Dim) -> Dim {
    if a == b { return a }
    let difference = (a - b).range
    if difference.upper <= 0 { return b }
    if difference.lower >= 0 { return a }
    return a.description < b.description ? Dim(atom: .maximum(a, b)) : Dim(atom: .maximum(b, a))
  }

  /// 1 where the value is at least 1, else 0 (for values that are not negative).
  public var isPositiveIndicator: Dim { Dim.minimum(self, 1) }

  public static func product(_ dims: some Sequence<Dim>) -> Dim { dims.reduce(1, *) }
  public static func sum(_ dims: some Sequence<Dim>) -> Dim { dims.reduce(0, +) }
}

extension Dim.Term {
  fileprivate func divided(by divisor: Dim.Term) -> Dim? {
    guard coefficient % divisor.coefficient == 0 else { return nil }
    var factors = factors
    for factor in divisor.factors {
      guard let index = factors.firstIndex(of: factor) else { return nil }
      factors.remove(at: index)
    }
    let quotient = coefficient / divisor.coefficient
    return factors.isEmpty
      ? Dim(quotient) : Dim(constant: 0, terms: [Dim.Term(coefficient: quotient, factors: factors)])
  }
}

// MARK: Facts

extension Dim {
  /// The interval the value lies in, from the ranges of its symbols.
  public var range: Interval {
    terms.reduce(Interval(constant, constant)) { sum, term in
      sum + term.factors.reduce(Interval(term.coefficient, term.coefficient)) { $0 * $1.range }
    }
  }

  /// All symbols that occur, in order of first occurrence.
  public var symbols: [Symbol] {
    var seen: [Symbol] = []
    visitSymbols { if !seen.contains($0) { seen.append($0) } }
    return seen
  }

  func visitSymbols(_ visit: (Symbol) -> Void) {
    for term in terms {
      for factor in term.factors {
        switch factor {
        case .symbol(let symbol): visit(symbol)
        case .quotient(let a, let b), .minimum(let a, let b), .maximum(let a, let b):
          a.visitSymbols(visit)
          b.visitSymbols(visit)
        }
      }
    }
  }

  /// How many symbols, quotients, minima and maxima occur, each counted where it occurs; counting stops past `limit`.
  package func partCount(upTo limit: Int) -> Int {
    var count = 0
    for term in terms {
      for factor in term.factors {
        count += 1
        for operand in factor.operands where count <= limit { count += operand.partCount(upTo: limit - count) }
        if count > limit { return count }
      }
    }
    return count
  }

  /// Whether the expression has few enough parts to compute with. Those of real models have a handful; in a damaged model
  /// they can double at each node.
  package var isManageable: Bool { partCount(upTo: Dim.partLimit) <= Dim.partLimit }

  /// The most parts of a manageable expression.
  package static let partLimit = 256

  /// The value with each symbol looked up by name; nil when one is unbound or a divisor is zero.
  public func evaluate(_ value: (String) -> Int?) -> Int? {
    var sum = constant
    for term in terms {
      var product = term.coefficient
      for factor in term.factors {
        guard let factorValue = factor.evaluate(value) else { return nil }
        product = saturatingMultiply(product, factorValue)
      }
      sum = saturatingAdd(sum, product)
    }
    return sum
  }

  /// The expression with symbols replaced; a symbol for which `replacement` gives nil stays.
  public func substituting(_ replacement: (Symbol) -> Dim?) -> Dim {
    if terms.isEmpty { return self }
    return terms.reduce(Dim(constant)) { sum, term in
      sum + term.factors.reduce(Dim(term.coefficient)) { $0 * $1.substituting(replacement) }
    }
  }
}

extension Dim.Atom {
  /// What a quotient, minimum or maximum is of.
  var operands: [Dim] {
    switch self {
    case .symbol: []
    case .quotient(let a, let b), .minimum(let a, let b), .maximum(let a, let b): [a, b]
    }
  }

  var range: Interval {
    switch self {
    case .symbol(let symbol): symbol.range
    case .quotient(let a, let b): a.range.floorDivided(by: b.range)
    case .minimum(let a, let b): Interval(min(a.range.lower, b.range.lower), min(a.range.upper, b.range.upper))
    case .maximum(let a, let b): Interval(max(a.range.lower, b.range.lower), max(a.range.upper, b.range.upper))
    }
  }

  func evaluate(_ value: (String) -> Int?) -> Int? {
    switch self {
    case .symbol(let symbol): return value(symbol.name)
    case .quotient(let a, let b):
      guard let x = a.evaluate(value), let y = b.evaluate(value), y != 0 else { return nil }
      return saturatingFloorDivide(x, y)
    case .minimum(let a, let b):
      guard let x = a.evaluate(value), let y = b.evaluate(value) else { return nil }
      return min(x, y)
    case .maximum(let a, let b):
      guard let x = a.evaluate(value), let y = b.evaluate(value) else { return nil }
      return max(x, y)
    }
  }

  func substituting(_ replacement: (Symbol) -> Dim?) -> Dim {
    switch self {
    case .symbol(let symbol): replacement(symbol) ?? Dim(symbol)
    case .quotient(let a, let b): a.substituting(replacement).floorDivided(by: b.substituting(replacement))
    case .minimum(let a, let b): Dim.minimum(a.substituting(replacement), b.substituting(replacement))
    case .maximum(let a, let b): Dim.maximum(a.substituting(replacement), b.substituting(replacement))
    }
  }
}

// MARK: Text

extension Dim: CustomStringConvertible {
  /// Text that ``Dim/init(parsing:symbols:)`` reads back: `16*seq + 1`, `(a//2)`, `min(a, 8)`.
  public var description: String {
    if terms.isEmpty { return String(constant) }
    var text = ""
    for term in terms {
      let body = term.factors.map(\.text).joined(separator: "*")
      if text.isEmpty {
        text = term.coefficient == 1 ? body : "\(term.coefficient)*\(body)"
      } else {
        let sign = term.coefficient < 0 ? " - " : " + "
        let size = term.coefficient.magnitude
        text += sign + (size == 1 ? body : "\(size)*\(body)")
      }
    }
    if constant != 0 { text += constant < 0 ? " - \(constant.magnitude)" : " + \(constant)" }
    return text
  }
}

extension Dim.Atom {
  var text: String {
    switch self {
    case .symbol(let symbol): symbol.name
    case .quotient(let a, let b): "((\(a))//(\(b)))"
    case .minimum(let a, let b): "min(\(a), \(b))"
    case .maximum(let a, let b): "max(\(a), \(b))"
    }
  }
}

// MARK: Parts

extension Dim {
  /// One summand: a coefficient and what the polynomial's term multiplies.
  package struct Summand {
    package var coefficient: Int
    package var factors: [Factor]

    package init(coefficient: Int, factors: [Factor]) {
      self.coefficient = coefficient
      self.factors = factors
    }
  }

  package enum Factor {
    case symbol(Symbol)
    case quotient(Dim, Dim)
    case minimum(Dim, Dim)
    case maximum(Dim, Dim)

    package var dim: Dim {
      switch self {
      case .symbol(let symbol): Dim(symbol)
      case .quotient(let a, let b): Dim(atom: .quotient(a, b))
      case .minimum(let a, let b): Dim(atom: .minimum(a, b))
      case .maximum(let a, let b): Dim(atom: .maximum(a, b))
      }
    }
  }

  /// Whether the value grows by exactly one with the symbol, everything else fixed.
  package func unitStride(in name: String) -> Bool {
    var isUnit = false
    for term in terms {
      var occurs = false
      Dim(constant: 0, terms: [term]).visitSymbols { if $0.name == name { occurs = true } }
      if !occurs { continue }
      guard term.coefficient == 1, term.factors.count == 1, case .symbol = term.factors[0], !isUnit else {
        return false
      }
      isUnit = true
    }
    return isUnit
  }

  /// The terms of the polynomial without its constant, for printers.
  package var summands: [Summand] {
    terms.map { term in
      Summand(
        coefficient: term.coefficient,
        factors: term.factors.map { atom in
          switch atom {
          case .symbol(let symbol): .symbol(symbol)
          case .quotient(let a, let b): .quotient(a, b)
          case .minimum(let a, let b): .minimum(a, b)
          case .maximum(let a, let b): .maximum(a, b)
          }
        })
    }
  }

  package var constantTerm: Int { constant }

  /// Puts together what ``constantTerm`` and ``summands`` took apart, without bringing it to canonical form.
  package init(constantTerm: Int, summands: [Summand]) {
    self.init(
      constant: constantTerm,
      terms: summands.map { summand in
        Term(
          coefficient: summand.coefficient,
          factors: summand.factors.map { factor in
            switch factor {
            case .symbol(let symbol): .symbol(symbol)
            case .quotient(let a, let b): .quotient(a, b)
            case .minimum(let a, let b): .minimum(a, b)
            case .maximum(let a, let b): .maximum(a, b)
            }
          })
      })
  }

  /// Numerator and divisor when the expression is nothing but one floor quotient.
  package var asQuotient: (numerator: Dim, divisor: Dim)? {
    guard constant == 0, terms.count == 1, terms[0].coefficient == 1, terms[0].factors.count == 1,
      case .quotient(let a, let b) = terms[0].factors[0]
    else { return nil }
    return (a, b)
  }

  /// `(whole, rest)` with `self = whole · divisor + rest`, where `whole` takes every term the divisor divides.
  package func split(by divisor: Dim) -> (whole: Dim, rest: Dim) {
    if let quotient = dividedExactly(by: divisor) { return (quotient, 0) }
    var whole: Dim = 0
    var rest = Dim(constant)
    for term in terms {
      let part = Dim(constant: 0, terms: [term])
      if let quotient = part.dividedExactly(by: divisor) { whole = whole + quotient } else { rest = rest + part }
    }
    if let d = divisor.constantValue, d > 0 {
      let carried = saturatingFloorDivide(rest.constant, d)
      whole = whole + Dim(carried)
      rest = rest - Dim(saturatingMultiply(carried, d))
    }
    return (whole, rest)
  }

  /// The value with each symbol that has an extent put at `extent − 1`; nil when a term with such a symbol may be
  /// negative or hides it inside a quotient.
  package func upperEnd(_ extent: (Symbol) -> Dim?) -> Dim? {
    var sum = Dim(constant)
    for term in terms {
      var product = Dim(term.coefficient)
      var moves = false
      for factor in term.factors {
        guard case .symbol(let symbol) = factor else {
          var hidden = false
          Dim(atom: factor).visitSymbols { if extent($0) != nil { hidden = true } }
          if !hidden {
            product = product * Dim(atom: factor)
            continue
          }
          guard case .quotient(let a, let b) = factor, b.upperEnd(extent) == b, let end = a.upperEnd(extent) else {
            return nil
          }
          product = product * end.floorDivided(by: b)
          moves = true
          continue
        }
        if let end = extent(symbol) {
          product = product * (end - 1)
          moves = true
        } else {
          product = product * Dim(symbol)
        }
      }
      if moves, term.coefficient < 0 { return nil }
      sum = sum + product
    }
    return sum
  }
}
