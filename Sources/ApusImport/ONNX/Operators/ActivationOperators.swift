import ApusCore
import ApusGraph

/// Activation functions and the normalising functions along one axis.
enum ActivationOperators {
  static let table: [String: Lowering] = [
    "Relu": unary("relu"), "Sigmoid": unary("sigmoid"), "Softplus": unary("softplus"), "Softsign": unary("softsign"),
    "HardSwish": unary("hard_swish"), "Mish": unary("mish"), "Gelu": gelu, "LeakyRelu": leakyRelu, "Elu": elu,
    "Selu": selu, "Celu": celu, "HardSigmoid": hardSigmoid, "ThresholdedRelu": thresholdedRelu, "Shrink": shrink,
    "PRelu": prelu, "Swish": swish, "SwiGLU": swiGLU, "Softmax": softmax, "LogSoftmax": logSoftmax,
    "Hardmax": hardmax, "Dropout": dropout, "Affine": affine, "ScaledTanh": scaledTanh,
    "com.microsoft::Gelu": unary("gelu"), "com.microsoft::FastGelu": fastGelu, "com.microsoft::BiasGelu": biasGelu,
    "com.microsoft::QuickGelu": quickGelu,
  ]

  private static func unary(_ name: String) -> Lowering {
    { n throws(ImportError) in [try n(name, n.input(0))] }
  }

  private static func gelu(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let kind = try n.choice("approximate", ["none", "tanh"], default: "none")
    return [try n(kind == "tanh" ? "gelu_tanh" : "gelu", n.input(0))]
  }

  private static func fastGelu(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    guard let bias = n.optional(1) else { return [try n("gelu_tanh", x)] }
    return [try n("gelu_tanh", n("add", x, bias))]
  }

  private static func biasGelu(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    [try n("gelu", n("add", n.input(0), n.input(1)))]
  }

  private static func quickGelu(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    [try swish(n, n.input(0), alpha: n.float("alpha", 1.702))]
  }

  private static func leakyRelu(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let scaled = try n("mul", x, n.scalar(n.float("alpha", 0.01), like: x))
    return [try n.select(n("less", x, n.scalar(0, like: x)), scaled, x)]
  }

  /// `alpha · (exp(x) − 1)` where x is negative.
  private static func exponentialLinear(
    _ n: NodeContext, _ x: ValueID, alpha: Double, gamma: Double
  ) throws(ImportError) -> ValueID {
    var below = try n("expm1", x)
    if alpha * gamma != 1 { below = try n("mul", below, n.scalar(alpha * gamma, like: x)) }
    let above = gamma == 1 ? x : try n("mul", x, n.scalar(gamma, like: x))
    return try n.select(n("less", x, n.scalar(0, like: x)), below, above)
  }

  private static func elu(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    [try exponentialLinear(n, n.input(0), alpha: n.float("alpha", 1), gamma: 1)]
  }

  private static func selu(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let alpha = try n.float("alpha", 1.67326319217681884765625)
    return [try exponentialLinear(n, n.input(0), alpha: alpha, gamma: n.float("gamma", 1.05070102214813232421875))]
  }

  private static func celu(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let alpha = try n.scalar(n.float("alpha", 1), like: x)
    let below = try n("mul", n("expm1", n("div", x, alpha)), alpha)
    return [try n.select(n("less", x, n.scalar(0, like: x)), below, x)]
  }

  private static func hardSigmoid(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let scaled = try n("mul", x, n.scalar(n.float("alpha", 0.2), like: x))
    let line = try n("add", scaled, n.scalar(n.float("beta", 0.5), like: x))
    return [try n("min", n("max", line, n.scalar(0, like: x)), n.scalar(1, like: x))]
  }

  private static func thresholdedRelu(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let isAbove = try n("greater", x, n.scalar(n.float("alpha", 1), like: x))
    return [try n.select(isAbove, x, n.scalar(0, like: x))]
  }

  private static func shrink(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let bias = try n.scalar(n.float("bias", 0), like: x)
    let threshold = try n.float("lambd", 0.5)
    let above = try n.select(n("greater", x, n.scalar(threshold, like: x)), n("sub", x, bias), n.scalar(0, like: x))
    return [try n.select(n("less", x, n.scalar(-threshold, like: x)), n("add", x, bias), above)]
  }

  private static func prelu(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    var slope = try n.input(1)
    let channels = try n.shape(slope)
    let rank = try n.rank(x)
    if n.opset < 7, channels.count == 1, rank > 2 {
      slope = try n.reshape(slope, channels + Shape(repeating: 1, count: rank - 2))
    }
    return [try n.select(n("less", x, n.scalar(0, like: x)), n("mul", x, slope), x)]
  }

  private static func swish(_ n: NodeContext, _ x: ValueID, alpha: Double) throws(ImportError) -> ValueID {
    if alpha == 1 { return try n("silu", x) }
    return try n("mul", x, n("sigmoid", n("mul", x, n.scalar(alpha, like: x))))
  }

  private static func swish(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    [try swish(n, n.input(0), alpha: n.float("alpha", 1))]
  }

  private static func swiGLU(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    [try n("mul", swish(n, n.input(0), alpha: n.float("alpha", 1)), n.input(1))]
  }

  private static func affine(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    return [
      try n("add", n("mul", x, n.scalar(n.float("alpha", 1), like: x)), n.scalar(n.float("beta", 0), like: x))
    ]
  }

  private static func scaledTanh(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let inner = try n("tanh", n("mul", x, n.scalar(n.float("beta", 1), like: x)))
    return [try n("mul", inner, n.scalar(n.float("alpha", 1), like: x))]
  }

  // MARK: Along one axis

  /// Applies `body` along the node's axis. Operator sets below 13 see the input as a matrix whose rows start at the axis.
  private static func alongAxis(
    _ n: NodeContext, _ body: (ValueID, Int) throws(ImportError) -> ValueID
  ) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let shape = try n.shape(x)
    if n.opset >= 13 {
      return [try body(x, n.normalized(n.int("axis", -1), rank: shape.count))]
    }
    let axis = try n.normalized(n.int("axis", 1), rank: shape.count)
    if axis == shape.count - 1 { return [try body(x, axis)] }
    let matrix = try n.reshape(x, [Dim.product(shape[..<axis]), Dim.product(shape[axis...])])
    return [try n.reshape(body(matrix, 1), shape)]
  }

  private static func softmax(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    try alongAxis(n) { x, axis throws(ImportError) in try n.emit("softmax", ["axis": .int(axis)], x) }
  }

  /// `x − max − log Σ exp(x − max)` along `axis`.
  static func logSoftmax(_ n: NodeContext, _ x: ValueID, axis: Int) throws(ImportError) -> ValueID {
    let shifted = try n("sub", x, n.reduce("max", x, [axis], keepDims: true))
    let sum = try n.reduce("sum", n("exp", shifted), [axis], keepDims: true)
    return try n("sub", shifted, n("log", sum))
  }

  private static func logSoftmax(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    try alongAxis(n) { x, axis throws(ImportError) in try logSoftmax(n, x, axis: axis) }
  }

  private static func hardmax(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    try alongAxis(n) { x, axis throws(ImportError) in
      let best = try n.emit(
        "argmax", ["axis": .int(axis), "keep_dims": .bool(true), "select_last": .bool(false)], x)
      let position = try n.iota(n.shape(x), axis: axis, .i64)
      return try n.cast(n("equal", position, best), n.dtype(x))
    }
  }

  /// Dropout of inference is the input itself; in training each element is kept with probability 1 − ratio, and then divided
  /// by that.
  private static func dropout(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    if let training = n.optional(2), try n.requireInt(training, "training_mode") != 0 {
      let ratio = try n.optional(1).map { id throws(ImportError) in try n.requireNumbers(id, "ratio") } ?? [0.5]
      guard ratio.count == 1, (0..<1).contains(ratio[0]) else {
        throw ImportError("APUS-I-0013", "the ratio is \(ratio), one number from 0 to below 1 is expected")
      }
      if ratio != [0] { return try trainingDropout(n, x, kept: 1 - ratio[0]) }
    }
    if !n.wants(1) { return [x] }
    let maskType: DType = n.opset < 10 ? try n.dtype(x) : .bool
    return [x, try n.broadcast(n.scalar(1, maskType), n.shape(x))]
  }

  private static func trainingDropout(_ n: NodeContext, _ x: ValueID, kept: Double) throws(ImportError) -> [ValueID] {
    let (type, shape) = (try n.dtype(x), try n.shape(x))
    let seed: [(String, Attribute)] = try n.optionalInt("seed").map { [("seed", .int($0))] } ?? []
    let chances = try n.broadcast(n.scalar(kept, .f32), shape)
    let mask = try n.emit("random_bernoulli", Attributes([("dtype", .dtype(.bool))] + seed), chances)
    let scaled = try n("div", x, n.scalar(kept, type))
    return [try n("where", mask, scaled, n.scalar(0, type)), mask]
  }
}
