import ApusCore
import ApusGraph

/// Losses and the optimisers of the training domain.
enum LossOperators {
  static let table: [String: Lowering] = [
    "NegativeLogLikelihoodLoss": negativeLogLikelihood, "SoftmaxCrossEntropyLoss": softmaxCrossEntropy,
    "ai.onnx.preview.training::Adam": adam, "ai.onnx.preview.training::Adagrad": adagrad,
    "ai.onnx.preview.training::Momentum": momentum,
  ]

  private static func negativeLogLikelihood(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    [try loss(n, n.input(0))]
  }

  private static func softmaxCrossEntropy(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let logs = try ActivationOperators.logSoftmax(n, n.input(0), axis: 1)
    let loss = try loss(n, logs)
    return n.wants(1) ? [loss, logs] : [loss]
  }

  /// The loss of log-probabilities against the node's targets and weights.
  private static func loss(_ n: NodeContext, _ logs: ValueID) throws(ImportError) -> ValueID {
    _ = try n.shape(logs, minimumRank: 2)
    let target = try n.cast(n.input(1), .i64)
    var weight = n.optional(2)
    var safe = target
    var isIgnored: ValueID?
    if let ignored = try n.optionalInt("ignore_index") {
      let index = n.constant(HostTensor(.i64, [], int64s: [Int64(ignored)]))
      let matches = try n("equal", target, index)
      safe = try n.select(matches, n.scalar(0, .i64), target)
      isIgnored = matches
    }
    let picked = try n.emit("gather_elements", ["axis": .int(1)], logs, n.unsqueeze(safe, [1]))
    var loss = try n("neg", n.squeeze(picked, [1]))
    if let given = weight { weight = try n.gather(given, safe, axis: 0) }
    if let isIgnored {
      let ones = try n.broadcast(n.scalar(1, like: loss), n.shape(loss))
      weight = try n.select(isIgnored, n.scalar(0, like: loss), weight ?? ones)
    }
    if let weight { loss = try n("mul", loss, weight) }
    let axes = Array(try n.shape(loss).indices)
    switch try n.choice("reduction", ["mean", "sum", "none"], default: "mean") {
    case "none": return loss
    case "sum": return try n.reduce("sum", loss, axes, keepDims: false)
    default:
      guard let weight else { return try n.reduce("mean", loss, axes, keepDims: false) }
      return try n(
        "div", n.reduce("sum", loss, axes, keepDims: false), n.reduce("sum", weight, axes, keepDims: false))
    }
  }

  // MARK: Optimisers

  /// The node's tensors as one group per optimised tensor: input `2 + kind · count + index`.
  private static func groups(_ n: NodeContext, kinds: Int) throws(ImportError) -> [[ValueID]] {
    let inputs = try n.allInputs(atLeast: 2 + kinds)
    guard (inputs.count - 2) % kinds == 0 else {
      throw ImportError("APUS-I-0014", "\(inputs.count - 2) tensors do not divide into groups of \(kinds)")
    }
    let count = (inputs.count - 2) / kinds
    return (0..<count).map { index in (0..<kinds).map { inputs[2 + $0 * count + index] } }
  }

  /// Results in ONNX's order: the first of every group, then the second of every group.
  private static func ordered(_ results: [[ValueID]]) -> [ValueID] {
    (0..<(results.first?.count ?? 0)).flatMap { kind in results.map { $0[kind] } }
  }

  private static func regularized(_ n: NodeContext, _ x: ValueID, _ gradient: ValueID) throws(ImportError) -> ValueID {
    let coefficient = try n.float("norm_coefficient", 0)
    if coefficient == 0 { return gradient }
    return try n("add", n("mul", x, n.scalar(coefficient, like: x)), gradient)
  }

  /// `a · x + b · y`.
  private static func mixed(
    _ n: NodeContext, _ a: Double, _ x: ValueID, _ b: Double, _ y: ValueID
  ) throws(ImportError) -> ValueID {
    try n("add", n("mul", x, n.scalar(a, like: x)), n("mul", y, n.scalar(b, like: y)))
  }

  private static func adam(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let alpha = try n.float("alpha", 0.9)
    let beta = try n.float("beta", 0.999)
    let epsilon = try n.float("epsilon", 1e-6)
    let decay = try n.float("norm_coefficient_post", 0)
    var results: [[ValueID]] = []
    for group in try groups(n, kinds: 4) {
      let x = group[0]
      let gradient = try regularized(n, x, group[1])
      let first = try mixed(n, alpha, group[2], 1 - alpha, gradient)
      let second = try mixed(n, beta, group[3], 1 - beta, n("mul", gradient, gradient))
      let root = try n("add", n("sqrt", second), n.scalar(epsilon, like: second))
      let moved = try n("sub", x, n("mul", adamRate(n, alpha, beta, n.dtype(x)), n("div", first, root)))
      results.append([decay == 0 ? moved : try n("mul", moved, n.scalar(1 - decay, like: moved)), first, second])
    }
    return ordered(results)
  }

  /// The learning rate with the correction of both momentums; as it is at step 0.
  private static func adamRate(
    _ n: NodeContext, _ alpha: Double, _ beta: Double, _ dtype: DType
  ) throws(ImportError) -> ValueID {
    let rate = try n.cast(n.input(0), dtype)
    let step = try n.cast(n.input(1), dtype)
    let one = n.scalar(1, dtype)
    let second = try n("sqrt", n("sub", one, n("pow", n.scalar(beta, dtype), step)))
    let first = try n("sub", one, n("pow", n.scalar(alpha, dtype), step))
    let corrected = try n("div", n("mul", rate, second), first)
    return try n.select(n("greater", step, n.scalar(0, dtype)), corrected, rate)
  }

  private static func adagrad(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let decay = try n.float("decay_factor", 0)
    let epsilon = try n.float("epsilon", 1e-6)
    var results: [[ValueID]] = []
    for group in try groups(n, kinds: 3) {
      let x = group[0]
      let dtype = try n.dtype(x)
      let steps = try n("mul", n.cast(n.input(1), dtype), n.scalar(decay, dtype))
      let rate = try n("div", n.cast(n.input(0), dtype), n("add", steps, n.scalar(1, dtype)))
      let gradient = try regularized(n, x, group[1])
      let sum = try n("add", group[2], n("mul", gradient, gradient))
      let root = try n("add", n("sqrt", sum), n.scalar(epsilon, dtype))
      results.append([try n("sub", x, n("div", n("mul", rate, gradient), root)), sum])
    }
    return ordered(results)
  }

  private static func momentum(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let alpha = try n.float("alpha", 0)
    let beta = try n.float("beta", 0)
    let isNesterov = try n.choice("mode", ["standard", "nesterov"], default: "standard") == "nesterov"
    var results: [[ValueID]] = []
    for group in try groups(n, kinds: 3) {
      let x = group[0]
      let dtype = try n.dtype(x)
      let rate = try n.cast(n.input(0), dtype)
      let isLater = try n("greater", n.input(1), n.scalar(0, like: n.input(1)))
      let factor = try n.select(isLater, n.scalar(beta, dtype), n.scalar(1, dtype))
      let gradient = try regularized(n, x, group[1])
      let velocity = try n("add", n("mul", group[2], n.scalar(alpha, dtype)), n("mul", gradient, factor))
      var step = velocity
      if isNesterov { step = try n("add", gradient, n("mul", velocity, n.scalar(alpha, dtype))) }
      results.append([try n("sub", x, n("mul", rate, step)), velocity])
    }
    return ordered(results)
  }
}
