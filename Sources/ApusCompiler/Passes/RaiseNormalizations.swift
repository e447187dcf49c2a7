import ApusCore
import ApusGraph
import ApusOps

/// Recognises normalisations and softmax that a model writes out in primitives.
enum RaiseNormalizations {
  static let rules: [Rule] = [softmax, layerNorm, rmsNorm, layerNormBias]

  static let pass = Pass("norms", "recognise softmax, layer and RMS normalisation written out in primitives") {
    (graph, log, _) throws(BuildError) in
    var applied = log
    Rewriter.run(rules, on: &graph, catalogue: .standard) { rule, node in
      applied.record(node.op.name, into: node.name, taken: true, "rule \(rule.name)")
    }
    log = applied
  }

  /// exp(x − max x) / Σ exp(x − max x) = softmax(x).
  static let softmax = Rule(
    "normalization.raise-softmax", roots: ["div"],
    fires: [
      """
      graph(%x: f32[3, 5]) -> (%y as "y") {
        %m = reduce_max(%x) {axes: [1], keep_dims: true}
        %d = sub(%x, %m)
        %e = exp(%d)
        %s = reduce_sum(%e) {axes: [1], keep_dims: true}
        %y = div(%e, %s)
      }
      """
    ],
    skips: [
      """
      graph(%x: f32[3, 5]) -> (%y as "y") {
        %m = reduce_max(%x) {axes: [0], keep_dims: true}
        %d = sub(%x, %m)
        %e = exp(%d)
        %s = reduce_sum(%e) {axes: [1], keep_dims: true}
        %y = div(%e, %s)
      }
      """
    ]
  ) { graph, node in
    guard let exp = graph.producer(node.inputs[0], "exp"), let sum = graph.producer(node.inputs[1], "reduce_sum"),
      sum.inputs[0] == node.inputs[0], let axis = keptAxes(sum), axis.count == 1,
      let difference = graph.producer(exp.inputs[0], "sub"),
      let maximum = graph.producer(difference.inputs[1], "reduce_max"), maximum.inputs[0] == difference.inputs[0],
      keptAxes(maximum) == axis
    else { return nil }
    return graph.add("softmax", [difference.inputs[0]], ["axis": .int(axis[0])])
  }

  /// (x − mean) / √(mean((x − mean)²) + ε) · scale, over trailing axes.
  static let layerNorm = Rule(
    "normalization.raise-layer-norm", roots: ["mul"],
    fires: [
      """
      graph(%x: f32[3, 4]) -> (%y as "y") {
        %scale = constant f32[4] {1, 2, 3, 4}
        %eps = constant f32[] {0.00001}
        %m = reduce_mean(%x) {axes: [1], keep_dims: true}
        %d = sub(%x, %m)
        %q = mul(%d, %d)
        %v = reduce_mean(%q) {axes: [1], keep_dims: true}
        %a = add(%v, %eps)
        %r = sqrt(%a)
        %n = div(%d, %r)
        %y = mul(%n, %scale)
      }
      """
    ],
    skips: [
      """
      graph(%x: f32[4, 4]) -> (%y as "y") {
        %scale = constant f32[4] {1, 2, 3, 4}
        %eps = constant f32[] {0.00001}
        %m = reduce_mean(%x) {axes: [0], keep_dims: true}
        %d = sub(%x, %m)
        %q = mul(%d, %d)
        %v = reduce_mean(%q) {axes: [0], keep_dims: true}
        %a = add(%v, %eps)
        %r = sqrt(%a)
        %n = div(%d, %r)
        %y = mul(%n, %scale)
      }
      """
    ]
  ) { graph, node in
    guard let (normal, scale) = scaled(graph, node), let (centred, squares, epsilon) = quotient(graph, normal),
      let square = graph.producer(squares, "mul"), square.inputs == [centred, centred],
      let difference = graph.producer(centred, "sub"), let type = graph.type(difference.inputs[0]),
      let mean = graph.producer(difference.inputs[1], "reduce_mean"), mean.inputs[0] == difference.inputs[0],
      let axes = keptAxes(mean), let first = trailing(axes, type.rank), epsilon.axes == axes,
      let weights = flattened(&graph, scale, type, first)
    else { return nil }
    return graph.add(
      "layer_norm", [difference.inputs[0], weights], ["axis": .int(first), "epsilon": .float(epsilon.value)])
  }

  /// x / √(mean(x²) + ε) · scale, over trailing axes.
  static let rmsNorm = Rule(
    "normalization.raise-rms-norm", roots: ["mul"],
    fires: [
      """
      graph(%x: f32[3, 4]) -> (%y as "y") {
        %scale = constant f32[4] {1, 2, 3, 4}
        %eps = constant f32[] {0.00001}
        %q = mul(%x, %x)
        %v = reduce_mean(%q) {axes: [1], keep_dims: true}
        %a = add(%v, %eps)
        %r = sqrt(%a)
        %i = reciprocal(%r)
        %n = mul(%x, %i)
        %y = mul(%n, %scale)
      }
      """
    ],
    skips: [
      """
      graph(%x: f32[3, 4], %u: f32[3, 4]) -> (%y as "y") {
        %scale = constant f32[4] {1, 2, 3, 4}
        %eps = constant f32[] {0.00001}
        %q = mul(%u, %u)
        %v = reduce_mean(%q) {axes: [1], keep_dims: true}
        %a = add(%v, %eps)
        %r = rsqrt(%a)
        %n = mul(%x, %r)
        %y = mul(%n, %scale)
      }
      """
    ]
  ) { graph, node in
    guard let (normal, scale) = scaled(graph, node), let (x, squares, epsilon) = quotient(graph, normal),
      let square = graph.producer(squares, "mul"), square.inputs == [x, x], let type = graph.type(x),
      let first = trailing(epsilon.axes, type.rank), let weights = flattened(&graph, scale, type, first)
    else { return nil }
    return graph.add("rms_norm", [x, weights], ["axis": .int(first), "epsilon": .float(epsilon.value)])
  }

  /// layer_norm(x, scale) + bias = layer_norm(x, scale, bias).
  static let layerNormBias = Rule(
    "normalization.layer-norm-bias", roots: ["add"],
    fires: [
      """
      graph(%x: f32[3, 4]) -> (%y as "y") {
        %scale = constant f32[4] {1, 2, 3, 4}
        %bias = constant f32[4] {4, 3, 2, 1}
        %n = layer_norm(%x, %scale) {axis: 1, epsilon: 0.00001}
        %y = add(%n, %bias)
      }
      """
    ],
    skips: [
      """
      graph(%x: f32[3, 4], %bias: f32[4]) -> (%y as "y") {
        %scale = constant f32[4] {1, 2, 3, 4}
        %n = layer_norm(%x, %scale) {axis: 1, epsilon: 0.00001}
        %y = add(%n, %bias)
      }
      """
    ]
  ) { graph, node in
    for side in [0, 1] {
      guard let norm = graph.producer(node.inputs[side], "layer_norm"), norm.inputs.count == 2,
        graph.isUsedOnce(node.inputs[side]), let type = graph.type(norm.inputs[0]),
        let axis = try? norm.op.attributes.int("axis"), axis >= 0, graph.constant(node.inputs[1 - side]) != nil,
        let bias = flattened(&graph, node.inputs[1 - side], type, axis)
      else { continue }
      return graph.add(norm.op, norm.inputs + [bias])
    }
    return nil
  }

  // MARK: Parts

  /// The axes of a reduction that keeps its dims.
  private static func keptAxes(_ node: Node) -> [Int]? {
    guard case .bool(true)? = node.op.attributes["keep_dims"] else { return nil }
    return try? node.op.attributes.ints("axes")
  }

  /// The first of axes that are the last ones of a rank.
  private static func trailing(_ axes: [Int], _ rank: Int) -> Int? {
    guard let first = axes.first, axes == Array(first..<rank) else { return nil }
    return first
  }

  /// A product's computed and constant operand.
  private static func scaled(_ graph: Rewriting, _ node: Node) -> (ValueID, ValueID)? {
    for side in [0, 1] where graph.constant(node.inputs[1 - side]) != nil && graph.constant(node.inputs[side]) == nil {
      return (node.inputs[side], node.inputs[1 - side])
    }
    return nil
  }

  /// `(x, s, ε)` of x / √(mean(s) + ε), in the forms that exporters write.
  private static func quotient(
    _ graph: Rewriting, _ value: ValueID
  ) -> (ValueID, ValueID, (value: Double, axes: [Int]))? {
    if let div = graph.producer(value, "div"), let root = graph.producer(div.inputs[1], "sqrt"),
      let (squares, epsilon) = shiftedMean(graph, root.inputs[0])
    {
      return (div.inputs[0], squares, epsilon)
    }
    guard let mul = graph.producer(value, "mul") else { return nil }
    for side in [0, 1] {
      var inside: ValueID?
      if let inverse = graph.producer(mul.inputs[side], "rsqrt") { inside = inverse.inputs[0] }
      if let inverse = graph.producer(mul.inputs[side], "reciprocal"),
        let root = graph.producer(inverse.inputs[0], "sqrt")
      {
        inside = root.inputs[0]
      }
      if let inside, let (squares, epsilon) = shiftedMean(graph, inside) {
        return (mul.inputs[1 - side], squares, epsilon)
      }
    }
    return nil
  }

  private static func shiftedMean(_ graph: Rewriting, _ value: ValueID) -> (ValueID, (value: Double, axes: [Int]))? {
    guard let sum = graph.producer(value, "add") else { return nil }
    for side in [0, 1] {
      if let epsilon = graph.scalar(sum.inputs[1 - side]), let mean = graph.producer(sum.inputs[side], "reduce_mean"),
        let axes = keptAxes(mean)
      {
        return (mean.inputs[0], (epsilon, axes))
      }
    }
    return nil
  }

  /// A constant that has the shape of the normalised axes, with leading dims of 1 dropped.
  private static func flattened(
    _ graph: inout Rewriting, _ value: ValueID, _ type: TensorType, _ first: Int
  ) -> ValueID? {
    guard let own = graph.type(value), own.dtype == type.dtype else { return nil }
    let wanted = Array(type.shape[first...])
    if own.shape == wanted { return value }
    guard own.rank >= wanted.count, Array(own.shape.suffix(wanted.count)) == wanted,
      own.shape.dropLast(wanted.count).allSatisfy({ $0 == 1 })
    else { return nil }
    return graph.add("reshape", [value], ["shape": .dims(wanted)])
  }
}
