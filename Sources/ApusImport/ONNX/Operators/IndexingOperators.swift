import ApusCore
import ApusGraph

/// Operators that read or write at positions that are data.
enum IndexingOperators {
  static let table: [String: Lowering] = [
    "Gather": gather, "GatherElements": gatherElements, "GatherND": gatherND, "Scatter": scatterElements,
    "ScatterElements": scatterElements, "ScatterND": scatterND, "NonZero": nonZero, "Compress": compress,
    "Unique": unique, "ReverseSequence": reverseSequence, "NonMaxSuppression": nonMaxSuppression,
    "TensorScatter": tensorScatter, "ai.onnx.ml::ArrayFeatureExtractor": arrayFeatureExtractor,
  ]

  private static func axis(_ n: NodeContext, _ x: ValueID, _ standard: Int) throws(ImportError) -> Int {
    try n.normalized(n.int("axis", standard), rank: n.rank(x))
  }

  private static func gather(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    return [try n.gather(x, n.input(1), axis: axis(n, x, 0))]
  }

  private static func gatherElements(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    return [try n.emit("gather_elements", ["axis": .int(axis(n, x, 0))], x, n.input(1))]
  }

  private static func gatherND(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    [try n.emit("gather_nd", ["batch_dims": .int(n.int("batch_dims", 0))], n.input(0), n.input(1))]
  }

  private static func reduction(_ n: NodeContext) throws(ImportError) -> Attribute {
    .string(try n.choice("reduction", ["none", "add", "mul", "min", "max"], default: "none"))
  }

  private static func scatterElements(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    return [
      try n.emit(
        "scatter_elements", ["axis": .int(axis(n, x, 0)), "reduction": reduction(n)], x, n.input(1), n.input(2))
    ]
  }

  private static func scatterND(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    [try n.emit("scatter_nd", ["reduction": reduction(n)], n.input(0), n.input(1), n.input(2))]
  }

  /// A symbol for a number of elements that is known only when the operation has run.
  private static func count(_ n: NodeContext, atMost limit: Dim) -> Attribute {
    let name = n.node.output.first { !$0.isEmpty } ?? n.node.opType
    return .dim(Dim(n.freshSymbol("\(name)_count", Interval(0, limit.range.upper))))
  }

  private static func nonZero(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    return [try n.emit("nonzero", ["count": count(n, atMost: n.type(x).elementCount)], x)]
  }

  private static func compress(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let condition = try n.input(1)
    let limit = count(n, atMost: try n.type(condition).elementCount)
    guard n.hasAttribute("axis") else { return [try n.emit("compress", ["count": limit], x, condition)] }
    return [try n.emit("compress", ["axis": .int(axis(n, x, 0)), "count": limit], x, condition)]
  }

  private static func unique(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let sorted: (String, Attribute) = ("sorted", .bool(try n.flag("sorted", true)))
    var attributes = [sorted, ("count", count(n, atMost: try n.type(x).elementCount))]
    if n.hasAttribute("axis") { attributes.append(("axis", .int(try axis(n, x, 0)))) }
    return try n.emitAll("unique", Attributes(attributes), [x])
  }

  private static func reverseSequence(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    [
      try n.emit(
        "reverse_sequence",
        ["batch_axis": .int(n.int("batch_axis", 1)), "time_axis": .int(n.int("time_axis", 0))], n.input(0), n.input(1))
    ]
  }

  private static func nonMaxSuppression(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let boxes = try n.input(0)
    let scores = try n.input(1)
    let shape = try n.shape(scores, rank: 3, "the scores")
    let least = n.optional(2) ?? n.scalar(0, .i64)
    let overlap = n.optional(3) ?? n.scalar(0, .f32)
    // Without a threshold every score counts.
    let threshold = n.optional(4) ?? n.scalar(-Double.infinity, .f32)
    return [
      try n.emit(
        "non_max_suppression",
        [
          "center_point_box": .bool(n.int("center_point_box", 0) == 1),
          "count": count(n, atMost: Dim.product(shape)),
        ], boxes, scores, least, overlap, threshold)
    ]
  }

  private static func tensorScatter(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let cache = try n.input(0)
    let shape = try n.shape(cache, minimumRank: 2)
    let positions: ValueID
    if let given = n.optional(2) {
      positions = given
    } else {
      positions = try n.broadcast(n.scalar(0, .i64), [shape[0]])
    }
    let mode = try n.choice("mode", ["linear", "circular"], default: "linear")
    return [
      try n.emit(
        "tensor_scatter", ["axis": .int(axis(n, cache, -2)), "circular": .bool(mode == "circular")], cache, n.input(1),
        positions)
    ]
  }

  private static func arrayFeatureExtractor(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let shape = try n.shape(x, minimumRank: 1)
    let indices = try n.input(1)
    let flat = try n.reshape(indices, [n.type(indices).elementCount])
    let picked = try n.gather(x, flat, axis: shape.count - 1)
    return [shape.count == 1 ? try n.unsqueeze(picked, [0]) : picked]
  }
}
