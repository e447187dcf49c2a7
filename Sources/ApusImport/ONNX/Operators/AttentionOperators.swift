import ApusCore
import ApusGraph

/// Attention and what belongs to it.
enum AttentionOperators {
  static let table: [String: Lowering] = [
    "Attention": attention, "RotaryEmbedding": rotaryEmbedding, "ai.onnx.preview::FlexAttention": flexAttention,
  ]

  /// Queries, keys and values as `[batch, heads, positions, depth]`.
  struct Heads {
    var q: ValueID
    var k: ValueID
    var v: ValueID
    /// The operands came as `[batch, positions, heads · depth]`.
    var wasPacked: Bool
  }

  /// Which keys a query may see, and what is added to its scores.
  struct Mask {
    var allowed: ValueID?
    var bias: ValueID?
    var isEmpty: Bool { allowed == nil && bias == nil }
  }

  // MARK: Attention

  private static func attention(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    var heads = try unpacked(n)
    let past = n.optional(4)
    if let past {
      heads.k = try n.concat([past, heads.k], axis: 2)
      heads.v = try n.concat([n.input(5), heads.v], axis: 2)
    }
    let depth = try n.shape(heads.q)[3]
    let scale = try scale(n, depth)
    let softcap = try n.float("softcap", 0)
    let isCausal = try n.flag("is_causal")
    let windows = (left: try n.int("left_window_size", -1), right: try n.int("right_window_size", -1))
    let offset = try past.map { id throws(ImportError) in try n.shape(id, rank: 4, "past_key")[2] } ?? 0
    let isPlainCausal =
      isCausal && n.optional(3) == nil && n.optional(6) == nil && windows.left < 0 && windows.right < 0
    let mask = isPlainCausal ? Mask() : try mask(n, heads, causal: isCausal, windows, offset)
    var results: [ValueID]
    if n.wants(3) || n.hasAttribute("softmax_precision") {
      let causal = isPlainCausal ? try self.mask(n, heads, causal: true, windows, offset) : mask
      results = try explicit(n, heads, causal, scale: scale, softcap: softcap)
    } else {
      results = [try fused(n, heads, mask, scale: scale, softcap: softcap, causal: isPlainCausal, offset: offset)]
    }
    if heads.wasPacked { results[0] = try packed(n, results[0]) }
    if n.wants(1) || n.wants(2) || n.wants(3) { results.insert(contentsOf: [heads.k, heads.v], at: 1) }
    return results
  }

  private static func scale(_ n: NodeContext, _ depth: Dim) throws(ImportError) -> Double {
    if let scale = try n.optionalFloat("scale") { return scale }
    guard let size = depth.constantValue, size > 0 else {
      throw ImportError(
        "APUS-I-0015", "the depth \(depth) of a head must be known", hint: "Give the shape with --shape.")
    }
    return 1 / Double(size).squareRoot()
  }

  private static func unpacked(_ n: NodeContext) throws(ImportError) -> Heads {
    let q = try n.input(0)
    let k = try n.input(1)
    let v = try n.input(2)
    if try n.rank(q) == 4 {
      _ = try n.shape(k, rank: 4, "the keys")
      _ = try n.shape(v, rank: 4, "the values")
      return Heads(q: q, k: k, v: v, wasPacked: false)
    }
    let queryHeads = try n.int("q_num_heads")
    let keyHeads = try n.int("kv_num_heads")
    return Heads(
      q: try unpacked(n, q, heads: queryHeads), k: try unpacked(n, k, heads: keyHeads),
      v: try unpacked(n, v, heads: keyHeads), wasPacked: true)
  }

  /// `[B, S, H·D]` as `[B, H, S, D]`.
  static func unpacked(_ n: NodeContext, _ x: ValueID, heads: Int) throws(ImportError) -> ValueID {
    let shape = try n.shape(x, rank: 3, "queries, keys and values")
    guard heads > 0, let depth = shape[2].dividedExactly(by: Dim(heads)) else {
      throw ImportError("APUS-I-0013", "\(shape[2]) does not divide into \(heads) heads")
    }
    return try n.transpose(n.reshape(x, [shape[0], shape[1], Dim(heads), depth]), [0, 2, 1, 3])
  }

  /// `[B, H, S, D]` as `[B, S, H·D]`.
  static func packed(_ n: NodeContext, _ y: ValueID) throws(ImportError) -> ValueID {
    let shape = try n.shape(y)
    return try n.reshape(n.transpose(y, [0, 2, 1, 3]), [shape[0], shape[2], shape[1] * shape[3]])
  }

  // MARK: Masks

  private static func mask(
    _ n: NodeContext, _ heads: Heads, causal: Bool, _ windows: (left: Int, right: Int), _ offset: Dim
  ) throws(ImportError) -> Mask {
    let queries = try n.shape(heads.q)[2]
    let keys = try n.shape(heads.k)[2]
    var mask = Mask()
    if let given = n.optional(3) {
      let whole = try extended(n, given, keys)
      if try n.dtype(whole) == .bool { mask.allowed = whole } else { mask.bias = whole }
    }
    let key = try n.iota([1, keys], axis: 1, .i64)
    if causal || windows.left >= 0 || windows.right >= 0 {
      let position = try queryPosition(n, queries, offset)
      if causal { mask.allowed = try both(n, mask.allowed, n("less_equal", key, position)) }
      if windows.left >= 0 {
        let first = try n("sub", position, n.scalar(Double(windows.left), .i64))
        mask.allowed = try both(n, mask.allowed, n("greater_equal", key, first))
      }
      if windows.right >= 0 {
        let last = try n("add", position, n.scalar(Double(windows.right), .i64))
        mask.allowed = try both(n, mask.allowed, n("less_equal", key, last))
      }
    }
    if let lengths = n.optional(6) {
      mask.allowed = try both(n, mask.allowed, n("less", key, n.unsqueeze(lengths, [1, 2, 3])))
    }
    return mask
  }

  /// Positions of the queries among the keys: `[S, 1]`, or `[B, 1, S, 1]` where each sample has its own number of keys.
  private static func queryPosition(_ n: NodeContext, _ queries: Dim, _ offset: Dim) throws(ImportError) -> ValueID {
    let query = try n.iota([queries, 1], axis: 0, .i64)
    if let lengths = n.optional(6), n.optional(4) == nil {
      let before = try n("sub", n.cast(lengths, .i64), n.value(of: queries, .i64))
      return try n("add", query, n.unsqueeze(before, [1, 2, 3]))
    }
    return offset == 0 ? query : try n("add", query, n.value(of: offset, .i64))
  }

  static func both(_ n: NodeContext, _ a: ValueID?, _ b: ValueID) throws(ImportError) -> ValueID {
    guard let a else { return b }
    return try n("and", a, b)
  }

  /// A mask that ends before the last key is continued with keys that are not seen.
  private static func extended(_ n: NodeContext, _ mask: ValueID, _ keys: Dim) throws(ImportError) -> ValueID {
    let shape = try n.shape(mask, minimumRank: 1, "the mask")
    let missing = keys - shape[shape.count - 1]
    if missing == 0 || shape[shape.count - 1] == 1 || missing.range.upper <= 0 { return mask }
    guard missing.range.lower > 0 else { return mask }
    var after = Shape(repeating: 0, count: shape.count)
    after[shape.count - 1] = missing
    let hidden = try n.dtype(mask) == .bool ? n.scalar(0, .bool) : n.scalar(-Double.infinity, like: mask)
    return try n.pad(mask, before: Shape(repeating: 0, count: shape.count), after: after, value: hidden)
  }

  /// Whether each query sees no key at all; nil when there is no mask.
  private static func seesNothing(_ n: NodeContext, _ mask: Mask) throws(ImportError) -> ValueID? {
    var seen = mask.allowed
    if let bias = mask.bias {
      let isOpen = try n("greater", bias, n.scalar(-Double.infinity, like: bias))
      seen = try both(n, seen, isOpen)
    }
    guard let seen else { return nil }
    return try n("not", n.reduce("or", seen, [n.rank(seen) - 1], keepDims: true))
  }

  /// The mask as one operand: added where it is of floats, a choice where it is of bools.
  private static func combined(_ n: NodeContext, _ mask: Mask) throws(ImportError) -> ValueID? {
    guard let allowed = mask.allowed, let bias = mask.bias else { return mask.allowed ?? mask.bias }
    return try n.select(allowed, bias, n.scalar(-Double.infinity, like: bias))
  }

  // MARK: Computing

  static func fused(
    _ n: NodeContext, _ heads: Heads, _ mask: Mask, scale: Double, softcap: Double, causal: Bool, offset: Dim
  ) throws(ImportError) -> ValueID {
    let attributes: Attributes = [
      "scale": .float(scale), "causal": .bool(causal), "softcap": .float(softcap),
      "offset": .dim(causal ? offset : 0),
    ]
    guard let operand = try combined(n, mask) else {
      return try n.emit("attention", attributes, heads.q, heads.k, heads.v)
    }
    let y = try n.emit("attention", attributes, heads.q, heads.k, heads.v, operand)
    return try cleared(n, y, seesNothing(n, mask))
  }

  /// Zeros where a query sees nothing.
  private static func cleared(_ n: NodeContext, _ y: ValueID, _ isBlind: ValueID?) throws(ImportError) -> ValueID {
    guard let isBlind else { return y }
    return try n.select(isBlind, n.scalar(0, like: y), y)
  }

  /// The steps one by one, for models that ask for the scores or for another precision of the softmax.
  private static func explicit(
    _ n: NodeContext, _ heads: Heads, _ mask: Mask, scale: Double, softcap: Double
  ) throws(ImportError) -> [ValueID] {
    let dtype = try n.dtype(heads.q)
    let mode = try n.int("qk_matmul_output_mode", 0)
    var scores = try rawScores(n, heads, scale: scale)
    var shown = scores
    if softcap > 0 {
      let cap = try n.scalar(softcap, like: scores)
      scores = try n("mul", n("tanh", n("div", scores, cap)), cap)
    }
    if mode == 1 || (mode == 0 && softcap > 0 && n.opset < 24) { shown = scores }
    if let bias = mask.bias { scores = try n("add", scores, n.cast(bias, dtype)) }
    if let allowed = mask.allowed { scores = try n.select(allowed, scores, n.scalar(-Double.infinity, like: scores)) }
    if mode == 2 { shown = scores }
    let precision = try n.optionalDType("softmax_precision") ?? dtype
    var weights = try n.emit("softmax", ["axis": .int(3)], n.cast(scores, precision))
    weights = try cleared(n, weights, seesNothing(n, mask))
    if mode == 3 { shown = try n.cast(weights, dtype) }
    let values = try n.cast(repeated(n, heads.v, like: heads.q), dtype)
    let y = try n("matmul", n.cast(weights, dtype), values)
    return n.wants(3) ? [y, shown] : [y]
  }

  private static func rawScores(_ n: NodeContext, _ heads: Heads, scale: Double) throws(ImportError) -> ValueID {
    let root = try n.scalar(scale.squareRoot(), like: heads.q)
    let keys = try n.transpose(repeated(n, heads.k, like: heads.q), [0, 1, 3, 2])
    return try n("matmul", n("mul", heads.q, root), n("mul", keys, root))
  }

  /// Every key or value head repeated for the query heads that share it.
  private static func repeated(_ n: NodeContext, _ x: ValueID, like q: ValueID) throws(ImportError) -> ValueID {
    let shape = try n.shape(x)
    let heads = try n.shape(q)[1]
    if heads == shape[1] { return x }
    guard let times = heads.dividedExactly(by: shape[1]) else {
      throw ImportError("APUS-I-0013", "\(heads) query heads do not divide among \(shape[1]) key heads")
    }
    let wide = try n.broadcast(n.unsqueeze(x, [2]), [shape[0], shape[1], times, shape[2], shape[3]])
    return try n.reshape(wide, [shape[0], heads, shape[2], shape[3]])
  }

  /// Attention whose scores and probabilities pass through sub-graphs.
  private static func flexAttention(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let heads = Heads(q: try n.input(0), k: try n.input(1), v: try n.input(2), wasPacked: false)
    let depth = try n.shape(heads.q, rank: 4, "the queries")[3]
    _ = try n.shape(heads.k, rank: 4, "the keys")
    _ = try n.shape(heads.v, rank: 4, "the values")
    let dtype = try n.dtype(heads.q)
    let precision = try n.optionalDType("softmax_precision") ?? (dtype == .f64 ? .f64 : .f32)
    var scores = try n.cast(rawScores(n, heads, scale: scale(n, depth)), precision)
    if n.hasAttribute("score_mod") { scores = try n.inline(n.graph("score_mod"), [scores], "score_mod")[0] }
    var weights = try n.emit("softmax", ["axis": .int(3)], scores)
    if n.hasAttribute("prob_mod") { weights = try n.inline(n.graph("prob_mod"), [weights], "prob_mod")[0] }
    let values = try n.cast(repeated(n, heads.v, like: heads.q), precision)
    return [try n.cast(n("matmul", weights, values), n.dtype(heads.v))]
  }

  // MARK: Rotary embedding

  private static func rotaryEmbedding(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let input = try n.input(0)
    let original = try n.shape(input, minimumRank: 3)
    // As [batch, positions, heads, depth].
    let x: ValueID
    if original.count == 4 {
      x = try n.transpose(input, [0, 2, 1, 3])
    } else {
      let heads = try n.int("num_heads")
      guard heads > 0, let depth = original[2].dividedExactly(by: Dim(heads)) else {
        throw ImportError("APUS-I-0013", "\(original[2]) does not divide into \(heads) heads")
      }
      x = try n.reshape(input, [original[0], original[1], Dim(heads), depth])
    }
    let shape = try n.shape(x, rank: 4, "the input")
    let given = try n.int("rotary_embedding_dim", 0)
    let rotated = given == 0 ? shape[3] : Dim(given)
    let half = rotated.floorDivided(by: 2)
    let y = try self.rotated(
      n, x, cosine: angles(n, 1, half), sine: angles(n, 2, half), isInterleaved: n.flag("interleaved"))
    return [original.count == 4 ? try n.transpose(y, [0, 2, 1, 3]) : try n.reshape(y, original)]
  }

  /// Pairs of `[batch, positions, heads, depth]` turned by angles `[batch, positions, half]`; what lies beyond them stays.
  static func rotated(
    _ n: NodeContext, _ x: ValueID, cosine: ValueID, sine: ValueID, isInterleaved: Bool
  ) throws(ImportError) -> ValueID {
    let shape = try n.shape(x, rank: 4, "the input")
    let half = try n.shape(cosine, rank: 3, "the table of angles")[2]
    let (cosine, sine) = (try n.unsqueeze(cosine, [2]), try n.unsqueeze(sine, [2]))
    let rotated = half * 2
    let step = isInterleaved ? 2 : 1
    let first = try n.slice(x, axis: 3, start: 0, size: half, step: step)
    let second = try n.slice(x, axis: 3, start: isInterleaved ? 1 : half, size: half, step: step)
    let real = try n("sub", n("mul", cosine, first), n("mul", sine, second))
    let imaginary = try n("add", n("mul", sine, first), n("mul", cosine, second))
    var y: ValueID
    if isInterleaved {
      let pairs = try n.concat([n.unsqueeze(real, [4]), n.unsqueeze(imaginary, [4])], axis: 4)
      y = try n.reshape(pairs, [shape[0], shape[1], shape[2], half * 2])
    } else {
      y = try n.concat([real, imaginary], axis: 3)
    }
    if rotated != shape[3] {
      y = try n.concat([y, n.slice(x, axis: 3, start: rotated, size: shape[3] - rotated)], axis: 3)
    }
    return y
  }

  /// The cosines or sines of every position as `[batch, positions, half]`.
  private static func angles(_ n: NodeContext, _ input: Int, _ half: Dim) throws(ImportError) -> ValueID {
    var table = try n.input(input)
    if let positions = n.optional(3) { table = try n.gather(table, positions, axis: 0) }
    let shape = try n.shape(table, rank: 3, "the table of angles")
    if let a = shape[2].constantValue, let b = half.constantValue, a != b {
      throw ImportError("APUS-I-0013", "the table of angles has \(a) columns, \(b) are expected")
    }
    return table
  }
}
