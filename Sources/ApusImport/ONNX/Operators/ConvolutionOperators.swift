import ApusCore
import ApusGraph

/// Convolutions and pooling windows, in ONNX's layout: batch, channels, then space.
enum ConvolutionOperators {
  static let table: [String: Lowering] = [
    "Conv": conv, "ConvTranspose": convTranspose, "ConvInteger": convInteger, "MaxPool": maxPool,
    "AveragePool": averagePool, "LpPool": lpPool, "CausalConvWithState": causalConv, "MaxUnpool": maxUnpool,
    "Col2Im": col2Im, "DeformConv": deformConv,
  ]

  // MARK: Convolution

  private static func conv(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let result = try convolution(n, n.input(0), n.input(1))
    guard let bias = n.optional(2) else { return [result] }
    return [try addBias(n, result, bias)]
  }

  static func addBias(_ n: NodeContext, _ x: ValueID, _ bias: ValueID) throws(ImportError) -> ValueID {
    let channels = try n.shape(bias, rank: 1, "the bias")
    return try n("add", x, n.reshape(bias, channels + Shape(repeating: 1, count: max(0, n.rank(x) - 2))))
  }

  /// The convolution that the node's attributes describe, without bias.
  static func convolution(_ n: NodeContext, _ x: ValueID, _ w: ValueID) throws(ImportError) -> ValueID {
    let shape = try n.shape(x, minimumRank: 3)
    let weights = try n.shape(w, rank: shape.count, "the weights")
    let groups = try n.int("group", 1)
    guard groups > 0 else { throw ImportError("APUS-I-0012", "group is \(groups)") }
    try checkKernel(n, weights)
    var window = try SpatialWindow(n, kernel: Array(weights[2...]), spatial: Array(shape[2...]))
    let input = try window.applyUnknownPads(n, x, fill: 0)
    guard let pads = window.constantPads else { throw .unsupported("with these pads") }
    return try n.emit(
      "conv",
      [
        "strides": .ints(window.strides), "pads_begin": .ints(pads.before), "pads_end": .ints(pads.after),
        "dilations": .ints(window.dilations), "groups": .int(groups), "layout": .string("nchw"),
      ], input, w)
  }

  /// The attribute `kernel_shape` must say what the weights' shape says.
  private static func checkKernel(_ n: NodeContext, _ weights: Shape) throws(ImportError) {
    guard let kernel = try n.optionalInts("kernel_shape"), !kernel.isEmpty else { return }
    let sizes = weights.dropFirst(2)
    guard kernel.count == sizes.count, zip(kernel, sizes).allSatisfy({ Dim($0) == $1 || !$1.isConstant }) else {
      throw ImportError("APUS-I-0012", "kernel_shape \(kernel) differs from the weights' \(Array(sizes))")
    }
  }

  private static func convInteger(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try ContractionOperators.widened(n, n.input(0), zeroPoint: n.optional(2), axis: 1)
    let w = try ContractionOperators.widened(n, n.input(1), zeroPoint: n.optional(3), axis: 0)
    return [try convolution(n, x, w)]
  }

  private static func convTranspose(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let w = try n.input(1)
    let shape = try n.shape(x, minimumRank: 3)
    let weights = try n.shape(w, rank: shape.count, "the weights")
    try checkKernel(n, weights)
    let spatial = Array(shape[2...])
    let count = spatial.count
    let kernel = Array(weights[2...])
    let strides = try SpatialWindow.list(n, "strides", count: count, minimum: 1)
    let dilations = try SpatialWindow.list(n, "dilations", count: count, minimum: 1)
    var extra = try n.optionalInts("output_padding") ?? Array(repeating: 0, count: count)
    let pads = try n.optionalInts("pads") ?? Array(repeating: 0, count: 2 * count)
    guard extra.count == count, pads.count == 2 * count, extra.allSatisfy({ $0 >= 0 && $0 < 1 << 24 }),
      pads.allSatisfy({ $0 >= 0 && $0 < 1 << 24 })
    else {
      throw ImportError("APUS-I-0012", "pads \(pads) or output_padding \(extra) do not fit \(count) spatial dims")
    }
    let mode = try n.choice("auto_pad", ["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"], default: "NOTSET")
    var before = Array(pads[..<count])
    var after = Array(pads[count...])
    let outputs = try n.optionalInts("output_shape").map { Array($0.suffix(count)) }
    if let outputs, outputs.count != count { throw ImportError("APUS-I-0012", "output_shape \(outputs) is too short") }
    if outputs != nil || mode.hasPrefix("SAME") {
      for axis in 0..<count {
        let full =
          (spatial[axis] - 1) * Dim(strides[axis]) + Dim(extra[axis]) + (kernel[axis] - 1) * Dim(dilations[axis]) + 1
        let wanted = outputs.map { Dim($0[axis]) } ?? spatial[axis] * Dim(strides[axis])
        guard let total = (full - wanted).constantValue else {
          throw .unsupported("with output_shape and spatial sizes that are not known")
        }
        // Where more is wanted than there is, zeros follow.
        if total < 0 { extra[axis] = saturatingAdd(extra[axis], saturatingMultiply(total, -1)) }
        let half = max(total, 0) / 2
        before[axis] = mode == "SAME_UPPER" ? half : max(total, 0) - half
        after[axis] = max(total, 0) - before[axis]
      }
    }
    let groups = try n.int("group", 1)
    guard groups > 0 else { throw ImportError("APUS-I-0012", "group is \(groups)") }
    let result = try n.emit(
      "conv_transpose",
      [
        "strides": .ints(strides), "pads_begin": .ints(before), "pads_end": .ints(after),
        "dilations": .ints(dilations), "output_padding": .ints(extra), "groups": .int(groups),
        "layout": .string("nchw"),
      ], x, w)
    guard let bias = n.optional(2) else { return [result] }
    return [try addBias(n, result, bias)]
  }

  /// A depthwise convolution over past and present positions, and the positions the next call needs.
  private static func causalConv(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let w = try n.input(1)
    let shape = try n.shape(x, rank: 3, "the input")
    let kernel = try n.shape(w, rank: 3, "the weights")
    let carried = kernel[2] - 1
    let past: ValueID
    if let state = n.optional(3) {
      past = state
    } else {
      past = try n.broadcast(n.scalar(0, like: x), [shape[0], shape[1], carried])
    }
    let whole = try n.concat([past, x], axis: 2)
    guard let groups = shape[1].constantValue, groups > 0 else {
      throw .unsupported("with channels that are not known")
    }
    var y = try n.emit(
      "conv",
      [
        "strides": .ints([1]), "pads_begin": .ints([0]), "pads_end": .ints([0]), "dilations": .ints([1]),
        "groups": .int(groups), "layout": .string("nchw"),
      ], whole, w)
    if let bias = n.optional(2) { y = try addBias(n, y, bias) }
    if try n.choice("activation", ["none", "silu", "swish"], default: "none") != "none" { y = try n("silu", y) }
    return [y, try n.slice(whole, axis: 2, start: shape[2], size: carried)]
  }

  // MARK: Pooling

  private static func pool(
    _ n: NodeContext, _ x: ValueID, fill: Double
  ) throws(ImportError) -> (ValueID, SpatialWindow, [(String, Attribute)]) {
    let shape = try n.shape(x, minimumRank: 3)
    let kernel = try n.ints("kernel_shape")
    var window = try SpatialWindow(n, kernel: kernel.map { Dim($0) }, spatial: Array(shape[2...]))
    let input = try window.applyUnknownPads(n, x, fill: fill)
    guard let pads = window.constantPads else { throw .unsupported("with these pads") }
    return (
      input, window,
      [
        ("kernel", .ints(kernel)), ("strides", .ints(window.strides)), ("pads_begin", .ints(pads.before)),
        ("pads_end", .ints(pads.after)), ("dilations", .ints(window.dilations)), ("ceil_mode", .bool(window.ceils)),
      ]
    )
  }

  private static func maxPool(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let dtype = try n.dtype(x)
    let lowest = dtype == .u8 ? 0 : dtype == .i8 ? -128 : -Double.infinity
    let (input, _, attributes) = try pool(n, x, fill: lowest)
    let layout: [(String, Attribute)] = [("layout", .string("nchw"))]
    let values = try n.emit("max_pool", poolAttributes(attributes, "max_pool", includesPads: false), input)
    guard n.wants(1) else { return [values] }
    let order: [(String, Attribute)] = [("storage_order", .int(try n.int("storage_order", 0)))]
    return [values, try n.emit("max_pool_indices", Attributes(attributes + order + layout), input)]
  }

  private static func poolAttributes(
    _ window: [(String, Attribute)], _ name: String, includesPads: Bool, order: Int = 2
  ) -> Attributes {
    Attributes(
      window + [("count_include_pad", .bool(includesPads)), ("p", .int(order)), ("layout", .string("nchw"))])
  }

  private static func averagePool(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let (input, _, attributes) = try pool(n, n.input(0), fill: 0)
    let includesPads = try n.flag("count_include_pad")
    return [
      try n.emit("average_pool", poolAttributes(attributes, "average_pool", includesPads: includesPads), input)
    ]
  }

  private static func lpPool(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let (input, _, attributes) = try pool(n, n.input(0), fill: 0)
    return [
      try n.emit("lp_pool", poolAttributes(attributes, "lp_pool", includesPads: true, order: n.int("p", 2)), input)
    ]
  }

  private static func maxUnpool(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let shape = try n.shape(x, minimumRank: 3)
    let kernel = try n.ints("kernel_shape")
    let window = try SpatialWindow(n, kernel: kernel.map { Dim($0) }, spatial: Array(shape[2...]))
    let sizes = kernel.indices.map { axis in
      (shape[axis + 2] - 1) * Dim(window.strides[axis]) + window.kernel[axis] - window.before[axis]
        - window.after[axis]
    }
    let result = try n.emit("max_unpool", ["sizes": .dims(sizes)], x, n.input(1))
    guard let output = n.optional(2) else { return [result] }
    // A larger shape that is asked for continues the natural one with zeros.
    let wanted = try n.sizes(output, "output_shape")
    guard wanted.count == shape.count else {
      throw ImportError("APUS-I-0013", "output_shape has \(wanted.count) sizes for rank \(shape.count)")
    }
    let natural = shape[..<2] + sizes
    let before = Shape(repeating: 0, count: shape.count)
    return [try n.pad(result, before: before, after: zip(wanted, natural).map { $0 - $1 })]
  }

  private static func col2Im(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let image = try n.sizes(n.input(1), "image_shape")
    let block = try n.requireInts(n.input(2), "block_shape")
    let count = image.count
    guard block.count == count, count > 0, block.allSatisfy({ $0 > 0 }) else {
      throw ImportError("APUS-I-0013", "image_shape and block_shape \(block) do not fit")
    }
    let pads = try n.optionalInts("pads") ?? Array(repeating: 0, count: 2 * count)
    guard pads.count == 2 * count else { throw ImportError("APUS-I-0012", "pads \(pads) do not fit") }
    return [
      try n.emit(
        "col2im",
        [
          "image": .dims(image), "block": .ints(block),
          "strides": .ints(try SpatialWindow.list(n, "strides", count: count, minimum: 1)),
          "pads_begin": .ints(Array(pads[..<count])), "pads_end": .ints(Array(pads[count...])),
          "dilations": .ints(try SpatialWindow.list(n, "dilations", count: count, minimum: 1)),
        ], n.input(0))
    ]
  }

  private static func deformConv(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let w = try n.input(1)
    let shape = try n.shape(x, rank: 4, "the input")
    let weights = try n.shape(w, rank: 4, "the weights")
    let window = try SpatialWindow(n, kernel: Array(weights[2...]), spatial: Array(shape[2...]))
    guard let pads = window.constantPads else { throw .unsupported("with these pads") }
    var operands = [x, w, try n.input(2)]
    if let mask = n.optional(4) { operands.append(mask) }
    let attributes: Attributes = [
      "strides": .ints(window.strides), "pads_begin": .ints(pads.before), "pads_end": .ints(pads.after),
      "dilations": .ints(window.dilations), "groups": .int(try n.int("group", 1)),
      "offset_groups": .int(try n.int("offset_group", 1)),
    ]
    let results = try n.emitAll("deform_conv", attributes, operands)
    guard let bias = n.optional(3), let first = results.first else { return results }
    return [try addBias(n, first, bias)]
  }
}
