package import ApusCore
package import ApusGraph
package import ApusKernel

/// Applies a scalar function to every element of its operands, which are broadcast against each other.
///
/// - Shapes: numpy broadcasting.
/// - Types: what the function's domain holds; operands have one type, but an exponent or shift amount may have another
///   (integer for shifts). Predicates give bool.
/// - Numerics: f64 rounded once to the type; integers wrap at their width and never trap (``ScalarFunction``).
package struct Elementwise: TensorOperation {
  package let function: ScalarFunction

  package init(_ function: ScalarFunction) { self.function = function }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    guard let function = ScalarFunction(rawValue: name) else {
      throw GraphError("APUS-G-0011", "no scalar function is called '\(name)'")
    }
    self.function = function
  }

  package var name: String { function.rawValue }
  package var attributes: Attributes { [:] }

  private var allowsSecondType: Bool { function == .pow || function == .shift_left || function == .shift_right }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, function.arity...function.arity)
    try expect(function.accepts(x[0].dtype), x[0], operand: 0, is: "\(function.domain)")
    if allowsSecondType {
      try expect(function.accepts(x[1].dtype), x[1], operand: 1, is: "\(function.domain)")
    } else {
      try expectSameDType(x)
    }
    return [TensorType(function.resultType(x[0].dtype), try broadcastShape(x))]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    let a = try broadcast(x[0], to: shape)
    let b = x.count > 1 ? try broadcast(x[1], to: shape) : a
    if a.dtype == .string {
      let same = zip(a.strings, b.strings).map { $0 == $1 }
      return [HostTensor(.bool, shape, elements: same.map { $0 == (function == .equal) ? UInt8(1) : 0 })]
    }
    if a.dtype.isFloat || b.dtype.isFloat {
      if function.arity == 1 { return [HostTensor(dtype, shape, doubles: a.doubles.map { function.evaluate($0) })] }
      return [HostTensor(dtype, shape, doubles: zip(a.doubles, b.doubles).map { function.evaluate($0, $1) })]
    }
    if function.arity == 1 {
      return [HostTensor(dtype, shape, int64s: a.int64s.map { function.evaluate($0, as: a.dtype) })]
    }
    return [HostTensor(dtype, shape, int64s: zip(a.int64s, b.int64s).map { function.evaluate($0, $1, as: a.dtype) })]
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let function = function
    let type = results[0]
    if x[0].type.dtype == .string { return nil }
    return [
      Operand(type) { position, arena in
        var operands = x.map { $0.broadcast(position, of: type.shape, arena) }
        // Operands that were not stored may be more precise than their type, which must not decide between steps.
        if function.hasSteps { operands = zip(operands, x).map { arena.cast($0, to: $1.type.dtype) } }
        if function == .pow { return Self.power(operands[0], operands[1], type.dtype, arena) }
        let value =
          function.arity == 1
          ? arena.unary(function, operands[0]) : arena.binary(function, operands[0], operands[1])
        return function.isExact && type.dtype.isFloat ? value : arena.result(value, of: type.dtype)
      }
    ]
  }

  /// Float powers are computed in the base's type, powers of integers by floats in f64, and integer powers take an i64
  /// exponent.
  private static func power(_ base: Expr, _ exponent: Expr, _ dtype: DType, _ arena: ExprArena) -> Expr {
    if dtype.isFloat {
      return arena.cast(arena.binary(.pow, base, arena.cast(exponent, to: arena.type(base))), to: dtype)
    }
    if arena.type(exponent).isFloat {
      let power = arena.binary(.pow, arena.cast(base, to: .f64), arena.cast(exponent, to: .f64))
      return arena.cast(power, to: dtype)
    }
    return arena.cast(arena.binary(.pow, base, arena.cast(exponent, to: .i64)), to: dtype)
  }

  package func dims(_ x: [[Dim]?], _ types: [TensorType]) -> [[Dim]?]? {
    guard let result = try? infer(types), !types.contains(where: { $0.dtype.isFloat }) else { return nil }
    let operands = zip(x, types).compactMap { broadcast($0, $1, to: result[0].shape) }
    guard operands.count == function.arity else { return nil }
    let second = operands.count > 1 ? operands[1] : operands[0]
    let values = zip(operands[0], second).compactMap { DimArithmetic.apply(function, $0, $1, types[0].dtype) }
    return values.count == operands[0].count ? [values] : nil
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim {
    let count = results.first?.tensor?.elementCount ?? 0
    return function.isExpensive ? 8 * count : count
  }

  package static let samples: [Sample] = ScalarFunction.allCases.flatMap(Self.samples)

  private static func samples(_ function: ScalarFunction) -> [Sample] {
    let types: [DType]
    switch function.domain {
    case .any, .ordered: types = [.f32, .i64, .bool, .u64]
    case .numbers: types = [.f32, .f64, .f16, .bf16, .i64, .i32, .i8, .u8, .u64, .i4]
    case .floats: types = [.f32, .f64, .f16, .bf16]
    case .integers: types = [.i64, .i32, .i8, .u8, .u64]
    case .bools: types = [.bool]
    }
    return types.flatMap { samples(function, $0) }
  }

  private static func samples(_ function: ScalarFunction, _ dtype: DType) -> [Sample] {
    let op = Elementwise(function)
    let sizes = ["A": 1...5, "B": 1...9]
    if function.arity == 1 {
      let values: [Int: ClosedRange<Double>]
      switch function {
      case .sqrt, .rsqrt, .log, .reciprocal: values = [0: 0.1...9]
      case .log1p: values = [0: -0.9...9]
      case .acosh: values = [0: 1.01...9]
      case .asin, .acos, .atanh: values = [0: -0.95...0.95]
      default: values = dtype.isFloat ? [0: -6...6] : [:]
      }
      return [Sample(op, "\(dtype)[A, B]", where: sizes, values: values)]
    }
    var values: [Int: ClosedRange<Double>] = [:]
    if function == .pow { values = dtype.isFloat ? [0: 0.1...3, 1: -2...2] : [1: 0...4] }
    if (function == .fmod || function == .floor_mod || function == .div) && dtype.isFloat { values = [1: 0.7...3] }
    var samples = [
      Sample(op, "\(dtype)[A, B]", "\(dtype)[A, B]", where: sizes, values: values),
      Sample(op, "\(dtype)[A, 1, B]", "\(dtype)[B]", where: sizes, values: values),
    ]
    if function == .pow, dtype != .i64 {
      samples.append(Sample(op, "\(dtype)[A, B]", "i64[]", where: sizes, values: [0: 1...3, 1: 0...3]))
    }
    return samples
  }
}
