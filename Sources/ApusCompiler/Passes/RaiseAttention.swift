import ApusCore
import ApusGraph
import ApusOps

/// Recognises scaled dot-product attention written out in primitives.
enum RaiseAttention {
  static let pass = Pass("attention", "recognise attention written out in primitives") {
    (graph, log, _) throws(BuildError) in
    var applied = log
    Rewriter.run([raise], on: &graph, catalogue: .standard) { rule, node in
      applied.record(node.op.name, into: node.name, taken: true, "rule \(rule.name)")
    }
    Rewriter.run(keyRules, on: &graph, catalogue: .standard)
    log = applied
  }

  /// Makes what a target computes of attention that none of its templates takes: small floats are computed in f32, and what
  /// is left is written out in primitives.
  static func writeOut(_ graph: inout Graph, for target: any Target, _ log: inout FusionLog) {
    let rule = Rule("attention.write-out", roots: ["attention"], fires: [], skips: []) { rewriting, node in
      guard let op = node.op as? Attention,
        !target.templates.contains(where: { $0.refusal(node, in: rewriting.graph) == nil })
      else { return nil }
      guard let type = rewriting.type(node.inputs[0]), type.dtype.byteCount < 4 else {
        return try? op.decompose(node.inputs, into: &rewriting.graph, name: node.name)
      }
      var inputs: [ValueID] = []
      for input in node.inputs {
        guard let own = rewriting.type(input) else { return nil }
        let isWide = own.dtype == .bool || own.dtype == .f32
        guard let wide = isWide ? input : rewriting.add(Cast(to: .f32), [input]) else { return nil }
        inputs.append(wide)
      }
      return rewriting.add(op, inputs).flatMap { rewriting.add(Cast(to: type.dtype), [$0]) }
    }
    var applied = log
    Rewriter.run([rule], on: &graph, catalogue: .standard) { rule, node in
      applied.record(node.op.name, into: node.name, taken: true, "rule \(rule.name)")
    }
    Rewriter.run([Simplify.doubleTranspose, Simplify.identityTranspose], on: &graph, catalogue: .standard)
    log = applied
  }

  /// matmul(softmax(scale · matmul(q, kᵀ) + mask), v) = attention(q, k, v, mask).
  static let raise = Rule(
    "attention.raise", roots: ["matmul"],
    fires: [
      "graph(%q: f32[N, 3, S, 8], %k: f32[N, 3, 8, T],"
        + " %v: f32[N, 3, T, 5]) -> (%y) symbols(N: 1...2, S: 1...5, T: 1...6) {"
        + " %c = constant f32[] {0.3} %p = matmul(%q, %k) %s = mul(%p, %c) %w = softmax(%s) {axis: 3}"
        + " %y = matmul(%w, %v) }",
      "graph(%q: f32[2, 3, 4, 8], %k: f32[2, 1, 8, 6], %v: f32[2, 1, 6, 5], %m: f32[4, 6]) -> (%y) {"
        + " %c = constant f32[] {2.5} %d = div(%q, %c) %p = matmul(%d, %k) %s = add(%m, %p) %w = softmax(%s) {axis: -1}"
        + " %y = matmul(%w, %v) }",
      "graph(%q: f32[2, 3, 4, 8], %k: f32[2, 3, 8, 6], %v: f32[2, 3, 6, 5], %m: f32[2, 1, 1, 6]) -> (%y) {"
        + " %z = constant f32[] {0} %p = matmul(%q, %k) %s = add(%p, %m) %w = softmax(%s) {axis: 3} %n = is_nan(%w)"
        + " %u = where(%n, %z, %w) %y = matmul(%u, %v) }",
    ],
    skips: [
      "graph(%q: f32[N, 3, 4, 8], %k: f32[1, 3, 8, 6], %v: f32[N, 3, 6, 5]) -> (%y) symbols(N: 1...3) {"
        + " %p = matmul(%q, %k) %w = softmax(%p) {axis: 3} %y = matmul(%w, %v) }",
      "graph(%q: f32[2, 4, 4, 8], %k: f32[2, 1, 8, 6], %v: f32[2, 4, 6, 5]) -> (%y) {"
        + " %p = matmul(%q, %k) %w = softmax(%p) {axis: 3} %y = matmul(%w, %v) }",
      "graph(%q: f32[2, 3, 6, 8], %k: f32[2, 3, 8, 6], %v: f32[2, 3, 6, 5]) -> (%y) {"
        + " %p = matmul(%q, %k) %w = softmax(%p) {axis: 2} %y = matmul(%w, %v) }",
      "graph(%q: f32[2, 3, 6, 8], %k: f32[2, 3, 8, 6], %v: f32[2, 3, 6, 5]) -> (%y, %w) {"
        + " %p = matmul(%q, %k) %w = softmax(%p) {axis: 3} %y = matmul(%w, %v) }",
    ]
  ) { rewriting, node in
    guard let result = rewriting.type(node.outputs[0]), result.rank == 4, [.f32, .f16, .bf16].contains(result.dtype),
      let (softmax, guardsRows) = weights(rewriting, node.inputs[0]),
      let axis = try? softmax.op.attributes.int("axis"), axis == 3 || axis == -1
    else { return nil }
    var (scores, scale) = unscaled(rewriting, softmax.inputs[0])
    var mask: ValueID?
    if scale == 1, let sum = rewriting.producer(scores, "add"), rewriting.isUsedOnce(scores) {
      for side in [0, 1] where mask == nil {
        let (product, factor) = unscaled(rewriting, sum.inputs[side])
        if rewriting.producer(product, "matmul") != nil, rewriting.type(product)?.rank == 4 {
          (scores, scale, mask) = (product, factor, sum.inputs[1 - side])
        }
      }
    }
    guard let product = rewriting.producer(scores, "matmul"), rewriting.isUsedOnce(scores) else { return nil }
    let (q, queryScale) = unscaled(rewriting, product.inputs[0])
    let (keys, keyScale) = unscaled(rewriting, product.inputs[1])
    guard rewriting.type(q)?.rank == 4, rewriting.type(keys)?.rank == 4, rewriting.constant(keys) == nil,
      let k = rewriting.add("transpose", [keys], ["perm": .ints([0, 1, 3, 2])])
    else { return nil }
    guard agree(rewriting.type(q)?.shape, rewriting.type(keys)?.shape, rewriting.type(node.inputs[1])?.shape) else {
      return nil
    }
    let op = Attention(scale: scale * queryScale * keyScale)
    guard let value = rewriting.add(op, [q, k, node.inputs[1]] + (mask.map { [$0] } ?? [])) else { return nil }
    if !guardsRows { return value }
    // Rows that see nothing are zero where the model says so.
    let zero = rewriting.addConstant(HostTensor(scalar: 0, result.dtype))
    guard let isNaN = rewriting.add("is_nan", [value]) else { return nil }
    return rewriting.add("where", [isNaN, zero, value])
  }

  /// Whether the products broadcast nothing but one key head over the query heads.
  private static func agree(_ q: Shape?, _ k: Shape?, _ v: Shape?) -> Bool {
    guard let q, let k, let v, v.count == 4 else { return false }
    return q[0] == k[0] && q[0] == v[0] && k[1] == v[1] && (k[1] == 1 || k[1] == q[1])
  }

  /// The softmax behind the attention weights, and whether rows without a number are replaced by zeros.
  private static func weights(_ rewriting: Rewriting, _ value: ValueID) -> (Node, Bool)? {
    if let softmax = rewriting.producer(value, "softmax") {
      return rewriting.isUsedOnce(value) ? (softmax, false) : nil
    }
    guard let choice = rewriting.producer(value, "where"), rewriting.scalar(choice.inputs[1]) == 0,
      let test = rewriting.producer(choice.inputs[0], "is_nan"), test.inputs[0] == choice.inputs[2],
      let softmax = rewriting.producer(choice.inputs[2], "softmax")
    else { return nil }
    return (softmax, true)
  }

  /// What a value is a constant multiple of.
  private static func unscaled(_ rewriting: Rewriting, _ value: ValueID) -> (ValueID, Double) {
    var (value, factor) = (value, 1.0)
    while rewriting.isUsedOnce(value) {
      if let mul = rewriting.producer(value, "mul"),
        let side = [0, 1].first(where: { rewriting.scalar(mul.inputs[$0]) != nil }),
        let scale = rewriting.scalar(mul.inputs[side]), rewriting.type(mul.inputs[1 - side]) == rewriting.type(value)
      {
        (value, factor) = (mul.inputs[1 - side], factor * scale)
      } else if let div = rewriting.producer(value, "div"), let scale = rewriting.scalar(div.inputs[1]), scale != 0,
        rewriting.type(div.inputs[0]) == rewriting.type(value)
      {
        (value, factor) = (div.inputs[0], factor / scale)
      } else {
        break
      }
    }
    return (value, factor)
  }
}
