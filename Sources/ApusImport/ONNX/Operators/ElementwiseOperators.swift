import ApusCore
import ApusGraph

/// Operators that work on each element alone: arithmetic, comparison, logic and activations.
enum ElementwiseOperators {
  static let table: [String: Lowering] = [
    "Abs": unary("abs"), "Acos": unary("acos"), "Acosh": unary("acosh"), "Asin": unary("asin"),
    "Asinh": unary("asinh"), "Atan": unary("atan"), "Atanh": unary("atanh"), "Ceil": unary("ceil"),
    "Cos": unary("cos"), "Cosh": unary("cosh"), "Erf": unary("erf"), "Exp": unary("exp"), "Floor": unary("floor"),
    "Log": unary("log"), "Neg": unary("neg"), "Reciprocal": unary("reciprocal"), "Round": unary("round"),
    "Sign": unary("sign"), "Sin": unary("sin"), "Sinh": unary("sinh"), "Sqrt": unary("sqrt"), "Tan": unary("tan"),
    "Tanh": unary("tanh"), "Not": unary("not"), "BitwiseNot": unary("bit_not"), "IsNaN": unary("is_nan"),
    "IsInf": isInf,

    "Add": binary("add"), "Sub": binary("sub"), "Mul": binary("mul"), "Div": binary("div"), "Pow": binary("pow"),
    "Mod": mod, "BitShift": bitShift,
    "BitwiseAnd": binary("bit_and"), "BitwiseOr": binary("bit_or"), "BitwiseXor": binary("bit_xor"),
    "And": binary("and"), "Or": binary("or"), "Xor": binary("xor"),
    "Equal": binary("equal"), "Greater": binary("greater"), "GreaterOrEqual": binary("greater_equal"),
    "Less": binary("less"), "LessOrEqual": binary("less_equal"),
    "Max": variadic("max"), "Min": variadic("min"), "Sum": variadic("add"), "Mean": mean,
    "Where": choose, "Clip": clip,
  ]

  private static func unary(_ name: String) -> Lowering {
    { n throws(ImportError) in [try n(name, n.input(0))] }
  }

  private static func binary(_ name: String) -> Lowering {
    { n throws(ImportError) in
      let (a, b) = try operands(n)
      return [try n(name, a, b)]
    }
  }

  /// Both operands; operator sets below 7 align the second one at attribute `axis`.
  private static func operands(_ n: NodeContext) throws(ImportError) -> (ValueID, ValueID) {
    let a = try n.input(0)
    let b = try n.input(1)
    guard n.opset < 7, try n.flag("broadcast"), let axis = try n.optionalInt("axis") else { return (a, b) }
    let shape = try n.shape(b)
    let rank = try n.rank(a)
    let trailing = rank - (try n.normalized(axis, rank: rank)) - shape.count
    guard trailing >= 0 else { throw ImportError("APUS-I-0013", "the second operand does not fit at axis \(axis)") }
    return (a, try n.reshape(b, shape + Shape(repeating: 1, count: trailing)))
  }

  private static func variadic(_ name: String) -> Lowering {
    { n throws(ImportError) in
      let inputs = try n.allInputs()
      var result = inputs[0]
      for input in inputs.dropFirst() { result = try n(name, result, input) }
      return [result]
    }
  }

  private static func mean(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let inputs = try n.allInputs()
    var sum = inputs[0]
    for input in inputs.dropFirst() { sum = try n("add", sum, input) }
    return [try n("div", sum, n.scalar(Double(inputs.count), like: sum))]
  }

  private static func isInf(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    switch (try n.flag("detect_positive", true), try n.flag("detect_negative", true)) {
    case (true, true): return [try n("is_inf", x)]
    case (true, false): return [try n("is_positive_inf", x)]
    case (false, true): return [try n("is_negative_inf", x)]
    case (false, false): return [try n.broadcast(n.scalar(0, .bool), n.shape(x))]
    }
  }

  private static func mod(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    [try n(n.flag("fmod") ? "fmod" : "floor_mod", n.input(0), n.input(1))]
  }

  private static func bitShift(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let direction = try n.choice("direction", ["LEFT", "RIGHT"], default: "")
    return [try n(direction == "LEFT" ? "shift_left" : "shift_right", n.input(0), n.input(1))]
  }

  private static func choose(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    [try n.select(n.input(0), n.input(1), n.input(2))]
  }

  private static func clip(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    var x = try n.input(0)
    if n.opset < 11 {
      if let low = try n.optionalFloat("min") { x = try n("max", x, n.scalar(low, like: x)) }
      if let high = try n.optionalFloat("max") { x = try n("min", x, n.scalar(high, like: x)) }
      return [x]
    }
    if let low = n.optional(1) { x = try n("max", x, low) }
    if let high = n.optional(2) { x = try n("min", x, high) }
    return [x]
  }
}
