import ApusCore
import ApusGraph

/// Quantisation, written out as division, rounding and clamping.
enum QuantizationOperators {
  static let table: [String: Lowering] = [
    "QuantizeLinear": quantize, "DequantizeLinear": dequantize, "DynamicQuantizeLinear": dynamicQuantize,
    "QLinearMatMul": qlinearMatmul, "QLinearConv": qlinearConv, "com.microsoft::QuantizeLinear": quantize,
    "com.microsoft::DequantizeLinear": dequantize,
  ]

  /// Smallest and largest value of an integer type.
  private static func bounds(_ dtype: DType) -> (low: Double, high: Double)? {
    switch dtype {
    case .u8: (0, 255)
    case .i8: (-128, 127)
    case .u16: (0, 65535)
    case .i16: (-32768, 32767)
    case .u4: (0, 15)
    case .i4: (-8, 7)
    case .u2: (0, 3)
    case .i2: (-2, 1)
    default: nil
    }
  }

  /// A scale or zero point shaped so that it broadcasts over `x`: one value, one per position of an axis, or one per
  /// block along it.
  private static func spread(_ n: NodeContext, _ parameter: ValueID, over x: ValueID) throws(ImportError) -> ValueID {
    let shape = try n.shape(x)
    let own = try n.shape(parameter)
    if own.isEmpty || own == [1] { return try n.reshape(parameter, []) }
    let axis = shape.count == 1 ? 0 : try n.normalized(n.int("axis", 1), rank: shape.count)
    let block = try n.int("block_size", 0)
    guard block >= 0 else { throw ImportError("APUS-I-0012", "block_size is \(block)") }
    if own.count == 1, block == 0 || shape.count > 1 {
      return try n.reshape(parameter, own + Shape(repeating: 1, count: shape.count - 1 - axis))
    }
    guard own.count == shape.count else {
      throw ImportError("APUS-I-0013", "a scale of rank \(own.count) does not fit an input of rank \(shape.count)")
    }
    if block <= 1 { return parameter }
    var repeated = own
    repeated.insert(Dim(block), at: axis + 1)
    let wide = try n.broadcast(n.unsqueeze(parameter, [axis + 1]), repeated)
    var merged = own
    merged[axis] = own[axis] * Dim(block)
    return try n.slice(n.reshape(wide, merged), axis: axis, start: 0, size: shape[axis])
  }

  private static func quantize(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let scale = try n.input(1)
    var target = DType.u8
    if let code = try n.optionalInt("output_dtype"), code != 0 { target = try DType.onnx(code) }
    if let zero = n.optional(2) { target = try n.dtype(zero) }
    var precision = try n.dtype(scale)
    if let code = try n.optionalInt("precision"), code != 0 { precision = try DType.onnx(code) }
    if precision == .f8e8m0 { precision = .f32 }
    let divisor = try n.cast(spread(n, scale, over: x), precision)
    let quotient = try n("div", n.cast(x, precision), divisor)
    let zero = try n.optional(2).map { id throws(ImportError) in try spread(n, id, over: x) }
    guard let (low, high) = bounds(target) else {
      return [try n.cast(quotient, target, saturate: n.flag("saturate", true))]
    }
    return [try rounded(n, quotient, zero: zero, to: target, low, high)]
  }

  /// `clamp(round(x) + zero, low, high)`, computed in f32 where the type's integers need it.
  private static func rounded(
    _ n: NodeContext, _ x: ValueID, zero: ValueID?, to target: DType, _ low: Double, _ high: Double
  ) throws(ImportError) -> ValueID {
    let wide: DType = try n.dtype(x).bitWidth < 32 ? .f32 : n.dtype(x)
    var y = try n("round", n.cast(x, wide))
    if let zero { y = try n("add", y, n.cast(zero, wide)) }
    y = try n("min", n("max", y, n.scalar(low, wide)), n.scalar(high, wide))
    return try n.cast(y, target)
  }

  /// The same to the bounds of the type.
  static func rounded(
    _ n: NodeContext, _ x: ValueID, zero: ValueID?, to target: DType
  ) throws(ImportError) -> ValueID {
    guard let (low, high) = bounds(target) else { throw ImportError("APUS-I-0013", "the zero point is \(target)") }
    return try rounded(n, x, zero: zero, to: target, low, high)
  }

  private static func dequantize(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let scale = try n.input(1)
    var target = try n.dtype(scale)
    if let code = try n.optionalInt("output_dtype"), code != 0 { target = try DType.onnx(code) }
    let source = try n.dtype(x)
    let wide: DType = target == .f64 ? .f64 : .f32
    var y = x
    if let zero = n.optional(2), source.isInteger {
      let isWide = source.bitWidth >= 32
      let exact: DType = isWide ? source : .i32
      y = try n("sub", n.cast(x, exact), n.cast(spread(n, zero, over: x), exact))
    }
    return [try n.cast(n("mul", n.cast(y, wide), n.cast(spread(n, scale, over: x), wide)), target)]
  }

  private static func dynamicQuantize(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let (y, scale, zero) = try dynamic(n, n.input(0))
    return [y, scale, zero]
  }

  /// A value as u8, with the scale and the zero point by which it is.
  static func dynamic(
    _ n: NodeContext, _ x: ValueID
  ) throws(ImportError) -> (y: ValueID, scale: ValueID, zero: ValueID) {
    let axes = Array(try n.shape(x).indices)
    let zero = try n.scalar(0, like: x)
    let high = try n("max", n.reduce("max", x, axes, keepDims: false), zero)
    let low = try n("min", n.reduce("min", x, axes, keepDims: false), zero)
    let range = try n("sub", high, low)
    let span = try n.select(n("equal", range, zero), n.scalar(1, like: x), range)
    let scale = try n("div", span, n.scalar(255, like: x))
    let start = try n("neg", n("div", low, scale))
    let point = try n("round", n("min", n("max", start, zero), n.scalar(255, like: x)))
    let y = try rounded(n, n("div", x, scale), zero: point, to: .u8, 0, 255)
    return (y, scale, try n.cast(point, .u8))
  }

  // MARK: Quantised contractions

  /// `clamp(round(sum · scaleA · scaleB / scaleY) + zeroY)`.
  private static func requantized(
    _ n: NodeContext, _ sum: ValueID, scales: (ValueID, ValueID, ValueID), zero: ValueID
  ) throws(ImportError) -> ValueID {
    let factor = try n(
      "div", n("mul", n.cast(scales.0, .f32), n.cast(scales.1, .f32)), n.cast(scales.2, .f32))
    return try rounded(n, n("mul", n.cast(sum, .f32), factor), zero: zero, to: n.dtype(zero))
  }

  private static func qlinearMatmul(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let a = try n.input(0)
    let b = try n.input(3)
    let rows = max(0, try n.rank(a) - 2)
    let columns = max(0, try n.rank(b) - 1)
    let product = try n(
      "matmul", ContractionOperators.widened(n, a, zeroPoint: n.input(2), axis: rows),
      ContractionOperators.widened(n, b, zeroPoint: n.input(5), axis: columns))
    var scaleA = try n.input(1)
    let own = try n.shape(scaleA)
    if own.count == 1, own != [1] { scaleA = try n.unsqueeze(scaleA, [1]) }
    return [
      try requantized(n, product, scales: (scaleA, n.input(4), n.input(6)), zero: n.input(7))
    ]
  }

  private static func qlinearConv(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try ContractionOperators.widened(n, n.input(0), zeroPoint: n.input(2), axis: 1)
    let w = try ContractionOperators.widened(n, n.input(3), zeroPoint: n.input(5), axis: 0)
    var sum = try ConvolutionOperators.convolution(n, x, w)
    if let bias = n.optional(8) { sum = try ConvolutionOperators.addBias(n, sum, bias) }
    var weightScale = try n.input(4)
    let own = try n.shape(weightScale)
    if own.count == 1, own != [1] {
      weightScale = try n.reshape(weightScale, own + Shape(repeating: 1, count: max(0, n.rank(sum) - 2)))
    }
    return [
      try requantized(n, sum, scales: (n.input(1), weightScale, n.input(6)), zero: n.input(7))
    ]
  }
}
