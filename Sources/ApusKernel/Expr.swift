package import ApusCore

/// A scalar expression: a handle into an ``ExprArena``.
package struct Expr: Hashable, Sendable {
  package let id: Int32
}

/// What a scalar expression is. Equal nodes have equal handles (the arena shares them).
///
/// Expression types are bool, integers, f32 and f64. Elements of the smaller float types are computed in f32: a load
/// widens, a store or ``ExprNode/rounded`` narrows.
package enum ExprNode: Hashable, Sendable {
  /// A float constant by its bit pattern as f64.
  case float(UInt64, DType)
  case integer(Int64, DType)
  /// An index or size as an i64 value; may hold loop variables.
  case index(Dim)
  /// The element of argument `buffer` at a linear index in elements.
  case load(buffer: Int, index: Dim)
  case unary(ScalarFunction, Expr)
  case binary(ScalarFunction, Expr, Expr)
  case select(Expr, Expr, Expr)
  case cast(Expr, DType)
  /// An f32 value rounded to what the smaller float type can hold, still as f32.
  case rounded(Expr, DType)
  /// `body` combined over all values of the loop variables.
  case reduce(Reduction, variables: [LoopVariable], body: Expr)
}

/// A loop counter that runs over `0 ..< extent`; in index arithmetic it is the symbol of the same name.
package struct LoopVariable: Hashable, Sendable {
  package let name: String
  package let extent: Dim

  package var symbol: Symbol {
    Symbol(name, Interval(0, extent.range.upper == .max ? .max : Swift.max(extent.range.upper, 1) - 1))
  }
  package var dim: Dim { Dim(symbol) }
}

/// Owns the expressions of one kernel while it is being built. Not thread-safe.
package final class ExprArena {
  package private(set) var nodes: [ExprNode] = []
  package private(set) var types: [DType] = []
  /// Element types of the kernel's arguments, by buffer index.
  package private(set) var buffers: [DType] = []
  package private(set) var variables: [String: LoopVariable] = [:]
  private var known: [ExprNode: Expr] = [:]
  private var elements: [Element: Expr] = [:]

  private struct Element: Hashable {
    let value: Int
    let position: Position
  }

  package init() {}

  package subscript(_ expr: Expr) -> ExprNode { nodes[Int(expr.id)] }

  package func type(_ expr: Expr) -> DType { types[Int(expr.id)] }

  /// The element of a value at a position, made once: reductions inside have variables of their own each time they are made.
  package func element(of value: Int, _ position: Position, _ make: () -> Expr) -> Expr {
    let key = Element(value: value, position: position)
    if let known = elements[key] { return known }
    let made = make()
    elements[key] = made
    return made
  }

  package func addBuffer(_ dtype: DType) -> Int {
    buffers.append(dtype)
    return buffers.count - 1
  }

  package func makeVariable(_ extent: Dim) -> LoopVariable {
    let variable = LoopVariable(name: "$i\(variables.count)", extent: extent)
    variables[variable.name] = variable
    return variable
  }

  private func add(_ node: ExprNode, _ type: DType) -> Expr {
    if let expr = known[node] { return expr }
    let expr = Expr(id: Int32(nodes.count))
    nodes.append(node)
    types.append(type)
    known[node] = expr
    return expr
  }

  /// The type that elements of `dtype` are computed in.
  package static func computeType(_ dtype: DType) -> DType {
    switch dtype {
    case .f16, .bf16, .f8e4m3fn, .f8e4m3fnuz, .f8e5m2, .f8e5m2fnuz, .f8e8m0, .f4e2m1: .f32
    case .i4, .i2: .i8
    case .u4, .u2: .u8
    default: dtype
    }
  }
}

// MARK: Construction

extension ExprArena {
  /// A constant of the compute type of `dtype`.
  package func constant(_ value: Double, _ dtype: DType) -> Expr {
    let type = Self.computeType(dtype)
    if type.isFloat { return add(.float(value.bitPattern, type), type) }
    let whole = value.isNaN ? 0 : Int64(exactly: value.rounded(.towardZero)) ?? (value > 0 ? .max : .min)
    return add(.integer(whole, type), type)
  }

  package func constant(_ value: Int64, _ dtype: DType) -> Expr {
    let type = Self.computeType(dtype)
    return type.isFloat ? constant(Double(value), type) : add(.integer(value, type), type)
  }

  package func index(_ dim: Dim) -> Expr {
    if let value = dim.constantValue { return constant(Int64(value), .i64) }
    return add(.index(dim), .i64)
  }

  /// Loads an element; small floats arrive as f32.
  package func load(_ buffer: Int, _ index: Dim) -> Expr {
    add(.load(buffer: buffer, index: index), Self.computeType(buffers[buffer]))
  }

  package func unary(_ function: ScalarFunction, _ x: Expr) -> Expr {
    add(.unary(function, x), function.resultType(type(x)))
  }

  /// Applies a function to operands of one type.
  package func binary(_ function: ScalarFunction, _ x: Expr, _ y: Expr) -> Expr {
    precondition(type(x) == type(y) || function == .pow || function == .shift_left || function == .shift_right)
    let swapped = function.isCommutative && y.id < x.id
    return add(swapped ? .binary(function, y, x) : .binary(function, x, y), function.resultType(type(x)))
  }

  package func select(_ condition: Expr, _ x: Expr, _ y: Expr) -> Expr {
    precondition(type(x) == type(y) && type(condition) == .bool)
    if x == y { return x }
    if case .integer(let value, _) = self[condition] { return value != 0 ? x : y }
    return add(.select(condition, x, y), type(x))
  }

  /// Converts a value; the result has the compute type of `dtype` and holds what `dtype` can hold.
  package func cast(_ x: Expr, to dtype: DType) -> Expr {
    let target = Self.computeType(dtype)
    if case .load(let buffer, _) = self[x], buffers[buffer] == dtype { return x }
    let converted = type(x) == target ? x : add(.cast(x, target), target)
    return target == dtype ? converted : add(.rounded(converted, dtype), target)
  }

  /// The result of an operation of `dtype`, not rounded to it: results that are used at once keep the precision that they
  /// were computed in, where the type is a small float.
  package func result(_ x: Expr, of dtype: DType) -> Expr {
    dtype == .f16 || dtype == .bf16 ? cast(x, to: Self.computeType(dtype)) : cast(x, to: dtype)
  }

  package func reduce(_ reduction: Reduction, over variables: [LoopVariable], _ body: Expr) -> Expr {
    let result: DType = reduction == .argmin || reduction == .argmax ? .i64 : type(body)
    if variables.isEmpty { return result == type(body) ? body : constant(Int64(0), .i64) }
    return add(.reduce(reduction, variables: variables, body: body), result)
  }

  /// A value that was computed, used as an index: a symbol standing for the expression.
  package func dynamicIndex(_ expr: Expr) -> Dim { Dim(Symbol("$e\(expr.id)", Interval(.min, .max))) }

  /// The expression a symbol of ``dynamicIndex(_:)`` stands for.
  package static func dynamicExpr(_ name: String) -> Expr? {
    name.hasPrefix("$e") ? Int32(name.dropFirst(2)).map { Expr(id: $0) } : nil
  }

  /// Whether a symbol name is a loop variable's or a dynamic index's, and not a shape symbol's.
  package static func isLocal(_ name: String) -> Bool { name.hasPrefix("$i") || name.hasPrefix("$e") }
}

// MARK: Index arithmetic

extension ExprArena {
  /// The largest value of an index expression, by putting every loop variable at its end; nil when the expression does
  /// not grow with each variable.
  private func upperBound(_ dim: Dim) -> Dim? {
    for symbol in dim.symbols where Self.isLocal(symbol.name) && variables[symbol.name] == nil { return nil }
    return dim.upperEnd { variables[$0.name]?.extent }
  }

  /// Longer index expressions are computed once and used by name: a quotient and a remainder both hold what they divide,
  /// so chains of them would double in size at each link.
  private static let inlinePartLimit = 96

  private func named(_ index: Dim) -> Dim {
    index.partCount(upTo: Self.inlinePartLimit) <= Self.inlinePartLimit ? index : dynamicIndex(self.index(index))
  }

  /// `floor(index / divisor)` with what is known of the loop variables' extents.
  package func quotient(_ index: Dim, _ divisor: Dim) -> Dim {
    if divisor == 1 { return index }
    let index = named(index)
    let (whole, rest) = index.split(by: divisor)
    if rest == 0 { return whole }
    // Divisors are sizes of tensors that are being walked over, so they are positive.
    if let (numerator, first) = rest.asQuotient { return whole + quotient(numerator, first * divisor) }
    if rest.range.lower >= 0, let upper = upperBound(rest), (divisor - 1 - upper).range.lower >= 0 { return whole }
    return whole + rest.floorDivided(by: divisor)
  }

  package func remainder(_ index: Dim, _ divisor: Dim) -> Dim {
    if divisor == 1 { return 0 }
    let index = named(index)
    return index - quotient(index, divisor) * divisor
  }
}
