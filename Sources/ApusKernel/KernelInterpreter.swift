package import ApusCore

/// A scalar value of an expression: floats as f64, integers and bools as i64 (u64 by bit pattern).
package enum Scalar: Hashable, Sendable {
  case float(Double)
  case integer(Int64)
}

/// Evaluates scalar expressions on host tensors: slow, and what compiled kernels are compared with.
///
/// Every operation is computed in f64 or in 64-bit integers and rounded or wrapped to the expression's type; sums and
/// products of floats are rounded once at their end. Not thread-safe.
package final class KernelInterpreter {
  private enum Elements {
    case floats([Double])
    case integers([Int64])
  }

  private let arena: ExprArena
  private let buffers: [Elements]
  private let symbols: [String: Int]
  /// Values of the loop variables in force.
  private var variables: [String: Int] = [:]
  /// Reductions computed already, by the values of the loop variables that they depend on.
  private var reduced: [ReductionKey: Scalar] = [:]
  private var dependencies: [Expr: [String]] = [:]
  private var freeVariables: [Expr: Set<String>] = [:]

  private struct ReductionKey: Hashable {
    let expr: Expr
    let values: [Int?]
  }

  /// - Parameters:
  ///   - buffers: the arguments, by buffer index, of the types that the arena declares.
  ///   - symbols: values of the shape symbols.
  package init(_ arena: ExprArena, buffers: [HostTensor], symbols: [String: Int] = [:]) {
    self.arena = arena
    self.buffers = buffers.map { $0.dtype.isFloat ? .floats($0.doubles) : .integers($0.int64s) }
    self.symbols = symbols
  }

  /// The value of an expression for these values of the loop variables.
  ///
  /// - Throws: ``EvaluationError`` when a load lies outside its buffer or an index has no value.
  package func evaluate(_ expr: Expr, _ variables: [String: Int] = [:]) throws(EvaluationError) -> Scalar {
    self.variables = variables
    return try value(expr)
  }

  private func value(_ expr: Expr) throws(EvaluationError) -> Scalar {
    let type = arena.type(expr)
    switch arena[expr] {
    case .float(let bits, _): return rounded(Double(bitPattern: bits), type)
    case .integer(let value, _): return .integer(type.wrapping(value))
    case .index(let dim): return .integer(Int64(try index(dim)))
    case .load(let buffer, let dim): return try load(buffer, try index(dim))
    case .unary(let function, let x):
      let operand = try value(x)
      return apply(function, operand, operand, arena.type(x), type)
    case .binary(let function, let x, let y):
      return apply(function, try value(x), try value(y), arena.type(x), type)
    case .select(let condition, let x, let y):
      // Both branches are evaluated, as a kernel may: each has to be safe.
      let (first, second) = (try value(x), try value(y))
      return try value(condition) == .integer(0) ? second : first
    case .cast(let x, _): return cast(try value(x), from: arena.type(x), to: type)
    case .rounded(let x, let dtype): return narrowed(try value(x), dtype)
    case .reduce(let reduction, let bound, let body):
      return try reduce(expr, reduction, bound, body, type)
    }
  }

  /// The value of an index expression.
  private func index(_ dim: Dim) throws(EvaluationError) -> Int {
    if let constant = dim.constantValue { return constant }
    var dynamic: [String: Int] = [:]
    for name in ExprArena.locals(of: dim) {
      guard let expr = ExprArena.dynamicExpr(name) else { continue }
      if case .integer(let number) = try value(expr) { dynamic[name] = Int(number) }
    }
    if let result = dim.evaluate({ variables[$0] ?? symbols[$0] ?? dynamic[$0] }) { return result }
    throw EvaluationError("APUS-V-0040", "index \(dim) has no value")
  }

  private func load(_ buffer: Int, _ index: Int) throws(EvaluationError) -> Scalar {
    switch buffers[buffer] {
    case .floats(let values) where values.indices.contains(index): return .float(values[index])
    case .integers(let values) where values.indices.contains(index): return .integer(values[index])
    // Buffers have room for one element even when they hold none.
    case .floats(let values) where values.isEmpty && index == 0: return .float(0)
    case .integers(let values) where values.isEmpty && index == 0: return .integer(0)
    default: throw EvaluationError("APUS-V-0041", "a load at \(index) lies outside buffer \(buffer)")
    }
  }

  // MARK: Scalars

  private func rounded(_ value: Double, _ type: DType) -> Scalar {
    .float(type == .f32 ? Double(Float(value)) : value)
  }

  private func apply(
    _ function: ScalarFunction, _ x: Scalar, _ y: Scalar, _ operandType: DType, _ type: DType
  ) -> Scalar {
    if case .integer(let a) = x, case .integer(let b) = y { return .integer(function.evaluate(a, b, as: operandType)) }
    let value = function.evaluate(double(x), double(y))
    return type == .bool ? .integer(value == 0 ? 0 : 1) : rounded(value, type)
  }

  private func double(_ value: Scalar) -> Double {
    switch value {
    case .float(let value): value
    case .integer(let value): Double(value)
    }
  }

  private func cast(_ value: Scalar, from source: DType, to target: DType) -> Scalar {
    switch value {
    case .integer(let value) where target.isFloat:
      rounded(source == .u64 ? Double(UInt64(bitPattern: value)) : Double(value), target)
    case .integer(let value): .integer(target.wrapping(value))
    case .float(let value) where target.isFloat: rounded(value, target)
    case .float(let value): .integer(HostTensor(scalar: value, target).int64s[0])
    }
  }

  private func narrowed(_ value: Scalar, _ dtype: DType) -> Scalar {
    switch value {
    case .float(let value):
      if let format = dtype.smallFloat {
        .float(format.decode(format.encode(value, saturating: dtype.byteCount == 1)))
      } else {
        .float(HostTensor(scalar: value, dtype).doubles[0])
      }
    case .integer(let value): .integer(dtype.wrapping(value))
    }
  }

  // MARK: Reductions

  private func reduce(
    _ expr: Expr, _ reduction: Reduction, _ bound: [LoopVariable], _ body: Expr, _ type: DType
  ) throws(EvaluationError) -> Scalar {
    let names = variableNames(expr, bound)
    let key = ReductionKey(expr: expr, values: names.map { variables[$0] })
    if let known = reduced[key] { return known }
    let isPosition = reduction == .argmin || reduction == .argmax
    let result =
      isPosition
      ? try position(reduction == .argmax, bound, body) : try combination(reduction.function, bound, body, type)
    reduced[key] = result
    return result
  }

  /// The loop variables around a reduction that its value depends on.
  private func variableNames(_ expr: Expr, _ bound: [LoopVariable]) -> [String] {
    if let known = dependencies[expr] { return known }
    let inBody = arena.freeVariables(expr, &freeVariables)
    let names = inBody.union(bound.flatMap { ExprArena.locals(of: $0.extent) }).sorted()
    dependencies[expr] = names
    return names
  }

  private func combination(
    _ function: ScalarFunction, _ bound: [LoopVariable], _ body: Expr, _ type: DType
  ) throws(EvaluationError) -> Scalar {
    let bodyType = arena.type(body)
    var total = identity(function, bodyType)
    try visit(bound[...]) { () throws(EvaluationError) in
      let next = try value(body)
      if case .integer(let a) = total, case .integer(let b) = next {
        total = .integer(function.evaluate(a, b, as: bodyType))
      } else {
        total = .float(function.evaluate(double(total), double(next)))
      }
    }
    if case .float(let value) = total { return rounded(value, type) }
    return total
  }

  private func position(
    _ isMaximum: Bool, _ bound: [LoopVariable], _ body: Expr
  ) throws(EvaluationError) -> Scalar {
    let type = arena.type(body)
    var best: Scalar?
    var bestPosition: Int64 = 0
    var next: Int64 = 0
    try visit(bound[...]) { () throws(EvaluationError) in
      let candidate = try value(body)
      if best.map({ precedes(candidate, $0, type, isMaximum) }) ?? true {
        best = candidate
        bestPosition = next
      }
      next += 1
    }
    return .integer(bestPosition)
  }

  /// Whether a value is strictly more extreme; NaN is more extreme than any number.
  private func precedes(_ x: Scalar, _ y: Scalar, _ type: DType, _ isMaximum: Bool) -> Bool {
    if case .float(let a) = x, case .float(let b) = y {
      return a.isNaN ? !b.isNaN : isMaximum ? a > b : a < b
    }
    return apply(isMaximum ? .greater : .less, x, y, type, .bool) != .integer(0)
  }

  private func identity(_ function: ScalarFunction, _ type: DType) -> Scalar {
    switch function {
    case .mul: type.isFloat ? .float(1) : .integer(1)
    case .and: .integer(1)
    case .min: type.isFloat ? .float(.infinity) : .integer(type.integerBounds.highest)
    case .max: type.isFloat ? .float(-.infinity) : .integer(type.integerBounds.lowest)
    default: type.isFloat ? .float(0) : .integer(0)
    }
  }

  private func visit(
    _ bound: ArraySlice<LoopVariable>, _ body: () throws(EvaluationError) -> Void
  ) throws(EvaluationError) {
    guard let first = bound.first else { return try body() }
    let extent = try index(first.extent)
    let outer = variables[first.name]
    var position = 0
    while position < extent {
      variables[first.name] = position
      try visit(bound.dropFirst(), body)
      position += 1
    }
    variables[first.name] = outer
  }
}

extension Reduction {
  /// The function of two values that a reduction repeats; positions have none and give `max`.
  package var function: ScalarFunction {
    switch self {
    case .sum: .add
    case .prod: .mul
    case .min: .min
    case .and: .and
    case .or: .or
    default: .max
    }
  }
}

extension DType {
  /// The smallest and largest value of an integer type (u64 as bit patterns), or of bool.
  package var integerBounds: (lowest: Int64, highest: Int64) {
    switch self {
    case .bool: (0, 1)
    case .u64: (0, -1)
    case .i64: (.min, .max)
    default:
      isUnsignedInteger
        ? (0, (1 << Int64(bitWidth)) - 1) : (-(1 << Int64(bitWidth - 1)), (1 << Int64(bitWidth - 1)) - 1)
    }
  }
}
