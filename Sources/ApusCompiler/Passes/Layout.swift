import ApusCore
import ApusGraph
import ApusOps

/// Puts channels last for convolutions and pooling, and moves the transposes this takes to where they cancel.
enum Layout {
  private static let windowed = ["conv", "conv_transpose", "max_pool", "average_pool", "lp_pool"]

  static let pass = Pass("layout", "compute convolutions and pooling with channels last") {
    (graph, log) throws(BuildError) in
    let hasAnchor = graph.order.contains { id in
      ["conv", "conv_transpose"].contains(graph[id].op.name) && channelsLast.accepts(graph[id], graph)
    }
    if !hasAnchor { return }
    var applied = log
    Rewriter.run([channelsLast.rule], on: &graph, catalogue: .standard) { rule, node in
      applied.record(node.op.name, into: node.name, taken: true, "rule \(rule.name)")
    }
    // Weights are transposed at build time.
    try Fold.pass.apply(&graph, &applied)
    Rewriter.run(
      [Simplify.doubleTranspose, Simplify.identityTranspose, Simplify.transposeAsReshape, sink], on: &graph,
      catalogue: .standard)
    try Fold.pass.apply(&graph, &applied)
    log = applied
  }

  // MARK: Anchors

  private enum channelsLast {
    static func accepts(_ node: Node, _ graph: Graph) -> Bool {
      guard windowed.contains(node.op.name), node.op.attributes["layout"] == .string("nchw"),
        let x = graph.type(node.inputs[0]).tensor, x.dtype == .f32, x.rank == 3 || x.rank == 4,
        x.shape[1].isConstant
      else { return false }
      return node.inputs.count == 1 || graph[node.inputs[1]].constant != nil
    }

    static let rule = Rule("layout.channels-last", roots: windowed) { rewriting, node in
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

  private static func toLast(_ rank: Int) -> [Int] { [0] + Array(2..<rank) + [1] }
  private static func toFirst(_ rank: Int) -> [Int] { [0, rank - 1] + Array(1..<rank - 1) }

  // MARK: Sinking transposes

  /// f(transpose(x), …) = transpose(f(x, …)): transposes move towards the outputs until they meet their inverse.
  static let sink = Rule("layout.sink-transpose", roots: Permutable.names) { rewriting, node in
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
