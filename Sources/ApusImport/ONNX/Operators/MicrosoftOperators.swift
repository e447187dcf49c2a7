import ApusCore
import ApusGraph

/// Operators that onnxruntime's quantisers and optimisers write, as what they are short for.
enum MicrosoftOperators {
  static let table: [String: Lowering] = [
    "com.microsoft::EmbedLayerNormalization": embedding, "com.microsoft::FusedConv": fusedConv,
    "com.microsoft::FusedGemm": fusedGemm, "com.microsoft::MatMulNBits": matmulNBits,
    "com.microsoft::DynamicQuantizeMatMul": dynamicMatmul, "com.microsoft::MatMulIntegerToFloat": integerMatmul,
    "com.microsoft::QLinearAdd": binary("add"), "com.microsoft::QLinearMul": binary("mul"),
    "com.microsoft::QLinearSigmoid": unary { n, x throws(ImportError) in try n("sigmoid", x) },
    "com.microsoft::QLinearLeakyRelu": unary { n, x throws(ImportError) in
      try n.select(n("less", x, n.scalar(0, .f32)), n("mul", x, n.scalar(n.float("alpha", 0.01), .f32)), x)
    },
    "com.microsoft::QLinearGlobalAveragePool": unary(globalAverage), "com.microsoft::QLinearConcat": concat,
    "com.microsoft::DynamicQuantizeLSTM": RecurrentOperators.dynamicQuantizeLSTM,
  ]

  // MARK: Quantised values

  /// `(x − zero) · scale` in f32, of inputs that follow one another; scales of one value.
  private static func real(_ n: NodeContext, _ x: Int, scale: Int, zero: Int) throws(ImportError) -> ValueID {
    let scale = try n.reshape(n.input(scale), [])
    var wide = try n.cast(n.input(x), .f32)
    if let zero = n.optional(zero) { wide = try n("sub", wide, n.cast(n.reshape(zero, []), .f32)) }
    return try n("mul", wide, scale)
  }

  private static func quantized(
    _ n: NodeContext, _ y: ValueID, scale: Int, zero: Int, _ type: DType
  ) throws(ImportError) -> ValueID {
    let quotient = try n("div", y, n.reshape(n.input(scale), []))
    let zero = try n.optional(zero).map { id throws(ImportError) in try n.reshape(id, []) }
    return try QuantizationOperators.rounded(n, quotient, zero: zero, to: type)
  }

  private static func binary(_ name: String) -> Lowering {
    { n throws(ImportError) in
      let y = try n(name, real(n, 0, scale: 1, zero: 2), real(n, 3, scale: 4, zero: 5))
      return [try quantized(n, y, scale: 6, zero: 7, n.dtype(n.input(0)))]
    }
  }

  private static func unary(
    _ function: @escaping @Sendable (NodeContext, ValueID) throws(ImportError) -> ValueID
  ) -> Lowering {
    { n throws(ImportError) in
      let y = try function(n, real(n, 0, scale: 1, zero: 2))
      return [try quantized(n, y, scale: 3, zero: 4, n.dtype(n.input(0)))]
    }
  }

  @Sendable private static func globalAverage(_ n: NodeContext, _ x: ValueID) throws(ImportError) -> ValueID {
    let rank = try n.shape(x, minimumRank: 3).count
    return try n.reduce("mean", x, n.flag("channels_last") ? Array(1..<rank - 1) : Array(2..<rank), keepDims: true)
  }

  private static func concat(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    guard n.inputs.count > 2, n.inputs.count % 3 == 2 else {
      throw ImportError("APUS-I-0014", "a scale, a zero point and triples are expected, found \(n.inputs.count) inputs")
    }
    var parts: [ValueID] = []
    for position in stride(from: 2, to: n.inputs.count, by: 3) {
      parts.append(try real(n, position, scale: position + 1, zero: position + 2))
    }
    let axis = try n.normalized(n.int("axis"), rank: n.rank(parts[0]))
    return [try quantized(n, n.concat(parts, axis: axis), scale: 0, zero: 1, n.dtype(n.input(2)))]
  }

  // MARK: Products

  /// `(A − zeroA) · (B − zeroB) · scaleA · scaleB + bias`.
  private static func integerMatmul(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let columns = max(0, try n.rank(n.input(1)) - 1)
    let product = try n(
      "matmul",
      ContractionOperators.widened(n, n.input(0), zeroPoint: n.optional(4), axis: max(0, n.rank(n.input(0)) - 2)),
      ContractionOperators.widened(n, n.input(1), zeroPoint: n.optional(5), axis: columns))
    let scaled = try n("mul", n.cast(product, .f32), n("mul", n.input(2), n.input(3)))
    return [try n.optional(6).map { bias throws(ImportError) in try n("add", scaled, bias) } ?? scaled]
  }

  /// A product whose left side is quantised to u8 while running.
  private static func dynamicMatmul(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let (a, scale, zero) = try QuantizationOperators.dynamic(n, n.input(0))
    let columns = max(0, try n.rank(n.input(1)) - 1)
    let product = try n(
      "matmul", ContractionOperators.widened(n, a, zeroPoint: zero, axis: 0),
      ContractionOperators.widened(n, n.input(1), zeroPoint: n.optional(3), axis: columns))
    let scaled = try n("mul", n.cast(product, .f32), n("mul", scale, n.input(2)))
    return [try n.optional(4).map { bias throws(ImportError) in try n("add", scaled, bias) } ?? scaled]
  }

  /// Parts of `bits` bits of bytes, the lowest first, along a new last axis that is merged with the one before.
  private static func unpacked(_ n: NodeContext, _ bytes: ValueID, bits: Int) throws(ImportError) -> ValueID {
    if bits == 8 { return bytes }
    var shape = try n.shape(bytes)
    let count = 8 / bits
    let mask = n.scalar(Double((1 << bits) - 1), .u8)
    var parts: [ValueID] = []
    for index in 0..<count {
      let part = try n("bit_and", n("shift_right", bytes, n.scalar(Double(index * bits), .u8)), mask)
      parts.append(try n.unsqueeze(part, [shape.count]))
    }
    shape[shape.count - 1] = shape[shape.count - 1] * Dim(count)
    return try n.reshape(n.concat(parts, axis: shape.count), shape)
  }

  /// A product with a weight of few bits in blocks, each with a scale.
  private static func matmulNBits(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let (a, depth, width) = (try n.input(0), try n.int("K"), try n.int("N"))
    let (bits, block) = (try n.int("bits", 4), try n.int("block_size"))
    guard [2, 4, 8].contains(bits), block > 0, depth > 0, width > 0 else {
      throw .unsupported("with \(bits) bits in blocks of \(block)")
    }
    if n.optional(4) != nil { throw .unsupported("with an order of the columns (g_idx)") }
    let blocks = (depth + block - 1) / block
    let type = try n.dtype(a)
    let bytes = try n.reshape(n.input(1), [Dim(width), Dim(blocks), Dim(block * bits / 8)])
    var weight = try n.cast(unpacked(n, bytes, bits: bits), type)
    let grid: Shape = [Dim(width), Dim(blocks), 1]
    var zero = try n.scalar(Double(1 << (bits - 1)), like: a)
    if let points = n.optional(3) {
      if try n.dtype(points) == .u8 {
        let rows = try n.reshape(points, [Dim(width), Dim((blocks * bits + 7) / 8)])
        let all = try n.slice(unpacked(n, rows, bits: bits), axis: 1, start: 0, size: Dim(blocks))
        zero = try n.cast(n.reshape(all, grid), type)
      } else {
        zero = try n.cast(n.reshape(points, grid), type)
      }
    }
    weight = try n("mul", n("sub", weight, zero), n.cast(n.reshape(n.input(2), grid), type))
    weight = try n.slice(n.reshape(weight, [Dim(width), Dim(blocks * block)]), axis: 1, start: 0, size: Dim(depth))
    let product = try n("matmul", a, n.transpose(weight, [1, 0]))
    return [try n.optional(5).map { bias throws(ImportError) in try n("add", product, bias) } ?? product]
  }

  // MARK: Fused nodes

  private static func activated(_ n: NodeContext, _ x: ValueID) throws(ImportError) -> ValueID {
    let parameters = try n.optionalFloats("activation_params") ?? []
    switch try n.string("activation", "") {
    case "": return x
    case "Relu": return try n("relu", x)
    case "Tanh": return try n("tanh", x)
    case "Sigmoid": return try n("sigmoid", x)
    case "LeakyRelu":
      let slope = parameters.first ?? 0.01
      return try n.select(n("less", x, n.scalar(0, like: x)), n("mul", x, n.scalar(slope, like: x)), x)
    case "Clip" where parameters.count == 2:
      return try n("min", n("max", x, n.scalar(parameters[0], like: x)), n.scalar(parameters[1], like: x))
    case let name: throw .unsupported("with activation '\(name)' \(parameters)")
    }
  }

  private static func fusedConv(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    var y = try ConvolutionOperators.convolution(n, n.input(0), n.input(1))
    if let bias = n.optional(2) { y = try ConvolutionOperators.addBias(n, y, bias) }
    if let other = n.optional(3) { y = try n("add", y, other) }
    return [try activated(n, y)]
  }

  private static func fusedGemm(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    [try activated(n, ContractionOperators.gemm(n)[0])]
  }

  /// The sum of the embeddings of words, positions and segments, normalised.
  private static func embedding(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let ids = try n.input(0)
    let shape = try n.shape(ids, rank: 2, "the words")
    let words = try n.gather(n.input(2), ids, axis: 0)
    var positions = try n.iota([1, shape[1]], axis: 1, .i64)
    if let given = n.optional(8) { positions = given }
    var sum = try n("add", words, n.gather(n.input(3), positions, axis: 0))
    if let segments = n.optional(1), let table = n.optional(4) {
      sum = try n("add", sum, n.gather(table, segments, axis: 0))
    }
    let normal = try n.emit(
      "layer_norm", ["axis": .int(2), "epsilon": .float(n.float("epsilon", 1e-12))], sum, n.input(5), n.input(6))
    var lengths = try n.broadcast(n.scalar(0, .i32), [shape[0]])
    if let mask = n.optional(7) { lengths = try n.cast(n.reduce("sum", mask, [1], keepDims: false), .i32) }
    return [normal, lengths, sum]
  }
}
