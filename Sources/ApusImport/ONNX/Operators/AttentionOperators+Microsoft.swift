import ApusCore
import ApusGraph

/// Attention as onnxruntime's transformer tools write it.
extension AttentionOperators {
  static let microsoftTable: [String: Lowering] = [
    "com.microsoft::Attention": packedAttention, "com.microsoft::MultiHeadAttention": multiHeadAttention,
    "com.microsoft::GroupQueryAttention": groupQueryAttention, "com.microsoft::RotaryEmbedding": rotary,
  ]

  // MARK: Masks

  /// What is added to the scores of keys that a mask hides: one length for each sample, or a flag for each key.
  private static func padding(
    _ n: NodeContext, _ position: Int, keys: Dim, like q: ValueID
  ) throws(ImportError) -> ValueID? {
    guard let mask = n.optional(position) else { return nil }
    let shape = try n.shape(mask, minimumRank: 1, "the mask")
    var visible = try n("not_equal", mask, n.scalar(0, like: mask))
    switch shape.count {
    case 1:
      let key = try n.iota([1, keys], axis: 1, n.dtype(mask))
      visible = try n.unsqueeze(n("less", key, n.unsqueeze(mask, [1])), [1, 2])
      if let count = shape[0].constantValue, let batch = try n.shape(q)[0].constantValue, count != batch {
        throw .unsupported("with a mask of \(count) positions for \(batch) samples")
      }
    case 2: visible = try n.unsqueeze(visible, [1, 2])
    case 3: visible = try n.unsqueeze(visible, [1])
    default: throw .unsupported("with a mask of rank \(shape.count)")
    }
    let hidden = try n.scalar(n.float("mask_filter_value", -10000), like: q)
    return try n.select(visible, n.scalar(0, like: q), hidden)
  }

  /// Attention of heads `[B, H, S, D]`, queries standing after `past` keys.
  private static func attend(
    _ n: NodeContext, _ q: ValueID, _ k: ValueID, _ v: ValueID, past: Dim, causal: Bool, biases: [ValueID?],
    allowed: ValueID? = nil
  ) throws(ImportError) -> ValueID {
    let scale = try n.float("scale", 0)
    let depth = try n.shape(q)[3]
    guard scale != 0 || depth.constantValue != nil else {
      throw ImportError(
        "APUS-I-0015", "the depth \(depth) of a head must be known", hint: "Give the shape with --shape.")
    }
    var mask = Mask(allowed: allowed, bias: nil)
    for bias in biases.compactMap({ $0 }) {
      mask.bias = try mask.bias.map { sum throws(ImportError) in try n("add", sum, bias) } ?? bias
    }
    let isPlain = causal && mask.isEmpty
    if causal, !isPlain {
      let key = try n.iota([1, n.shape(k)[2]], axis: 1, .i64)
      var query = try n.iota([n.shape(q)[2], 1], axis: 0, .i64)
      if past != 0 { query = try n("add", query, n.value(of: past, .i64)) }
      mask.allowed = try both(n, mask.allowed, n("less_equal", key, query))
    }
    return try packed(
      n,
      fused(
        n, Heads(q: q, k: k, v: v, wasPacked: true), mask,
        scale: scale != 0 ? scale : 1 / Double(depth.constantValue ?? 1).squareRoot(), softcap: n.float("softcap", 0),
        causal: isPlain, offset: past))
  }

  // MARK: Operators

  private static func multiHeadAttention(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let heads = try n.int("num_heads")
    guard n.optional(1) != nil, n.optional(2) != nil else { throw .unsupported("with packed queries, keys and values") }
    var parts: [ValueID] = []
    var start: Dim = 0
    for position in 0..<3 {
      var part = try n.input(position)
      if try n.rank(part) == 4 {
        parts.append(part)
        continue
      }
      let width = try n.shape(part, rank: 3, "queries, keys and values")[2]
      if let bias = n.optional(3) { part = try n("add", part, n.slice(bias, axis: 0, start: start, size: width)) }
      start = start + width
      parts.append(try unpacked(n, part, heads: heads))
    }
    var past: Dim = 0
    if let keys = n.optional(6) {
      past = try n.shape(keys, rank: 4, "past_key")[2]
      parts[1] = try n.concat([keys, parts[1]], axis: 2)
      parts[2] = try n.concat([n.input(7), parts[2]], axis: 2)
    }
    let padding = try padding(n, 4, keys: n.shape(parts[1])[2], like: parts[0])
    let y = try attend(
      n, parts[0], parts[1], parts[2], past: past, causal: n.flag("unidirectional"), biases: [padding, n.optional(5)])
    return [y, parts[1], parts[2]]
  }

  /// Projections of one input, and attention of what they give.
  private static func packedAttention(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let heads = try n.int("num_heads")
    var product = try n("matmul", n.input(0), n.input(1))
    if let bias = n.optional(2) { product = try n("add", product, bias) }
    let width = try n.shape(product, rank: 3, "the input")[2]
    let sizes = try n.optionalInts("qkv_hidden_sizes")?.map { Dim($0) }
    guard let third = width.dividedExactly(by: 3) ?? sizes?.first, sizes.map({ $0.count == 3 }) ?? true else {
      throw ImportError("APUS-I-0013", "\(width) columns are not queries, keys and values")
    }
    var parts: [ValueID] = []
    var start: Dim = 0
    for index in 0..<3 {
      let size = sizes?[index] ?? third
      parts.append(try unpacked(n, n.slice(product, axis: 2, start: start, size: size), heads: heads))
      start = start + size
    }
    var past: Dim = 0
    if let before = n.optional(4) {
      past = try n.shape(before, rank: 5, "past")[3]
      for index in 1...2 {
        let part = try n.squeeze(n.slice(before, axis: 0, start: Dim(index - 1), size: 1), [0])
        parts[index] = try n.concat([part, parts[index]], axis: 2)
      }
    }
    let padding = try padding(n, 3, keys: n.shape(parts[1])[2], like: parts[0])
    let y = try attend(
      n, parts[0], parts[1], parts[2], past: past, causal: n.flag("unidirectional"), biases: [padding, n.optional(5)])
    if !n.wants(1) { return [y] }
    return [y, try n.concat([n.unsqueeze(parts[1], [0]), n.unsqueeze(parts[2], [0])], axis: 0)]
  }

  /// Queries that share keys, behind what was computed before. Samples of one call have equally many keys before; of shorter
  /// ones the last are hidden.
  private static func groupQueryAttention(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let counts = [try n.int("num_heads"), try n.int("kv_num_heads"), try n.int("kv_num_heads")]
    if try n.flag("smooth_softmax") { throw .unsupported("with a smooth softmax") }
    var parts: [ValueID] = []
    if n.optional(1) == nil {
      let whole = try n.input(0)
      let width = try n.shape(whole, rank: 3, "the queries")[2]
      guard let depth = width.dividedExactly(by: Dim(counts.reduce(0, +))) else {
        throw ImportError("APUS-I-0013", "\(width) columns do not divide into \(counts) heads")
      }
      var start: Dim = 0
      for count in counts {
        parts.append(try unpacked(n, n.slice(whole, axis: 2, start: start, size: depth * Dim(count)), heads: count))
        start = start + depth * Dim(count)
      }
    } else {
      for (position, count) in counts.enumerated() { parts.append(try unpacked(n, n.input(position), heads: count)) }
    }
    let past = try n.optional(3).map { id throws(ImportError) in try n.shape(id, rank: 4, "past_key")[2] } ?? 0
    let queries = try n.shape(parts[0])[2]
    if try n.flag("do_rotary") {
      let positions = try n.iota([1, queries], axis: 1, .i64)
      let places = past == 0 ? positions : try n("add", positions, n.value(of: past, .i64))
      for index in 0..<2 {
        let turned = try rotated(
          n, n.transpose(parts[index], [0, 2, 1, 3]), cosine: n.gather(n.input(7), places, axis: 0),
          sine: n.gather(n.input(8), places, axis: 0), isInterleaved: n.flag("rotary_interleaved"))
        parts[index] = try n.transpose(turned, [0, 2, 1, 3])
      }
    }
    if let before = n.optional(3) {
      parts[1] = try n.concat([before, parts[1]], axis: 2)
      parts[2] = try n.concat([n.input(4), parts[2]], axis: 2)
    }
    let keys = try n.shape(parts[1])[2]
    let key = try n.iota([1, keys], axis: 1, .i64)
    var allowed: ValueID?
    if let lengths = n.optional(5) {
      allowed = try n.unsqueeze(n("less_equal", key, n.unsqueeze(n.cast(lengths, .i64), [1])), [1, 2])
    }
    let window = try n.int("local_window_size", -1)
    if window > 0 {
      let place = try n("add", n.iota([queries, 1], axis: 0, .i64), n.value(of: past, .i64))
      allowed = try both(n, allowed, n("greater", key, n("sub", place, n.scalar(Double(window), .i64))))
    }
    let y = try attend(
      n, parts[0], parts[1], parts[2], past: past, causal: true, biases: [n.optional(10)], allowed: allowed)
    return [y, parts[1], parts[2]]
  }

  private static func rotary(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let input = try n.input(0)
    let original = try n.shape(input, minimumRank: 3)
    var places = try n.cast(n.input(1), .i64)
    var x = input
    if original.count == 4 {
      x = try n.transpose(input, [0, 2, 1, 3])
    } else {
      let given = try n.int("rotary_embedding_dim", 0)
      let depth = given > 0 ? nil : try n.shape(n.input(2), rank: 2, "the cosines")[1] * 2
      let count = try n.int("num_heads", 0)
      guard let heads = count > 0 ? Dim(count) : depth.flatMap({ original[2].dividedExactly(by: $0) }),
        let size = original[2].dividedExactly(by: heads)
      else { throw ImportError("APUS-I-0013", "\(original[2]) columns do not divide into heads") }
      x = try n.reshape(input, [original[0], original[1], heads, size])
    }
    if try n.shape(places) == [1] { places = try n("add", n.iota([1, n.shape(x)[1]], axis: 1, .i64), places) }
    let y = try rotated(
      n, x, cosine: n.gather(n.input(2), places, axis: 0), sine: n.gather(n.input(3), places, axis: 0),
      isInterleaved: n.flag("interleaved"))
    return [original.count == 4 ? try n.transpose(y, [0, 2, 1, 3]) : try n.reshape(y, original)]
  }
}
