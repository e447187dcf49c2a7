import ApusCore
import ApusGraph

/// Reductions, cumulative sums and searches along axes.
enum ReduceOperators {
  static let table: [String: Lowering] = [
    "ReduceSum": reduce("sum"), "ReduceMean": reduce("mean"), "ReduceProd": reduce("prod"),
    "ReduceMin": reduce("min"), "ReduceMax": reduce("max"), "ReduceL1": reduceL1, "ReduceL2": reduceL2,
    "ReduceSumSquare": reduceSumSquare, "ReduceLogSum": reduceLogSum, "ReduceLogSumExp": reduceLogSumExp,
    "ArgMax": argument("argmax"), "ArgMin": argument("argmin"),
    "CumSum": cumulative("cumsum"), "CumProd": cumulative("cumprod"), "TopK": topK,
    "GlobalAveragePool": globalPool("mean"), "GlobalMaxPool": globalPool("max"), "GlobalLpPool": globalLpPool,
  ]

  /// The axes to reduce: an attribute in early operator sets, an input since; all where absent. Nil: nothing to do.
  private static func axes(_ n: NodeContext, _ x: ValueID) throws(ImportError) -> [Int]? {
    let rank = try n.rank(x)
    var axes = try n.optionalInts("axes")
    if let input = n.optional(1) { axes = try n.requireInts(input, "axes") }
    if let axes, !axes.isEmpty { return try n.normalized(axes: axes, rank: rank) }
    if try n.flag("noop_with_empty_axes") { return nil }
    return Array(0..<rank)
  }

  /// Reduces what `before` makes of the input, and applies `after`. With no axes to reduce only the two remain.
  private static func reduce(
    _ n: NodeContext, _ kind: String,
    before: (ValueID) throws(ImportError) -> ValueID = { x throws(ImportError) in x },
    after: (ValueID) throws(ImportError) -> ValueID = { x throws(ImportError) in x }
  ) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let keepDims = try n.flag("keepdims", true)
    let axes = try axes(n, x)
    return [try after(n.reduce(kind, before(x), axes ?? [], keepDims: keepDims))]
  }

  private static func reduce(_ kind: String) -> Lowering {
    { n throws(ImportError) in
      let x = try n.input(0)
      let isBool = try n.dtype(x) == .bool
      return try reduce(n, isBool ? (kind == "min" ? "and" : "or") : kind)
    }
  }

  private static func reduceL1(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    try reduce(n, "sum", before: { x throws(ImportError) in try n("abs", x) })
  }

  private static func reduceL2(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    try reduce(
      n, "sum", before: { x throws(ImportError) in try n("mul", x, x) },
      after: { x throws(ImportError) in try throughFloats(n, x) { y throws(ImportError) in try n("sqrt", y) } })
  }

  /// What a function of floats gives; integers become f64 and the result is cut off.
  private static func throughFloats(
    _ n: NodeContext, _ x: ValueID, _ function: (ValueID) throws(ImportError) -> ValueID
  ) throws(ImportError) -> ValueID {
    let dtype = try n.dtype(x)
    if dtype.isFloat { return try function(x) }
    return try n.cast(function(n.cast(x, .f64)), dtype)
  }

  private static func reduceSumSquare(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    try reduce(n, "sum", before: { x throws(ImportError) in try n("mul", x, x) })
  }

  private static func reduceLogSum(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    try reduce(
      n, "sum", after: { x throws(ImportError) in try throughFloats(n, x) { y throws(ImportError) in try n("log", y) } }
    )
  }

  private static func reduceLogSumExp(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let keepDims = try n.flag("keepdims", true)
    guard let axes = try axes(n, x), !axes.isEmpty else { return [x] }
    let result = try throughFloats(n, x) { x throws(ImportError) in
      // Shifted by the maximum, except where that is infinite or there is nothing to reduce.
      let zero = try n.scalar(0, like: x)
      let largest = try n.reduce("max", x, axes, keepDims: true)
      let shift = try n.select(n("is_inf", largest), zero, largest)
      let sum = try n.reduce("sum", n("exp", n("sub", x, shift)), axes, keepDims: true)
      return try n("add", n("log", sum), shift)
    }
    return [keepDims ? result : try n.squeeze(result, axes)]
  }

  private static func argument(_ name: String) -> Lowering {
    { n throws(ImportError) in
      let x = try n.input(0)
      let axis = try n.normalized(n.int("axis", 0), rank: n.rank(x))
      return [
        try n.emit(
          name,
          [
            "axis": .int(axis), "keep_dims": .bool(n.flag("keepdims", true)),
            "select_last": .bool(n.flag("select_last_index")),
          ], x)
      ]
    }
  }

  private static func cumulative(_ name: String) -> Lowering {
    { n throws(ImportError) in
      let x = try n.input(0)
      let axis = try n.normalized(n.requireInt(n.input(1), "axis"), rank: n.rank(x))
      return [
        try n.emit(
          name, ["axis": .int(axis), "exclusive": .bool(n.flag("exclusive")), "reverse": .bool(n.flag("reverse"))], x)
      ]
    }
  }

  private static func topK(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let axis = try n.normalized(n.int("axis", -1), rank: n.rank(x))
    let count = n.opset < 10 ? Dim(try n.int("k")) : try n.size(n.input(1), "k")
    return try n.emitAll(
      "top_k",
      [
        "axis": .int(axis), "k": .dim(count), "largest": .bool(n.flag("largest", true)),
        "sorted": .bool(n.flag("sorted", true)),
      ], [x])
  }

  // MARK: Pooling of all positions

  private static func spatialAxes(_ n: NodeContext, _ x: ValueID) throws(ImportError) -> [Int] {
    Array(2..<(try n.shape(x, minimumRank: 3)).count)
  }

  private static func globalPool(_ kind: String) -> Lowering {
    { n throws(ImportError) in
      let x = try n.input(0)
      return [try n.reduce(kind, x, spatialAxes(n, x), keepDims: true)]
    }
  }

  private static func globalLpPool(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    return [try norm(n, x, spatialAxes(n, x), order: n.int("p", 2), keepDims: true)]
  }

  /// `(Σ |x|^order)^(1/order)` over axes.
  static func norm(
    _ n: NodeContext, _ x: ValueID, _ axes: [Int], order: Int, keepDims: Bool
  ) throws(ImportError) -> ValueID {
    switch order {
    case 1: return try n.reduce("sum", n("abs", x), axes, keepDims: keepDims)
    case 2: return try n("sqrt", n.reduce("sum", n("mul", x, x), axes, keepDims: keepDims))
    default:
      guard order > 0 else { throw ImportError("APUS-I-0012", "the order of the norm is \(order)") }
      let powers = try n("pow", n("abs", x), n.scalar(Double(order), like: x))
      let sum = try n.reduce("sum", powers, axes, keepDims: keepDims)
      return try n("pow", sum, n.scalar(1 / Double(order), like: x))
    }
  }
}
