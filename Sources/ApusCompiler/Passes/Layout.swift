import ApusCore
import ApusGraph
import ApusOps

/// Puts channels last for convolutions and pooling, and moves the transposes this takes to where they cancel.
enum Layout {
  static let windowed = ["conv", "conv_transpose", "max_pool", "average_pool", "lp_pool"]

  static let rules: [Rule] = [channelsLast.rule, disjointTranspose, productOfPlanes, sink, sinkThroughReshape]

  static let pass = Pass("layout", "choose where the channels of convolutions and pooling are, and move transposes") {
    (graph, log, settings) throws(BuildError) in
    let choice = LayoutChoice(of: graph, settings)
    var applied = log
    choice.record(in: &applied)
    if !choice.last.isEmpty || !choice.first.isEmpty {
      Rewriter.run(
        [
          disjointTranspose.among(choice.last), channelsLast.rule.among(choice.last),
          productOfPlanes.among(choice.first),
        ], on: &graph, catalogue: .standard
      ) { rule, node in
        applied.record(node.op.name, into: node.name, taken: true, "rule \(rule.name)")
      }
      // Weights are transposed at build time.
      try Fold.pass.apply(&graph, &applied)
      Rewriter.run(
        [Simplify.doubleTranspose, Simplify.identityTranspose, Simplify.transposeAsReshape, sink, sinkThroughReshape],
        on: &graph, catalogue: .standard)
      try Fold.pass.apply(&graph, &applied)
    }
    log = applied
  }

  /// Why a node's channels cannot come last; nil where they can.
  static func refusal(_ node: Node, _ graph: Graph) -> String? {
    guard let x = graph.type(node.inputs[0]).tensor, [.f32, .f16, .bf16].contains(x.dtype) else {
      return "it is computed in other types than f32, f16 and bf16"
    }
    if x.rank != 3 && x.rank != 4 { return "it has \(x.rank - 2) spatial axes, not one or two" }
    if !x.shape[1].isConstant { return "the number of its channels is not known" }
    if node.inputs.count > 1, graph[node.inputs[1]].constant == nil { return "its weights are no constant" }
    return nil
  }

  // MARK: Anchors

  private enum channelsLast {
    static func accepts(_ node: Node, _ graph: Graph) -> Bool {
      windowed.contains(node.op.name) && node.op.attributes["layout"] == .string("nchw") && refusal(node, graph) == nil
    }

    static let rule = Rule(
      "layout.channels-last", roots: windowed,
      fires: [
        "graph(%x: f32[N, 4, 5, 6]) -> (%y) symbols(N: 0...3) { %w = constant f32[6, 2, 3, 2] random(1) "
          + "%y = conv(%x, %w) {strides: [1, 2], pads_begin: [1, 0], pads_end: [1, 1], dilations: [1, 1], groups: 2, "
          + "layout: \"nchw\"} }",
        "graph(%x: f32[1, 4, 5]) -> (%y) { %w = constant f32[4, 2, 3] random(1) "
          + "%y = conv_transpose(%x, %w) {strides: [2], pads_begin: [1], pads_end: [0], dilations: [1], "
          + "output_padding: [1], groups: 2, layout: \"nchw\"} }",
        "graph(%x: f32[1, 3, 5, 5]) -> (%y) { %y = max_pool(%x) {kernel: [2, 2], strides: [2, 1], pads_begin: [0, 1], "
          + "pads_end: [0, 0], dilations: [1, 1], ceil_mode: true, count_include_pad: false, p: 2, layout: \"nchw\"} }",
      ],
      skips: [
        "graph(%x: f32[1, 4, 5], %w: f32[4, 4, 3]) -> (%y) { %y = conv(%x, %w) {strides: [1], pads_begin: [1], "
          + "pads_end: [0], dilations: [1], groups: 1, layout: \"nchw\"} }",
        "graph(%x: f32[1, 5, 4]) -> (%y) { %w = constant f32[4, 3, 4] random(1) %y = conv(%x, %w) {strides: [1], "
          + "pads_begin: [1], pads_end: [0], dilations: [1], groups: 1, layout: \"nhwc\"} }",
        "graph(%x: f32[1, 4, 5, 5, 5]) -> (%y) { %w = constant f32[4, 4, 1, 1, 1] random(1) %y = conv(%x, %w) "
          + "{strides: [1, 1, 1], pads_begin: [0, 0, 0], pads_end: [0, 0, 0], dilations: [1, 1, 1], groups: 1, "
          + "layout: \"nchw\"} }",
      ]
    ) { rewriting, node in
      guard accepts(node, rewriting.graph), let x = rewriting.type(node.inputs[0]),
        let y = rewriting.type(node.outputs[0])
      else { return nil }
      let attributes = Attributes(
        node.op.attributes.entries.map { ($0.name, $0.name == "layout" ? .string("nhwc") : $0.value) })
      var inputs: [ValueID] = []
      guard let moved = rewriting.add("transpose", [node.inputs[0]], ["perm": .ints(toLast(x.rank))]) else {
        return nil
      }
      inputs.append(moved)
      if node.inputs.count > 1 {
        // [O, C/g, spatial…] → [O, spatial…, C/g], and the same for transposed convolution.
        guard let weights = rewriting.add("transpose", [node.inputs[1]], ["perm": .ints(toLast(x.rank))]) else {
          return nil
        }
        inputs.append(weights)
      }
      guard let result = rewriting.add(node.op.name, inputs, attributes) else { return nil }
      return rewriting.add("transpose", [result], ["perm": .ints(toFirst(y.rank))])
    }
  }

  /// A transposed convolution whose windows do not overlap is a product per pixel and a rearrangement; worth it for few
  /// channels, where the product's columns are window positions.
  static let disjointTranspose = Rule(
    "layout.disjoint-transposed-convolution", roots: ["conv_transpose"],
    fires: [
      "graph(%x: f32[N, 3, 4, S]) -> (%y) symbols(N: 0...3, S: 1...5) { %w = constant f32[3, 2, 2, 3] random(1) "
        + "%y = conv_transpose(%x, %w) {strides: [2, 3], pads_begin: [0, 0], pads_end: [0, 0], dilations: [1, 1], "
        + "output_padding: [0, 0], groups: 1, layout: \"nchw\"} }"
    ],
    skips: [
      "graph(%x: f32[1, 3, 4, 4]) -> (%y) { %w = constant f32[3, 2, 3, 3] random(1) "
        + "%y = conv_transpose(%x, %w) {strides: [2, 2], pads_begin: [0, 0], pads_end: [0, 0], dilations: [1, 1], "
        + "output_padding: [0, 0], groups: 1, layout: \"nchw\"} }",
      "graph(%x: f32[1, 3, 4, 4]) -> (%y) { %w = constant f32[3, 2, 2, 2] random(1) "
        + "%y = conv_transpose(%x, %w) {strides: [2, 2], pads_begin: [1, 0], pads_end: [0, 0], dilations: [1, 1], "
        + "output_padding: [0, 0], groups: 1, layout: \"nchw\"} }",
    ]
  ) { rewriting, node in
    guard channelsLast.accepts(node, rewriting.graph), let x = rewriting.type(node.inputs[0]), x.rank == 4,
      let y = rewriting.type(node.outputs[0]), let weights = rewriting.constant(node.inputs[1]),
      case .int(1)? = node.op.attributes["groups"], let strides = try? node.op.attributes.ints("strides"),
      let dilations = try? node.op.attributes.ints("dilations"), dilations.allSatisfy({ $0 == 1 }),
      let begin = try? node.op.attributes.ints("pads_begin"), let end = try? node.op.attributes.ints("pads_end"),
      let extra = try? node.op.attributes.ints("output_padding"), (begin + end + extra).allSatisfy({ $0 == 0 }),
      weights.rank == 4, Array(weights.shape[2...]) == strides, weights.shape[1] < 8
    else { return nil }
    let (channels, outputs) = (weights.shape[0], weights.shape[1])
    let (h, w) = (x.shape[2], x.shape[3])
    guard let pixels = rewriting.add("transpose", [node.inputs[0]], ["perm": .ints([0, 2, 3, 1])]),
      let columns = rewriting.add(
        "reshape", [node.inputs[1]], ["shape": .dims([Dim(channels), Dim(outputs * strides[0] * strides[1])])]),
      let product = rewriting.add("matmul", [pixels, columns]),
      let windows = rewriting.add(
        "reshape", [product],
        ["shape": .dims([x.shape[0], h, w, Dim(outputs), Dim(strides[0]), Dim(strides[1])])]),
      let placed = rewriting.add("transpose", [windows], ["perm": .ints([0, 3, 1, 4, 2, 5])])
    else { return nil }
    return rewriting.add("reshape", [placed], ["shape": .dims(y.shape)])
  }

  /// A convolution of single pixels with channels first is a product whose right side are the planes as they lie.
  static let productOfPlanes = Rule(
    "layout.product-of-planes", roots: ["conv"],
    fires: [
      "graph(%x: f32[N, 4, 5, S]) -> (%y) symbols(N: 1...3, S: 1...5) { %w = constant f32[6, 4, 1, 1] random(1) "
        + "%y = conv(%x, %w) {strides: [1, 1], pads_begin: [0, 0], pads_end: [0, 0], dilations: [1, 1], groups: 1, "
        + "layout: \"nchw\"} }"
    ],
    skips: [
      "graph(%x: f32[1, 4, 5]) -> (%y) { %w = constant f32[6, 4, 1] random(1) %y = conv(%x, %w) {strides: [2], "
        + "pads_begin: [0], pads_end: [0], dilations: [1], groups: 1, layout: \"nchw\"} }",
      "graph(%x: f32[1, 4, 5]) -> (%y) { %w = constant f32[6, 2, 1] random(1) %y = conv(%x, %w) {strides: [1], "
        + "pads_begin: [0], pads_end: [0], dilations: [1], groups: 2, layout: \"nchw\"} }",
    ]
  ) { rewriting, node in
    guard let x = rewriting.type(node.inputs[0]), let y = rewriting.type(node.outputs[0]),
      isOfSinglePixels(node, rewriting.graph), let weights = rewriting.constant(node.inputs[1])
    else { return nil }
    let pixels = Dim.product(x.shape[2...])
    guard
      let planes = rewriting.add("reshape", [node.inputs[0]], ["shape": .dims([x.shape[0], x.shape[1], pixels])]),
      let rows = rewriting.add(
        "reshape", [node.inputs[1]], ["shape": .dims([Dim(weights.shape[0]), Dim(weights.shape[1])])]),
      let product = rewriting.add("matmul", [rows, planes])
    else { return nil }
    return rewriting.add("reshape", [product], ["shape": .dims(y.shape)])
  }

  /// Whether each result of a convolution with channels first is a sum over one pixel of its input at the same place.
  static func isOfSinglePixels(_ node: Node, _ graph: Graph) -> Bool {
    guard node.op.name == "conv", node.op.attributes["layout"] == .string("nchw"),
      let x = graph.type(node.inputs[0]).tensor, let y = graph.type(node.outputs[0]).tensor,
      let weights = graph[node.inputs[1]].constant, case .int(1)? = node.op.attributes["groups"],
      let strides = try? node.op.attributes.ints("strides"), strides.allSatisfy({ $0 == 1 })
    else { return false }
    return weights.shape[2...].allSatisfy { $0 == 1 } && Array(x.shape[2...]) == Array(y.shape[2...])
  }

  private static func toLast(_ rank: Int) -> [Int] { [0] + Array(2..<rank) + [1] }
  private static func toFirst(_ rank: Int) -> [Int] { [0, rank - 1] + Array(1..<rank - 1) }

  // MARK: Sinking transposes

  /// f(transpose(x), …) = transpose(f(x, …)): transposes move towards the outputs until they meet their inverse.
  static let sink = Rule(
    "layout.sink-transpose", roots: Permutable.names,
    fires: [
      "graph(%x: f32[2, 3, N]) -> (%z) symbols(N: 2...5) { %t = transpose(%x) {perm: [2, 0, 1]} %z = relu(%t) }",
      "graph(%x: f32[2, 3, 4]) -> (%z) { %t = transpose(%x) {perm: [2, 0, 1]} %b = constant f32[3] random(1) "
        + "%a = add(%t, %b) %z = mul(%a, %t) }",
      "graph(%x: f32[2, 3, 4], %u: f32[2, 3, 4], %c: bool[1, 3]) -> (%z) { %t = transpose(%x) {perm: [2, 0, 1]} "
        + "%v = transpose(%u) {perm: [2, 0, 1]} %z = where(%c, %t, %v) }",
      "graph(%x: f32[2, 3, 4]) -> (%z) { %t = transpose(%x) {perm: [2, 0, 1]} "
        + "%z = reduce_sum(%t) {axes: [0, 2], keep_dims: true} }",
      "graph(%x: f32[2, 3, 4], %u: f32[2, 3, 1]) -> (%z) { %t = transpose(%x) {perm: [2, 0, 1]} "
        + "%v = transpose(%u) {perm: [2, 0, 1]} %z = concat(%t, %v) {axis: 0} }",
      "graph(%x: f32[2, 3, 4]) -> (%z) { %t = transpose(%x) {perm: [2, 0, 1]} %z = softmax(%t) {axis: -1} }",
      "graph(%x: f32[2, 3, 5]) -> (%z) { %t = transpose(%x) {perm: [2, 0, 1]} "
        + "%z = slice(%t) {starts: [4, 0, 1], sizes: [2, 2, 1], steps: [-2, 1, 1]} }",
      "graph(%x: f32[2, 3, 5]) -> (%z) { %c = constant f32[] {7} %t = transpose(%x) {perm: [2, 0, 1]} "
        + "%z = pad(%t, %c) {before: [1, 0, 2], after: [0, 3, 0], mode: \"constant\"} }",
    ],
    skips: [
      "graph(%x: f32[2, 3, 4], %u: f32[4, 2, 3]) -> (%z) { %t = transpose(%x) {perm: [2, 0, 1]} %z = add(%t, %u) }",
      "graph(%x: f32[2, 3, 4]) -> (%z) { %t = transpose(%x) {perm: [2, 0, 1]} "
        + "%z = reduce_sum(%t) {axes: [0], keep_dims: false} }",
      "graph(%x: f32[4], %u: f32[2, 4]) -> (%z) { %t = transpose(%x) {perm: [0]} %z = add(%t, %u) }",
    ]
  ) { rewriting, node in
    let ranks = node.inputs.map { rewriting.type($0)?.rank }
    guard let rank = rewriting.type(node.outputs[0])?.rank else { return nil }
    // The permutation to move through: of the first operand that is a transpose of full rank.
    var permutation: [Int]?
    for (index, input) in node.inputs.enumerated() where permutation == nil && ranks[index] == rank {
      if let transpose = rewriting.producer(input, "transpose") {
        permutation = try? transpose.op.attributes.ints("perm")
      }
    }
    guard let perm = permutation, perm.count == rank else { return nil }
    let inverse = perm.indices.map { axis in perm.firstIndex(of: axis) ?? axis }
    guard isWorthwhile(rewriting, node, perm),
      let (name, attributes, outputPerm) = Permutable.permuted(node, perm, rewriting.graph)
    else { return nil }
    var inputs: [ValueID] = []
    for (index, input) in node.inputs.enumerated() {
      guard let moved = unpermuted(input, perm, inverse, rank, isData: Permutable.isData(node, index), &rewriting)
      else {
        return nil
      }
      inputs.append(moved)
    }
    guard let result = rewriting.add(name, inputs, attributes) else { return nil }
    return rewriting.add("transpose", [result], ["perm": .ints(outputPerm)])
  }

  /// reshape(transpose(x)) = transpose(reshape(x)) where what the reshape joins lies side by side in x too, and what it splits is one
  /// axis, as behind a convolution along a line or before heads are taken apart.
  static let sinkThroughReshape = Rule(
    "layout.sink-transpose-through-reshape", roots: ["reshape"],
    fires: [
      "graph(%x: f32[1, 5, 1, 4]) -> (%z) { %t = transpose(%x) {perm: [0, 3, 1, 2]} "
        + "%z = reshape(%t) {shape: [1, 4, 5]} }",
      "graph(%x: f32[N, 5, 4]) -> (%z) symbols(N: 0...3) { %t = transpose(%x) {perm: [0, 2, 1]} "
        + "%z = reshape(%t) {shape: [N, 4, 1, 5, 1]} }",
      "graph(%x: f32[N, 5, S, 6]) -> (%z) symbols(N: 1...3, S: 1...4) { %t = transpose(%x) {perm: [0, 3, 1, 2]} "
        + "%z = reshape(%t) {shape: [N, 2, 3, 5*S]} }",
    ],
    skips: [
      "graph(%x: f32[2, 5, 4]) -> (%z) { %t = transpose(%x) {perm: [0, 2, 1]} %z = reshape(%t) {shape: [2, 20]} }",
      "graph(%x: f32[2, 5, 2]) -> (%z) { %t = transpose(%x) {perm: [2, 1, 0]} %z = reshape(%t) {shape: [5, 2, 2]} }",
      "graph(%x: f32[4, 5, 6]) -> (%z) { %t = transpose(%x) {perm: [1, 0, 2]} %z = reshape(%t) {shape: [5, 8, 3]} }",
    ]
  ) { rewriting, node in
    guard let transpose = rewriting.producer(node.inputs[0], "transpose"),
      let perm = try? transpose.op.attributes.ints("perm"), let x = rewriting.type(transpose.inputs[0]),
      let y = rewriting.type(node.outputs[0]), let lying = axes(of: y.shape, in: x.shape, perm),
      let reshaped = rewriting.add("reshape", [transpose.inputs[0]], ["shape": .dims(lying.map { y.shape[$0] })])
    else { return nil }
    return rewriting.add(
      "transpose", [reshaped], ["perm": .ints(y.shape.indices.compactMap { lying.firstIndex(of: $0) })])
  }

  /// The axes of a reshaped transposed value in the order in which they lie before it is transposed; nil where they are mixed.
  private static func axes(of result: Shape, in source: Shape, _ perm: [Int]) -> [Int]? {
    // Axes of one element are everywhere; they go behind the axis that is before them.
    let lying = source.indices.filter { source[$0] != 1 }
    var from = perm.filter { source[$0] != 1 }[...]
    var to = result.indices.filter { result[$0] != 1 }[...]
    var places: [Int: Int] = [:]
    while let first = from.popFirst(), let axis = to.popFirst(), let place = lying.firstIndex(of: first) {
      var (taken, made, last) = (source[first], result[axis], place)
      places[axis] = place
      while taken != made {
        if taken.dividedExactly(by: made) != nil, let next = to.popFirst() {
          made = made * result[next]
          places[next] = place
        } else if made.dividedExactly(by: taken) != nil, let next = from.popFirst(),
          lying.firstIndex(of: next) == last + 1
        {
          taken = taken * source[next]
          last += 1
        } else {
          return nil
        }
      }
    }
    guard from.isEmpty, to.isEmpty, places.count == result.filter({ $0 != 1 }).count else { return nil }
    var before = -1
    var keys: [Int] = []
    for axis in result.indices {
      before = places[axis] ?? before
      keys.append(before)
    }
    return result.indices.sorted { (keys[$0], $0) < (keys[$1], $1) }
  }

  /// More elements must lose a transpose than gain one.
  private static func isWorthwhile(_ rewriting: Rewriting, _ node: Node, _ perm: [Int]) -> Bool {
    var balance = 0.0
    for (index, input) in node.inputs.enumerated() where Permutable.isData(node, index) {
      guard let type = rewriting.type(input), type.rank == perm.count, rewriting.constant(input) == nil,
        type.shape.filter({ $0 != 1 }).count > 1
      else { continue }
      let own = rewriting.producer(input, "transpose").flatMap { try? $0.op.attributes.ints("perm") }
      balance += Double(type.elementCount.estimate) * (own == perm ? 1 : -1)
    }
    return balance > 0
  }

  /// `transpose⁻¹(value)`: the transpose's operand where there is one, a reshaped constant, or a new transpose.
  private static func unpermuted(
    _ value: ValueID, _ perm: [Int], _ inverse: [Int], _ rank: Int, isData: Bool, _ rewriting: inout Rewriting
  ) -> ValueID? {
    guard isData, let type = rewriting.type(value) else { return value }
    if type.rank == 0 { return value }
    if let transpose = rewriting.producer(value, "transpose"), (try? transpose.op.attributes.ints("perm")) == perm {
      return transpose.inputs[0]
    }
    var full = value
    if type.rank < rank {
      let shape = Array(repeating: Dim(1), count: rank - type.rank) + type.shape
      guard let reshaped = rewriting.add("reshape", [value], ["shape": .dims(shape)]) else { return nil }
      full = reshaped
    }
    return rewriting.add("transpose", [full], ["perm": .ints(inverse)])
  }
}
