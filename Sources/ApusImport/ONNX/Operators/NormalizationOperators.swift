import ApusCore
import ApusGraph

/// Normalisations over channels, groups and axes.
enum NormalizationOperators {
  static let table: [String: Lowering] = [
    "BatchNormalization": batchNorm, "InstanceNormalization": instanceNorm, "GroupNormalization": groupNorm,
    "LayerNormalization": layerNorm, "RMSNormalization": rmsNorm, "LpNormalization": lpNorm,
    "MeanVarianceNormalization": meanVarianceNorm, "LRN": lrn,
    "com.microsoft::SkipLayerNormalization": skipLayerNorm,
    "com.microsoft::SkipSimplifiedLayerNormalization": skipRMSNorm, "SimplifiedLayerNormalization": rmsNorm,
  ]

  /// A vector of channels shaped so that it broadcasts over a tensor of `rank` with channels on axis 1.
  private static func perChannel(_ n: NodeContext, _ v: ValueID, rank: Int) throws(ImportError) -> ValueID {
    let shape = try n.shape(v, rank: 1, "a channel parameter")
    return try n.reshape(v, shape + Shape(repeating: 1, count: max(0, rank - 2)))
  }

  /// `(x − mean) · scale / sqrt(variance + ε) + bias`, in the order that lets constant parameters fold to one
  /// multiplication and one addition.
  private static func normalized(
    _ n: NodeContext, _ x: ValueID, mean: ValueID, variance: ValueID, scale: ValueID, bias: ValueID, epsilon: Double
  ) throws(ImportError) -> ValueID {
    let deviation = try n("sqrt", n("add", variance, n.scalar(epsilon, like: variance)))
    let factor = try n("div", scale, deviation)
    let shift = try n("sub", bias, n("mul", mean, factor))
    return try n("add", n("mul", x, factor), shift)
  }

  // MARK: Batch normalisation

  private static func batchNorm(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let shape = try n.shape(x, minimumRank: 1)
    let dtype = try n.dtype(x)
    // Parameters may be of a wider type than the input: computed there.
    let wide = try n.dtype(n.input(3))
    var parameters: [ValueID] = []
    for position in 1...4 {
      let parameter = try n.cast(n.input(position), wide)
      if n.opset < 9, try n.int("spatial", 1) == 0 { throw .unsupported("with spatial = 0") }
      parameters.append(try perChannel(n, parameter, rank: shape.count))
    }
    let input = try n.cast(x, wide)
    let epsilon = try n.float("epsilon", 1e-5)
    if try n.flag("training_mode") { return try batchNormTraining(n, input, parameters, dtype) }
    let y = try normalized(
      n, input, mean: parameters[2], variance: parameters[3], scale: parameters[0], bias: parameters[1],
      epsilon: epsilon)
    return [try n.cast(y, dtype)]
  }

  /// Batch statistics, and the running ones moved towards them.
  private static func batchNormTraining(
    _ n: NodeContext, _ x: ValueID, _ parameters: [ValueID], _ dtype: DType
  ) throws(ImportError) -> [ValueID] {
    let axes = try n.shape(x).indices.filter { $0 != 1 }
    let mean = try n.reduce("mean", x, axes, keepDims: true)
    let difference = try n("sub", x, mean)
    let variance = try n.reduce("mean", n("mul", difference, difference), axes, keepDims: true)
    let y = try normalized(
      n, x, mean: mean, variance: variance, scale: parameters[0], bias: parameters[1], epsilon: n.float("epsilon", 1e-5)
    )
    let momentum = try n.float("momentum", 0.9)
    var results = [try n.cast(y, dtype)]
    for (running, current, input) in [(parameters[2], mean, 3), (parameters[3], variance, 4)] {
      let kept = try n("mul", running, n.scalar(momentum, like: running))
      let flat = try n.reshape(current, n.shape(running))
      let moved = try n("add", kept, n("mul", flat, n.scalar(1 - momentum, like: running)))
      results.append(try n.reshape(moved, n.shape(n.input(input))))
    }
    return results
  }

  // MARK: Statistics of each instance

  /// `(x − mean) / sqrt(variance + ε)` over axes.
  private static func standardized(
    _ n: NodeContext, _ x: ValueID, _ axes: [Int], epsilon: Double
  ) throws(ImportError) -> ValueID {
    let difference = try n("sub", x, n.reduce("mean", x, axes, keepDims: true))
    let variance = try n.reduce("mean", n("mul", difference, difference), axes, keepDims: true)
    return try n("div", difference, n("sqrt", n("add", variance, n.scalar(epsilon, like: variance))))
  }

  private static func instanceNorm(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let rank = try n.shape(x, minimumRank: 3).count
    let y = try standardized(n, x, Array(2..<rank), epsilon: n.float("epsilon", 1e-5))
    let scaled = try n("mul", y, perChannel(n, n.input(1), rank: rank))
    return [try n("add", scaled, perChannel(n, n.input(2), rank: rank))]
  }

  private static func groupNorm(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let dtype = try n.dtype(x)
    let shape = try n.shape(x, minimumRank: 3)
    let groups = try n.int("num_groups")
    guard groups > 0, let perGroup = shape[1].dividedExactly(by: Dim(groups)) else {
      throw ImportError("APUS-I-0013", "\(shape[1]) channels do not divide into \(groups) groups")
    }
    let stash = try n.optionalDType("stash_type") ?? .f32
    let wide: DType = n.opset >= 21 && stash == .f32 && dtype.bitWidth < 32 ? .f32 : dtype
    let grouped = try n.reshape(n.cast(x, wide), [shape[0], Dim(groups), perGroup] + shape[2...])
    let y = try standardized(n, grouped, Array(2...shape.count), epsilon: n.float("epsilon", 1e-5))
    if n.opset < 21 {
      // Scale and bias are per group there.
      let scale = try perChannel(n, n.input(1), rank: shape.count + 1)
      let bias = try perChannel(n, n.input(2), rank: shape.count + 1)
      return [try n.reshape(n("add", n("mul", y, scale), bias), shape)]
    }
    let flat = try n.cast(n.reshape(y, shape), dtype)
    let scaled = try n("mul", flat, perChannel(n, n.input(1), rank: shape.count))
    return [try n("add", scaled, perChannel(n, n.input(2), rank: shape.count))]
  }

  // MARK: Over trailing axes

  private static func layerNorm(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let shape = try n.shape(x, minimumRank: 1)
    let axis = try n.normalized(n.int("axis", -1), rank: shape.count)
    let epsilon = try n.float("epsilon", 1e-5)
    var results = [
      try layerNorm(n, x, scale: n.input(1), bias: n.optional(2), axis: axis, epsilon: epsilon)
    ]
    if n.wants(1) || n.wants(2) {
      let axes = Array(axis..<shape.count)
      let wide = try n.cast(x, n.dtype(x).bitWidth < 32 ? .f32 : n.dtype(x))
      let mean = try n.reduce("mean", wide, axes, keepDims: true)
      let difference = try n("sub", wide, mean)
      let variance = try n.reduce("mean", n("mul", difference, difference), axes, keepDims: true)
      let deviation = try n("sqrt", n("add", variance, n.scalar(epsilon, like: variance)))
      results += [mean, try n("reciprocal", deviation)]
    }
    return results
  }

  /// Scale and bias that do not have the shape of the normalised axes are broadcast to it.
  private static func layerNorm(
    _ n: NodeContext, _ x: ValueID, scale: ValueID, bias: ValueID?, axis: Int, epsilon: Double
  ) throws(ImportError) -> ValueID {
    let shape = try n.shape(x)
    let inner = Array(shape[axis...])
    let attributes: Attributes = ["axis": .int(axis), "epsilon": .float(epsilon)]
    if try n.rank(scale) > inner.count {
      let plain = try n.emit("layer_norm", attributes, x, n.broadcast(n.scalar(1, like: x), inner))
      let scaled = try n("mul", plain, scale)
      guard let bias else { return scaled }
      return try n("add", scaled, bias)
    }
    let factor = try n.broadcast(scale, inner)
    guard let bias else { return try n.emit("layer_norm", attributes, x, factor) }
    if try n.rank(bias) > inner.count { return try n("add", n.emit("layer_norm", attributes, x, factor), bias) }
    return try n.emit("layer_norm", attributes, x, factor, n.broadcast(bias, inner))
  }

  private static func rmsNorm(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let axis = try n.normalized(n.int("axis", -1), rank: n.shape(x, minimumRank: 1).count)
    return [try rmsNorm(n, x, scale: n.input(1), axis: axis, epsilon: n.float("epsilon", 1e-5))]
  }

  private static func rmsNorm(
    _ n: NodeContext, _ x: ValueID, scale: ValueID, axis: Int, epsilon: Double
  ) throws(ImportError) -> ValueID {
    let inner = Array(try n.shape(x)[axis...])
    let attributes: Attributes = ["axis": .int(axis), "epsilon": .float(epsilon)]
    let dtype = try n.dtype(x)
    let factor = try n.cast(scale, dtype)
    if try n.rank(factor) > inner.count {
      return try n("mul", n.emit("rms_norm", attributes, x, n.broadcast(n.scalar(1, like: x), inner)), factor)
    }
    return try n.emit("rms_norm", attributes, x, n.broadcast(factor, inner))
  }

  // MARK: com.microsoft

  /// The sum that is normalised: input, skip and bias.
  private static func skipSum(_ n: NodeContext, bias: Int) throws(ImportError) -> ValueID {
    let sum = try n("add", n.input(0), n.input(1))
    guard let bias = n.optional(bias) else { return sum }
    return try n("add", sum, bias)
  }

  /// Results of the Skip… operators: y, two statistics that are not supported, and the sum.
  private static func skipResults(_ n: NodeContext, _ y: ValueID, _ sum: ValueID) throws(ImportError) -> [ValueID] {
    if n.wants(1) || n.wants(2) { throw .unsupported("with mean and inverse deviation as results") }
    return n.wants(3) ? [y, y, y, sum] : [y]
  }

  private static func skipLayerNorm(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let sum = try skipSum(n, bias: 4)
    let axis = try n.shape(sum, minimumRank: 1).count - 1
    let y = try layerNorm(
      n, sum, scale: n.input(2), bias: n.optional(3), axis: axis, epsilon: n.float("epsilon", 1e-12))
    return try skipResults(n, y, sum)
  }

  private static func skipRMSNorm(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let sum = try skipSum(n, bias: 3)
    let axis = try n.shape(sum, minimumRank: 1).count - 1
    let y = try rmsNorm(n, sum, scale: n.input(2), axis: axis, epsilon: n.float("epsilon", 1e-12))
    return try skipResults(n, y, sum)
  }

  // MARK: Other norms

  private static func lpNorm(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let axis = try n.normalized(n.int("axis", -1), rank: n.rank(x))
    let norm = try ReduceOperators.norm(n, x, [axis], order: n.int("p", 2), keepDims: true)
    let zero = try n.scalar(0, like: x)
    return [try n.select(n("equal", norm, zero), zero, n("div", x, norm))]
  }

  private static func meanVarianceNorm(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    var axes = try n.optionalInts("axes") ?? [0, 2, 3]
    if n.opset < 9 { axes = try n.flag("across_channels") ? [0, 1, 2, 3] : [0, 2, 3] }
    let difference = try n("sub", x, n.reduce("mean", x, n.normalized(axes: axes, rank: n.rank(x)), keepDims: true))
    let variance = try n.reduce(
      "mean", n("mul", difference, difference), n.normalized(axes: axes, rank: n.rank(x)), keepDims: true)
    return [try n("div", difference, n("add", n("sqrt", variance), n.scalar(1e-9, like: x)))]
  }

  /// Local response normalisation: squares are summed over neighbouring channels by a window of ones.
  private static func lrn(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let shape = try n.shape(x, minimumRank: 3)
    let size = try n.int("size")
    guard size > 0, size < 1 << 16 else { throw ImportError("APUS-I-0012", "size is \(size)") }
    let spatial = Dim.product(shape[2...])
    let squares = try n.reshape(n("mul", x, x), [shape[0], 1, shape[1], spatial])
    let before = (size - 1) / 2
    let mean = try n.emit(
      "average_pool",
      [
        "kernel": .ints([size, 1]), "strides": .ints([1, 1]), "pads_begin": .ints([before, 0]),
        "pads_end": .ints([size - 1 - before, 0]), "dilations": .ints([1, 1]), "ceil_mode": .bool(false),
        "count_include_pad": .bool(true), "p": .int(2), "layout": .string("nchw"),
      ], squares)
    let scaled = try n("mul", n.reshape(mean, shape), n.scalar(n.float("alpha", 1e-4), like: x))
    let base = try n("add", scaled, n.scalar(n.float("bias", 1), like: x))
    return [try n("div", x, n("pow", base, n.scalar(n.float("beta", 0.75), like: x)))]
  }
}
