package import ApusCore

/// A scalar value of an expression: floats as f64, integers and bools as i64 (u64 by bit pattern).
package enum Scalar: Hashable, Sendable {
  case float(Double)
  case integer(Int64)
}

/// Evaluates scalar expressions on host tensors: slow, and what compiled kernels are compared with.
///
/// Every operation is computed in f64 or in 64-bit integers and rounded or wrapped to the expression's type; sums and
/// products of floats are rounded once at their end.
package struct KernelInterpreter {
  private enum Elements {
    case floats([Double])
    case integers([Int64])
  }

  private let arena: ExprArena
  private let buffers: [Elements]
  private let symbols: [String: Int]

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
    let type = arena.type(expr)
    switch arena[expr] {
    case .float(let bits, _): return rounded(Double(bitPattern: bits), type)
    case .integer(let value, _): return .integer(type.wrapping(value))
    case .index(let dim): return .integer(Int64(try evaluate(dim, variables)))
    case .load(let buffer, let dim): return try load(buffer, try evaluate(dim, variables))
    case .unary(let function, let x):
      let operand = try evaluate(x, variables)
      return apply(function, operand, operand, arena.type(x), type)
    case .binary(let function, let x, let y):
      return apply(function, try evaluate(x, variables), try evaluate(y, variables), arena.type(x), type)
    case .select(let condition, let x, let y):
      // Both branches are evaluated, as a kernel may: each has to be safe.
      let (first, second) = (try evaluate(x, variables), try evaluate(y, variables))
      return try evaluate(condition, variables) == .integer(0) ? second : first
    case .cast(let x, _): return cast(try evaluate(x, variables), from: arena.type(x), to: type)
    case .rounded(let x, let dtype): return narrowed(try evaluate(x, variables), dtype)
    case .reduce(let reduction, let bound, let body):
      return try reduce(reduction, bound, body, type, variables)
    }
  }

  /// The value of an index expression.
  package func evaluate(_ dim: Dim, _ variables: [String: Int]) throws(EvaluationError) -> Int {
    var values = variables
    for name in ExprArena.locals(of: dim) {
      guard let expr = ExprArena.dynamicExpr(name) else { continue }
      if case .integer(let value) = try evaluate(expr, variables) { values[name] = Int(value) }
    }
    if let value = dim.evaluate({ values[$0] ?? symbols[$0] }) { return value }
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
    case .float(let value): .float(HostTensor(scalar: value, dtype).doubles[0])
    case .integer(let value): .integer(dtype.wrapping(value))
    }
  }

  // MARK: Reductions

  private func reduce(
    _ reduction: Reduction, _ bound: [LoopVariable], _ body: Expr, _ type: DType, _ variables: [String: Int]
  ) throws(EvaluationError) -> Scalar {
    let bodyType = arena.type(body)
    if reduction == .argmin || reduction == .argmax {
      return try position(reduction == .argmax, bound, body, variables)
    }
    var total = identity(reduction, bodyType)
    let function = reduction.function
    try visit(bound[...], variables) { (values) throws(EvaluationError) in
      let value = try evaluate(body, values)
      if case .integer(let a) = total, case .integer(let b) = value {
        total = .integer(function.evaluate(a, b, as: bodyType))
      } else {
        total = .float(function.evaluate(double(total), double(value)))
      }
    }
    if case .float(let value) = total { return rounded(value, type) }
    return total
  }

  private func position(
    _ isMaximum: Bool, _ bound: [LoopVariable], _ body: Expr, _ variables: [String: Int]
  ) throws(EvaluationError) -> Scalar {
    let type = arena.type(body)
    var best: Scalar?
    var bestPosition: Int64 = 0
    var next: Int64 = 0
    try visit(bound[...], variables) { (values) throws(EvaluationError) in
      let value = try evaluate(body, values)
      if best.map({ precedes(value, $0, type, isMaximum) }) ?? true {
        best = value
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

  private func identity(_ reduction: Reduction, _ type: DType) -> Scalar {
    switch reduction {
    case .prod: type.isFloat ? .float(1) : .integer(1)
    case .and: .integer(1)
    case .min: type.isFloat ? .float(.infinity) : .integer(type.integerBounds.highest)
    case .max: type.isFloat ? .float(-.infinity) : .integer(type.integerBounds.lowest)
    default: type.isFloat ? .float(0) : .integer(0)
    }
  }

  private func visit(
    _ bound: ArraySlice<LoopVariable>, _ variables: [String: Int],
    _ body: ([String: Int]) throws(EvaluationError) -> Void
  ) throws(EvaluationError) {
    guard let first = bound.first else { return try body(variables) }
    let extent = try evaluate(first.extent, variables)
    var values = variables
    var index = 0
    while index < extent {
      values[first.name] = index
      try visit(bound.dropFirst(), values, body)
      index += 1
    }
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
