import ApusCore
import ApusGraph
import ApusOps

extension RaiseAttention {
  /// What lies between keys and an attention that reads them: rules of the pass.
  static let keyRules = [
    transposeTwice, groupHeads, Simplify.doubleTranspose, Simplify.identityTranspose, Simplify.doubleReshape,
    Simplify.identityReshape,
  ]

  /// Transposing the last two dims, reshaping those before, and transposing back is a reshape.
  static let transposeTwice = Rule(
    "attention.transpose-keys-back", roots: ["transpose"],
    fires: [
      "graph(%x: f32[6, T, 8]) -> (%z) symbols(T: 1...5) { %a = transpose(%x) {perm: [0, 2, 1]}"
        + " %b = reshape(%a) {shape: [2, 3, 8, T]} %z = transpose(%b) {perm: [0, 1, 3, 2]} }"
    ],
    skips: [
      "graph(%x: f32[6, 4, 8]) -> (%z) { %a = transpose(%x) {perm: [0, 2, 1]}"
        + " %b = reshape(%a) {shape: [2, 3, 4, 8]} %z = transpose(%b) {perm: [0, 1, 3, 2]} }",
      "graph(%x: f32[6, 4, 8]) -> (%z) { %a = transpose(%x) {perm: [1, 2, 0]}"
        + " %b = reshape(%a) {shape: [4, 2, 4, 6]} %z = transpose(%b) {perm: [0, 1, 3, 2]} }",
    ]
  ) { graph, node in
    /// Whether a transpose swaps the last two dims and keeps the others.
    func swaps(_ node: Node) -> Bool {
      guard let perm = try? node.op.attributes.ints("perm"), perm.count >= 2 else { return false }
      return perm == Array(0..<perm.count - 2) + [perm.count - 1, perm.count - 2]
    }
    guard swaps(node), let reshape = graph.producer(node.inputs[0], "reshape"),
      let first = graph.producer(reshape.inputs[0], "transpose"), swaps(first),
      let before = graph.type(reshape.inputs[0])?.shape, let after = graph.type(node.inputs[0])?.shape,
      before.suffix(2) == after.suffix(2), let shape = graph.type(node.outputs[0])?.shape
    else { return nil }
    return graph.add("reshape", first.inputs, ["shape": .dims(shape)])
  }

  /// Query heads that follow one another share a key head: keys and values need not be repeated for them.
  static let groupHeads = Rule(
    "attention.share-key-heads", roots: ["attention"],
    fires: [
      "graph(%q: f32[2, 6, S, 8], %k: f32[2, 3, T, 8], %v: f32[2, 3, T, 5]) -> (%y) symbols(S: 1...4, T: 1...5) {"
        + " %a = reshape(%k) {shape: [2, 3, 1, T, 8]} %b = broadcast_to(%a) {shape: [2, 3, 2, T, 8]}"
        + " %c = reshape(%b) {shape: [2, 6, T, 8]} %d = reshape(%v) {shape: [2, 3, 1, T, 5]}"
        + " %e = broadcast_to(%d) {shape: [2, 3, 2, T, 5]} %f = reshape(%e) {shape: [2, 6, T, 5]}"
        + " %y = attention(%q, %c, %f) {scale: 0.5, causal: false, softcap: 0.0, offset: 0} }"
    ],
    skips: [
      "graph(%q: f32[2, 6, 4, 8], %k: f32[2, 3, 5, 8], %v: f32[2, 6, 5, 5]) -> (%y) {"
        + " %a = reshape(%k) {shape: [2, 3, 1, 5, 8]} %b = broadcast_to(%a) {shape: [2, 3, 2, 5, 8]}"
        + " %c = reshape(%b) {shape: [2, 6, 5, 8]}"
        + " %y = attention(%q, %c, %v) {scale: 0.5, causal: false, softcap: 0.0, offset: 0} }",
      "graph(%q: f32[2, 6, 4, 8], %k: f32[2, 3, 5, 8], %v: f32[2, 3, 5, 5]) -> (%y) {"
        + " %a = reshape(%k) {shape: [2, 1, 3, 5, 8]} %b = broadcast_to(%a) {shape: [2, 2, 3, 5, 8]}"
        + " %c = reshape(%b) {shape: [2, 6, 5, 8]} %d = reshape(%v) {shape: [2, 1, 3, 5, 5]}"
        + " %e = broadcast_to(%d) {shape: [2, 2, 3, 5, 5]} %f = reshape(%e) {shape: [2, 6, 5, 5]}"
        + " %y = attention(%q, %c, %f) {scale: 0.5, causal: false, softcap: 0.0, offset: 0} }",
    ]
  ) { graph, node in
    /// The repeated tensor, and its shape of rank 4.
    func repeated(_ value: ValueID) -> (ValueID, Shape)? {
      guard let reshape = graph.producer(value, "reshape"), let result = graph.type(value)?.shape, result.count == 4,
        let broadcast = graph.producer(reshape.inputs[0], "broadcast_to"),
        let from = graph.type(broadcast.inputs[0])?.shape, let to = graph.type(reshape.inputs[0])?.shape,
        from.count == 5, to.count == 5, from[2] == 1, from[0] == to[0], from[1] == to[1], from[3] == to[3],
        from[4] == to[4], result[0] == to[0], result[1] == to[1] * to[2], result[2] == to[3]
      else { return nil }
      return (broadcast.inputs[0], [from[0], from[1], from[3], from[4]])
    }
    guard let (keys, keyShape) = repeated(node.inputs[1]), let (values, valueShape) = repeated(node.inputs[2]),
      keyShape[1] == valueShape[1], let k = graph.add("reshape", [keys], ["shape": .dims(keyShape)]),
      let v = graph.add("reshape", [values], ["shape": .dims(valueShape)])
    else { return nil }
    return graph.add(node.op, [node.inputs[0], k, v] + node.inputs.dropFirst(3))
  }
}
