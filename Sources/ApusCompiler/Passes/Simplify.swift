import ApusCore
import ApusGraph
import ApusOps

/// Algebra and movement that cancels.
enum Simplify {
  static let rules: [Rule] = [
    neutralElement, doubleTranspose, identityTranspose, transposeAsReshape, doubleReshape, identityReshape,
    identityBroadcast, broadcastOfScalarOperand, identitySlice, identityPad, singleConcat, identityCast, powerOfTwo,
    divisionByConstant, joinedScales, joinedShifts, shiftThenScale, scaledContraction, silu, gelu, geluTanh,
    stableVariance,
  ]

  static let pass = Pass("simplify", "remove what changes nothing and fold scales into weights") {
    (graph, log, _) throws(BuildError) in
    var applied = log
    Rewriter.run(rules, on: &graph, catalogue: .standard) { rule, node in
      applied.record(node.op.name, into: node.name, taken: true, "rule \(rule.name)")
    }
    log = applied
  }

  // MARK: Elementwise

  static let neutralElement = Rule(
    "elementwise.remove-neutral", roots: ["add", "sub", "mul", "div", "pow"],
    fires: [
      "graph(%x: f32[4]) -> (%y) { %c = constant f32[] {0} %y = add(%x, %c) }",
      "graph(%x: f32[4]) -> (%y) { %c = constant f32[4] {1, 1, 1, 1} %y = mul(%c, %x) }",
      "graph(%x: i32[N, 3]) -> (%y) symbols(N: 0...9) { %c = constant i32[1, 1] {1} %y = div(%x, %c) }",
      "graph(%x: f32[4]) -> (%z) { %o = constant f32[] {1} %n = constant f32[] {0} %y = pow(%x, %o)"
        + " %z = sub(%y, %n) }",
    ],
    skips: [
      "graph(%x: f32[4]) -> (%y) { %c = constant f32[2, 4] {0, 0, 0, 0, 0, 0, 0, 0} %y = add(%x, %c) }",
      "graph(%x: f32[4]) -> (%y) { %c = constant f32[] {0} %y = sub(%c, %x) }",
      "graph(%x: f32[4]) -> (%y) { %c = constant f32[] {1} %y = div(%c, %x) }",
      "graph(%x: f32[2]) -> (%y) { %c = constant f32[2] {1, 0} %y = mul(%x, %c) }",
    ]
  ) { graph, node in
    let isProduct = ["mul", "div", "pow"].contains(node.op.name)
    let neutral = isProduct ? 1.0 : 0.0
    let positions = ["add", "mul"].contains(node.op.name) ? [1, 0] : [1]
    for position in positions where graph.scalar(node.inputs[position]) == neutral {
      let other = node.inputs[1 - position]
      // −0 + 0 is +0, which nothing downstream can tell but 1/x: accepted for floats as every peer does.
      if graph.type(other) == graph.type(node.outputs[0]) { return other }
    }
    return nil
  }

  static let powerOfTwo = Rule(
    "elementwise.square", roots: ["pow"],
    fires: [
      "graph(%x: f32[4]) -> (%y) { %c = constant f32[] {2} %y = pow(%x, %c) }",
      "graph(%x: f32[4]) -> (%y) { %c = constant i64[1] {2} %y = pow(%x, %c) }",
      "graph(%x: f32[4]) -> (%z) { %c = constant f32[] {0.5} %r = constant f32[] {-1} %y = pow(%x, %c)"
        + " %z = pow(%y, %r) }",
    ],
    skips: [
      "graph(%x: f32[4]) -> (%y) { %c = constant f32[] {3} %y = pow(%x, %c) }",
      "graph(%x: i32[4]) -> (%y) { %c = constant i32[] {2} %y = pow(%x, %c) }",
      "graph(%x: f32[4]) -> (%y) { %c = constant f32[1, 1] {2} %y = pow(%x, %c) }",
      "graph(%x: f32[4]) -> (%y) { %c = constant f32[] {2} %y = pow(%c, %x) }",
    ]
  ) { graph, node in
    guard graph.type(node.inputs[0])?.dtype.isFloat ?? false, graph.type(node.inputs[0]) == graph.type(node.outputs[0])
    else { return nil }
    switch graph.scalar(node.inputs[1]) {
    case 2: return graph.add("mul", [node.inputs[0], node.inputs[0]])
    case 0.5: return graph.add("sqrt", [node.inputs[0]])
    case -1: return graph.add("reciprocal", [node.inputs[0]])
    default: return nil
    }
  }

  static let divisionByConstant = Rule(
    "elementwise.divide-by-power-of-two", roots: ["div"],
    fires: [
      "graph(%x: f32[4]) -> (%y) { %c = constant f32[] {8} %y = div(%x, %c) }",
      "graph(%x: f64[4]) -> (%y) { %c = constant f64[4] {-0.5, -0.5, -0.5, -0.5} %y = div(%x, %c) }",
    ],
    skips: [
      "graph(%x: f32[4]) -> (%y) { %c = constant f32[] {3} %y = div(%x, %c) }",
      "graph(%x: f32[4]) -> (%y) { %c = constant f32[] {0} %y = div(%x, %c) }",
      "graph(%x: i32[4]) -> (%y) { %c = constant i32[] {2} %y = div(%x, %c) }",
      "graph(%x: f32[4]) -> (%y) { %c = constant f32[1, 4] {2, 2, 2, 2} %y = div(%x, %c) }",
    ]
  ) { graph, node in
    guard let type = graph.type(node.inputs[1]), type.dtype == .f32 || type.dtype == .f64,
      let divisor = graph.scalar(node.inputs[1]), divisor.isFinite, divisor != 0,
      divisor.significand == 1, abs(divisor.exponent) < 100
    else { return nil }
    let factor = graph.addConstant(HostTensor(scalar: 1 / divisor, type.dtype))
    let product = graph.add("mul", [node.inputs[0], factor])
    return product
  }

  static let silu = Rule(
    "elementwise.raise-silu", roots: ["mul"],
    fires: [
      "graph(%x: f32[4]) -> (%y) { %s = sigmoid(%x) %y = mul(%x, %s) }",
      "graph(%x: f32[N]) -> (%y) symbols(N: 0...9) { %s = sigmoid(%x) %y = mul(%s, %x) }",
    ],
    skips: [
      "graph(%x: f32[4], %z: f32[4]) -> (%y) { %s = sigmoid(%z) %y = mul(%x, %s) }",
      "graph(%x: f32[4]) -> (%y, %s) { %s = sigmoid(%x) %y = mul(%x, %s) }",
    ]
  ) { graph, node in
    for position in [0, 1] {
      let other = node.inputs[1 - position]
      if let sigmoid = graph.producer(node.inputs[position], "sigmoid"), sigmoid.inputs == [other],
        graph.isUsedOnce(node.inputs[position])
      {
        return graph.add("silu", [other])
      }
    }
    return nil
  }

  /// 0.5·x·(1 + erf(x/√2)), in the orders that exporters write it.
  static let gelu = Rule(
    "elementwise.raise-gelu", roots: ["mul"],
    fires: [
      "graph(%x: f32[4]) -> (%y) { %r = constant f32[] {1.41421356} %o = constant f32[] {1}"
        + " %h = constant f32[] {0.5} %d = div(%x, %r) %e = erf(%d) %a = add(%e, %o) %m = mul(%x, %a)"
        + " %y = mul(%m, %h) }",
      "graph(%x: f32[4]) -> (%y) { %r = constant f32[] {0.70710678} %o = constant f32[] {1}"
        + " %h = constant f32[] {0.5} %d = mul(%x, %r) %e = erf(%d) %a = add(%o, %e) %m = mul(%h, %x)"
        + " %y = mul(%m, %a) }",
    ],
    skips: [
      "graph(%x: f32[4]) -> (%y) { %r = constant f32[] {1.5} %o = constant f32[] {1}"
        + " %h = constant f32[] {0.5} %d = div(%x, %r) %e = erf(%d) %a = add(%e, %o) %m = mul(%x, %a)"
        + " %y = mul(%m, %h) }",
      "graph(%x: f32[4], %z: f32[4]) -> (%y) { %r = constant f32[] {1.41421356} %o = constant f32[] {1}"
        + " %h = constant f32[] {0.5} %d = div(%x, %r) %e = erf(%d) %a = add(%e, %o) %m = mul(%z, %a)"
        + " %y = mul(%m, %h) }",
    ]
  ) { graph, node in
    func close(_ value: Double?, _ wanted: Double) -> Bool { value.map { abs($0 - wanted) < 1e-5 * wanted } ?? false }
    /// x when `value` is 1 + erf(x/√2).
    func inner(_ value: ValueID) -> ValueID? {
      guard let sum = graph.producer(value, "add") else { return nil }
      for position in [0, 1] where graph.scalar(sum.inputs[position]) == 1 {
        guard let erf = graph.producer(sum.inputs[1 - position], "erf") else { continue }
        if let div = graph.producer(erf.inputs[0], "div"), close(graph.scalar(div.inputs[1]), 2.0.squareRoot()) {
          return div.inputs[0]
        }
        if let mul = graph.producer(erf.inputs[0], "mul") {
          for side in [0, 1] where close(graph.scalar(mul.inputs[side]), 0.5.squareRoot()) {
            return mul.inputs[1 - side]
          }
        }
      }
      return nil
    }
    func factors(_ value: ValueID, _ depth: Int) -> [ValueID] {
      guard depth > 0, let mul = graph.producer(value, "mul") else { return [value] }
      return mul.inputs.flatMap { factors($0, depth - 1) }
    }
    let parts = node.inputs.flatMap { factors($0, 1) }
    guard parts.count == 3, let half = parts.firstIndex(where: { graph.scalar($0) == 0.5 }),
      let bell = parts.indices.first(where: { inner(parts[$0]) != nil }), half != bell,
      let x = inner(parts[bell]), parts[3 - half - bell] == x, graph.type(x) == graph.type(node.outputs[0])
    else { return nil }
    return graph.add("gelu", [x])
  }

  /// mean(x²) − mean(x)² = mean((x − mean(x))²), which does not cancel.
  static let stableVariance = Rule(
    "normalization.stable-variance", roots: ["sub"],
    fires: [
      "graph(%x: f32[N, 7]) -> (%y) symbols(N: 1...5) { %m = reduce_mean(%x) {axes: [1], keep_dims: true}"
        + " %mm = mul(%m, %m) %xx = mul(%x, %x) %v = reduce_mean(%xx) {axes: [1], keep_dims: true} %y = sub(%v, %mm) }",
      "graph(%x: f32[3, 4]) -> (%y) { %c = constant f32[] {0.25} %m = reduce_mean(%x) {axes: [1], keep_dims: false}"
        + " %mm = mul(%m, %m) %xx = mul(%x, %x) %s = reduce_sum(%xx) {axes: [1], keep_dims: false}"
        + " %v = mul(%s, %c) %y = sub(%v, %mm) }",
    ],
    skips: [
      "graph(%x: f32[3, 3]) -> (%y) { %m = reduce_mean(%x) {axes: [0], keep_dims: false}"
        + " %mm = mul(%m, %m) %xx = mul(%x, %x) %v = reduce_mean(%xx) {axes: [1], keep_dims: false}"
        + " %y = sub(%v, %mm) }",
      "graph(%x: f32[3, 4]) -> (%y) { %c = constant f32[] {0.5} %m = reduce_mean(%x) {axes: [1], keep_dims: false}"
        + " %mm = mul(%m, %m) %xx = mul(%x, %x) %s = reduce_sum(%xx) {axes: [1], keep_dims: false}"
        + " %v = mul(%s, %c) %y = sub(%v, %mm) }",
    ]
  ) { graph, node in
    guard let square = graph.producer(node.inputs[1], "mul"), square.inputs[0] == square.inputs[1],
      let (squares, axes, keeps) = mean(graph, node.inputs[0]), let product = graph.producer(squares, "mul"),
      product.inputs[0] == product.inputs[1],
      let (x, meanAxes, meanKeeps) = mean(graph, square.inputs[0]), x == product.inputs[0], meanAxes == axes,
      keeps == meanKeeps, let type = graph.type(x), type.dtype.isFloat
    else { return nil }
    let kept = type.shape.enumerated().map { axes.contains($0) ? Dim(1) : $1 }
    guard let center = graph.add("reshape", [square.inputs[0]], ["shape": .dims(kept)]),
      let distance = graph.add("sub", [x, center]), let squared = graph.add("mul", [distance, distance])
    else { return nil }
    return graph.add("reduce_mean", [squared], ["axes": .ints(axes), "keep_dims": .bool(keeps)])
  }

  /// What a value is the mean of: `reduce_mean`, or a sum times one over the number of elements.
  private static func mean(_ graph: Rewriting, _ value: ValueID) -> (ValueID, axes: [Int], keepsDims: Bool)? {
    func parts(_ node: Node) -> (ValueID, [Int], Bool)? {
      guard let axes = try? node.op.attributes.ints("axes"), let keeps = try? node.op.attributes.bool("keep_dims")
      else {
        return nil
      }
      return (node.inputs[0], axes, keeps)
    }
    if let node = graph.producer(value, "reduce_mean") { return parts(node) }
    guard let scaled = graph.producer(value, "mul") else { return nil }
    for position in [0, 1] {
      guard let sum = graph.producer(scaled.inputs[position], "reduce_sum"), let found = parts(sum),
        let factor = graph.scalar(scaled.inputs[1 - position]), let type = graph.type(found.0),
        let count = Dim.product(found.1.map { type.shape[$0] }).constantValue,
        abs(factor * Double(count) - 1) < 1e-5
      else { continue }
      return found
    }
    return nil
  }

  /// (x + b)·c = x·c + b·c for constants, which lets the scale move on into weights.
  static let shiftThenScale = Rule(
    "elementwise.scale-before-shift", roots: ["mul"],
    fires: [
      "graph(%x: f32[2, 3]) -> (%y) { %w = constant f32[3, 4] random(1) %b = constant f32[4] random(2)"
        + " %s = constant f32[4] random(3) %m = matmul(%x, %w) %a = add(%m, %b) %y = mul(%a, %s) }"
    ],
    skips: [
      "graph(%x: f32[2, 4]) -> (%y) { %b = constant f32[4] random(2) %s = constant f32[4] random(3)"
        + " %a = add(%x, %b) %y = mul(%a, %s) }",
      "graph(%x: f32[2, 3]) -> (%y, %a) { %w = constant f32[3, 4] random(1) %b = constant f32[4] random(2)"
        + " %s = constant f32[4] random(3) %m = matmul(%x, %w) %a = add(%m, %b) %y = mul(%a, %s) }",
    ]
  ) { graph, node in
    for position in [0, 1] {
      guard let sum = shiftedContraction(graph, node.inputs[position]),
        let scale = graph.constant(node.inputs[1 - position]), scale.dtype.isFloat,
        let bias = graph.add("mul", [sum.shift, node.inputs[1 - position]]),
        let scaled = graph.add("mul", [sum.product, node.inputs[1 - position]])
      else { continue }
      return graph.add("add", [scaled, bias])
    }
    return nil
  }

  /// The two parts of what a contraction gives plus a constant, which nothing else uses.
  private static func shiftedContraction(
    _ graph: Rewriting, _ value: ValueID
  ) -> (product: ValueID, shift: ValueID)? {
    guard let sum = graph.producer(value, "add"), graph.isUsedOnce(value) else { return nil }
    for side in [0, 1] where graph.constant(sum.inputs[side]) != nil && isContraction(graph, sum.inputs[1 - side]) {
      return (sum.inputs[1 - side], sum.inputs[side])
    }
    return nil
  }

  /// (x·a)·b = x·(a·b) for constants, divisions among them: rounded as often as the original or less.
  static let joinedScales = Rule(
    "elementwise.join-scales", roots: ["mul", "div"],
    fires: [
      "graph(%x: f32[4]) -> (%y) { %c = constant f32[] {6} %s = constant f32[1] {1.3} %d = div(%x, %c) %y = mul(%d, %s) }",
      "graph(%x: f32[N]) -> (%y) symbols(N: 0...9) { %c = constant f32[] {3} %s = constant f32[] {7} %d = mul(%c, %x)"
        + " %y = div(%d, %s) }",
    ],
    skips: [
      "graph(%x: f32[4]) -> (%y, %d) { %c = constant f32[] {6} %s = constant f32[] {1.3} %d = div(%x, %c)"
        + " %y = mul(%d, %s) }",
      "graph(%x: f32[4]) -> (%y) { %c = constant f32[] {6} %s = constant f32[] {1.3} %d = div(%c, %x)"
        + " %y = mul(%d, %s) }",
      "graph(%x: f32[4]) -> (%y) { %c = constant f32[] {1e30} %s = constant f32[] {1e30} %d = mul(%x, %c)"
        + " %y = mul(%d, %s) }",
      "graph(%x: f16[4]) -> (%y) { %c = constant f16[] {6} %s = constant f16[] {3} %d = mul(%x, %c) %y = mul(%d, %s) }",
      "graph(%x: f32[4]) -> (%y) { %c = constant f32[] {6} %s = constant f32[1, 4] {3, 3, 3, 3} %d = mul(%x, %c)"
        + " %y = mul(%d, %s) }",
    ]
  ) { graph, node in
    guard let type = graph.type(node.outputs[0]), type.dtype == .f32 || type.dtype == .f64,
      let outer = scaling(graph, node), graph.isUsedOnce(outer.of),
      let producer = graph.producer(outer.of, "mul") ?? graph.producer(outer.of, "div"),
      let inner = scaling(graph, producer), graph.type(inner.of) == type
    else { return nil }
    let factor = inner.by * outer.by
    // Far from where either product could have overflowed or lost bits.
    guard [inner.by, outer.by, factor].allSatisfy({ $0.isNormal && abs($0.exponent) < 60 }) else { return nil }
    return graph.add("mul", [inner.of, graph.addConstant(HostTensor(scalar: factor, type.dtype))])
  }

  /// What a product with, or a division by, a constant scales, and by how much.
  private static func scaling(_ graph: Rewriting, _ node: Node) -> (of: ValueID, by: Double)? {
    if let scalar = graph.scalar(node.inputs[1]) {
      return (node.inputs[0], node.op.name == "div" ? 1 / scalar : scalar)
    }
    guard node.op.name == "mul", let scalar = graph.scalar(node.inputs[0]) else { return nil }
    return (node.inputs[1], scalar)
  }

  /// (x·w + a) + b = x·w + (a + b) for constants.
  static let joinedShifts = Rule(
    "elementwise.join-shifts", roots: ["add"],
    fires: [
      "graph(%x: f32[2, 3]) -> (%y) { %w = constant f32[3, 4] random(1) %b = constant f32[4] random(2)"
        + " %s = constant f32[1] random(3) %m = matmul(%x, %w) %a = add(%m, %b) %y = add(%s, %a) }"
    ],
    skips: [
      "graph(%x: f32[2, 4]) -> (%y) { %b = constant f32[4] random(2) %s = constant f32[4] random(3)"
        + " %a = add(%x, %b) %y = add(%a, %s) }",
      "graph(%x: f32[2, 3]) -> (%y, %a) { %w = constant f32[3, 4] random(1) %b = constant f32[4] random(2)"
        + " %s = constant f32[4] random(3) %m = matmul(%x, %w) %a = add(%m, %b) %y = add(%a, %s) }",
      "graph(%x: f32[2, 3]) -> (%y) { %w = constant f32[3, 4] random(1) %b = constant f32[4] random(2)"
        + " %s = constant f32[1, 1, 4] random(3) %m = matmul(%x, %w) %a = add(%m, %b) %y = add(%a, %s) }",
    ]
  ) { graph, node in
    for position in [0, 1] {
      guard let sum = shiftedContraction(graph, node.inputs[position]),
        let shift = graph.constant(node.inputs[1 - position]), shift.dtype.isFloat,
        graph.type(sum.product) == graph.type(node.outputs[0]),
        let both = graph.add("add", [sum.shift, node.inputs[1 - position]])
      else { continue }
      return graph.add("add", [sum.product, both])
    }
    return nil
  }

  private static func isContraction(_ graph: Rewriting, _ value: ValueID) -> Bool {
    ["conv", "matmul", "conv_transpose"].contains { graph.producer(value, $0) != nil } && graph.isUsedOnce(value)
  }

  /// conv(x, w)·c = conv(x, w·c) for a constant per output channel; matmul the same.
  static let scaledContraction = Rule(
    "contraction.scale-weights", roots: ["mul"],
    fires: [
      "graph(%x: f32[N, 3]) -> (%y) symbols(N: 0...9) { %w = constant f32[3, 4] random(1)"
        + " %s = constant f32[1, 4] random(3) %m = matmul(%x, %w) %y = mul(%m, %s) }",
      "graph(%x: f32[3]) -> (%y) { %w = constant f32[3, 4] random(1) %s = constant f32[] {3}"
        + " %m = matmul(%x, %w) %y = mul(%s, %m) }",
      "graph(%x: f32[1, 4, 5, 5]) -> (%y) { %w = constant f32[6, 2, 3, 3] random(1)"
        + " %s = constant f32[6, 1, 1] random(3)"
        + " %m = conv(%x,"
        + " %w) {strides: [1, 1], pads_begin: [1, 1], pads_end: [1, 1], dilations: [1, 1], groups: 2, layout: \"nchw\"}"
        + " %y = mul(%m, %s) }",
    ],
    skips: [
      "graph(%x: f32[4, 3]) -> (%y) { %w = constant f32[3, 4] random(1) %s = constant f32[4, 1] random(3)"
        + " %m = matmul(%x, %w) %y = mul(%m, %s) }",
      "graph(%x: f32[2, 3]) -> (%y) { %w = constant f32[3, 4] random(1)"
        + " %s = constant f32[1, 1, 4] random(3) %m = matmul(%x, %w) %y = mul(%m, %s) }",
      "graph(%x: f32[2, 3], %w: f32[3, 4]) -> (%y) { %s = constant f32[4] random(3) %m = matmul(%x, %w)"
        + " %y = mul(%m, %s) }",
      "graph(%x: f32[1, 2, 3, 3]) -> (%y) { %w = constant f32[3, 2, 1, 1] random(1)"
        + " %s = constant f32[3] random(3)"
        + " %m = conv(%x,"
        + " %w) {strides: [1, 1], pads_begin: [0, 0], pads_end: [0, 0], dilations: [1, 1], groups: 1, layout: \"nchw\"}"
        + " %y = mul(%m, %s) }",
    ]
  ) { graph, node in
    for position in [0, 1] {
      let product = node.inputs[position]
      guard isContraction(graph, product), let scale = graph.constant(node.inputs[1 - position]),
        let type = graph.type(product), type == graph.type(node.outputs[0]), scale.dtype.isFloat
      else { continue }
      if let scaled = scaledConv(&graph, product, type, scale) ?? scaledMatmul(&graph, product, type, scale) {
        return scaled
      }
    }
    return nil
  }

  private static func scaledConv(
    _ graph: inout Rewriting, _ product: ValueID, _ type: TensorType, _ scale: HostTensor
  ) -> ValueID? {
    guard let conv = graph.producer(product, "conv"), conv.op.attributes["layout"] == .string("nchw"),
      let weights = graph.constant(conv.inputs[1]), weights.rank == type.rank,
      scale.rank <= type.rank
    else { return nil }
    let padded = [Int](repeating: 1, count: type.rank - scale.rank) + scale.shape
    let channels = weights.shape[0]
    guard padded.enumerated().allSatisfy({ $0 == 1 ? $1 == 1 || $1 == channels : $1 == 1 }) else { return nil }
    var shape = [Int](repeating: 1, count: type.rank)
    shape[0] = padded[1]
    let factor = graph.addConstant(scale.reshaped(shape))
    guard let scaled = graph.add("mul", [conv.inputs[1], factor]) else { return nil }
    return graph.add(conv.op, [conv.inputs[0], scaled])
  }

  private static func scaledMatmul(
    _ graph: inout Rewriting, _ product: ValueID, _ type: TensorType, _ scale: HostTensor
  ) -> ValueID? {
    guard let matmul = graph.producer(product, "matmul"), let weights = graph.constant(matmul.inputs[1]),
      weights.rank == 2, scale.shape.dropLast().allSatisfy({ $0 == 1 }),
      scale.shape.last ?? 1 == 1 || scale.shape.last == weights.shape[1]
    else { return nil }
    let factor = graph.addConstant(scale.reshaped([1, scale.elementCount]))
    guard let scaled = graph.add("mul", [matmul.inputs[1], factor]) else { return nil }
    return graph.add(matmul.op, [matmul.inputs[0], scaled])
  }

  // MARK: Movement

  static let doubleTranspose = Rule(
    "movement.compose-transposes", roots: ["transpose"],
    fires: [
      "graph(%x: f32[2, N, 4]) -> (%z) symbols(N: 0...5) { %y = transpose(%x) {perm: [1, 2, 0]}"
        + " %z = transpose(%y) {perm: [0, 2, 1]} }"
    ],
    skips: [
      "graph(%x: f32[2, 3]) -> (%z) { %y = exp(%x) %z = transpose(%y) {perm: [1, 0]} }"
    ]
  ) { graph, node in
    guard let inner = graph.producer(node.inputs[0], "transpose"), let outerPerm = try? node.op.attributes.ints("perm"),
      let innerPerm = try? inner.op.attributes.ints("perm")
    else { return nil }
    return graph.add("transpose", inner.inputs, ["perm": .ints(outerPerm.map { innerPerm[$0] })])
  }

  static let identityTranspose = Rule(
    "movement.remove-transpose", roots: ["transpose"],
    fires: [
      "graph(%x: f32[2, 3]) -> (%z) { %y = exp(%x) %z = transpose(%y) {perm: [0, 1]} }"
    ],
    skips: [
      "graph(%x: f32[2, 2]) -> (%z) { %y = exp(%x) %z = transpose(%y) {perm: [1, 0]} }"
    ]
  ) { _, node in
    guard let perm = try? node.op.attributes.ints("perm"), perm == Array(perm.indices) else { return nil }
    return node.inputs[0]
  }

  /// A transpose that only moves dims of size 1 keeps the bytes.
  static let transposeAsReshape = Rule(
    "movement.transpose-is-reshape", roots: ["transpose"],
    fires: [
      "graph(%x: f32[2, 1, N]) -> (%z) symbols(N: 0...5) { %z = transpose(%x) {perm: [1, 0, 2]} }"
    ],
    skips: [
      "graph(%x: f32[2, 1, 3]) -> (%z) { %z = transpose(%x) {perm: [2, 1, 0]} }",
      "graph(%x: f32[2, N]) -> (%z) symbols(N: 1...5) { %z = transpose(%x) {perm: [1, 0]} }",
    ]
  ) { graph, node in
    guard let perm = try? node.op.attributes.ints("perm"), let x = graph.type(node.inputs[0]),
      let y = graph.type(node.outputs[0])
    else { return nil }
    let moved = perm.filter { x.shape[$0] != 1 }
    return moved == moved.sorted() ? graph.add("reshape", node.inputs, ["shape": .dims(y.shape)]) : nil
  }

  static let doubleReshape = Rule(
    "movement.compose-reshapes", roots: ["reshape"],
    fires: [
      "graph(%x: f32[N, 4]) -> (%z) symbols(N: 0...5) { %y = reshape(%x) {shape: [4*N]}"
        + " %z = reshape(%y) {shape: [2*N, 2]} }"
    ],
    skips: [
      "graph(%x: f32[2, 4]) -> (%z) { %y = transpose(%x) {perm: [1, 0]} %z = reshape(%y) {shape: [8]} }"
    ]
  ) { graph, node in
    guard let inner = graph.producer(node.inputs[0], "reshape") else { return nil }
    return graph.add(node.op, inner.inputs)
  }

  static let identityReshape = Rule(
    "movement.remove-same-shape", roots: ["reshape"],
    fires: [
      "graph(%x: f32[N, 4]) -> (%z) symbols(N: 0...5) { %y = exp(%x) %z = reshape(%y) {shape: [N, 4]} }"
    ],
    skips: [
      "graph(%x: f32[2, 4]) -> (%z) { %z = reshape(%x) {shape: [4, 2]} }"
    ]
  ) { graph, node in
    graph.type(node.inputs[0]) == graph.type(node.outputs[0]) ? node.inputs[0] : nil
  }

  static let identityBroadcast = Rule(
    "movement.remove-broadcast", roots: ["broadcast_to", "tile"],
    fires: [
      "graph(%x: f32[N, 4]) -> (%z) symbols(N: 0...5) { %y = exp(%x) %z = broadcast_to(%y) {shape: [N, 4]} }",
      "graph(%x: f32[N, 4]) -> (%z) symbols(N: 0...5) { %y = exp(%x) %z = tile(%y) {repeats: [1, 1]} }",
    ],
    skips: [
      "graph(%x: f32[4]) -> (%z) { %z = broadcast_to(%x) {shape: [1, 4]} }",
      "graph(%x: f32[N]) -> (%z) symbols(N: 0...5) { %z = tile(%x) {repeats: [N]} }",
    ]
  ) { graph, node in
    graph.type(node.inputs[0]) == graph.type(node.outputs[0]) ? node.inputs[0] : nil
  }

  /// An element-wise operation broadcasts its operands itself.
  static let broadcastOfScalarOperand = Rule(
    "elementwise.drop-broadcast",
    roots: ["add", "sub", "mul", "div", "min", "max", "equal", "less", "greater", "and", "or"],
    fires: [
      "graph(%x: f32[N, 4], %b: f32[4]) -> (%z) symbols(N: 0...5) { %y = broadcast_to(%b) {shape: [N, 4]}"
        + " %z = add(%y, %x) }",
      "graph(%x: f32[3, 4], %b: f32[1, 1]) -> (%z) { %y = broadcast_to(%b) {shape: [3, 4]} %z = less(%x, %y) }",
    ],
    skips: [
      "graph(%x: f32[], %b: f32[4]) -> (%z) { %y = broadcast_to(%b) {shape: [3, 4]} %z = add(%y, %x) }",
      "graph(%x: f32[N, 4], %b: f32[4]) -> (%z) symbols(N: 1...5) { %y = broadcast_to(%b) {shape: [3, 4]}"
        + " %z = add(%y, %x) }",
    ]
  ) { graph, node in
    for position in [0, 1] {
      guard let broadcast = graph.producer(node.inputs[position], "broadcast_to") else { continue }
      var inputs = node.inputs
      inputs[position] = broadcast.inputs[0]
      if let value = graph.add(node.op, inputs), graph.type(value) == graph.type(node.outputs[0]) { return value }
    }
    return nil
  }

  static let identitySlice = Rule(
    "movement.remove-slice", roots: ["slice"],
    fires: [
      "graph(%x: f32[N, 4]) -> (%z) symbols(N: 0...5) { %y = exp(%x)"
        + " %z = slice(%y) {starts: [0, 0], sizes: [N, 4], steps: [1, 1]} }"
    ],
    skips: [
      "graph(%x: f32[3, 4]) -> (%z) { %z = slice(%x) {starts: [0, 3], sizes: [3, 4], steps: [1, -1]} }",
      "graph(%x: f32[3, 4]) -> (%z) { %z = slice(%x) {starts: [0, 0], sizes: [3, 3], steps: [1, 1]} }",
    ]
  ) { graph, node in
    guard let steps = try? node.op.attributes.ints("steps"), steps.allSatisfy({ $0 == 1 }),
      let starts = try? node.op.attributes.dims("starts"), starts.allSatisfy({ $0 == 0 })
    else { return nil }
    return graph.type(node.inputs[0]) == graph.type(node.outputs[0]) ? node.inputs[0] : nil
  }

  static let identityPad = Rule(
    "movement.remove-pad", roots: ["pad"],
    fires: [
      "graph(%x: f32[N, 4]) -> (%z) symbols(N: 0...5) { %c = constant f32[] {7} %y = exp(%x)"
        + " %z = pad(%y, %c) {before: [0, 0], after: [0, 0], mode: \"constant\"} }"
    ],
    skips: [
      "graph(%x: f32[3, 4]) -> (%z) { %c = constant f32[] {7}"
        + " %z = pad(%x, %c) {before: [0, 1], after: [0, 0], mode: \"constant\"} }"
    ]
  ) { graph, node in
    guard let before = try? node.op.attributes.dims("before"), let after = try? node.op.attributes.dims("after"),
      (before + after).allSatisfy({ $0 == 0 })
    else { return nil }
    return node.inputs[0]
  }

  static let singleConcat = Rule(
    "movement.remove-concat", roots: ["concat"],
    fires: [
      "graph(%x: f32[N, 4]) -> (%z) symbols(N: 0...5) { %y = exp(%x) %z = concat(%y) {axis: 1} }"
    ],
    skips: [
      "graph(%x: f32[3, 4]) -> (%z) { %z = concat(%x, %x) {axis: 1} }"
    ]
  ) { _, node in
    node.inputs.count == 1 ? node.inputs[0] : nil
  }

  static let identityCast = Rule(
    "elementwise.remove-cast", roots: ["cast"],
    fires: [
      "graph(%x: f32[N, 4]) -> (%z) symbols(N: 0...5) { %y = exp(%x) %z = cast(%y) {to: f32, saturate: true} }"
    ],
    skips: [
      "graph(%x: f32[3, 4]) -> (%z) { %z = cast(%x) {to: f16, saturate: true} }"
    ]
  ) { graph, node in
    graph.type(node.inputs[0]) == graph.type(node.outputs[0]) ? node.inputs[0] : nil
  }
}
