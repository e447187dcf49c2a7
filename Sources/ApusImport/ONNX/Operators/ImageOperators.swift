import ApusCore
import ApusGraph

/// Operators that resample images.
enum ImageOperators {
  static let table: [String: Lowering] = [
    "Resize": resize, "Upsample": upsample, "GridSample": gridSample, "AffineGrid": affineGrid, "RoiAlign": roiAlign,
    "MaxRoiPool": maxRoiPool, "ImageDecoder": imageDecoder,
  ]

  private static func imageDecoder(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let format = try n.choice("pixel_format", ["RGB", "BGR", "Grayscale"], default: "RGB")
    let stem = n.node.output.first ?? n.node.opType
    return [
      try n.emit(
        "image_decode",
        [
          "format": .string(format.lowercased()), "height": .dim(Dim(n.freshSymbol("\(stem)_height"))),
          "width": .dim(Dim(n.freshSymbol("\(stem)_width"))),
        ], n.input(0))
    ]
  }

  // MARK: Resize

  private static func upsample(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let scales: [Double]
    if n.opset < 9 {
      let spatial = [try n.float("height_scale", 1), try n.float("width_scale", 1)]
      scales = try n.optionalFloats("scales") ?? [1, 1] + spatial
    } else {
      scales = try n.requireNumbers(n.input(1), "scales")
    }
    let mode = try n.choice("mode", ["nearest", "linear", "bilinear"], default: "nearest")
    let shape = try n.shape(x)
    let sizes = try scaled(shape, scales)
    return [
      try emit(
        n, x, sizes: sizes, scales: scales, mode: mode == "nearest" ? mode : "linear", transformation: "asymmetric",
        nearest: "floor")
    ]
  }

  private static func emit(
    _ n: NodeContext, _ x: ValueID, sizes: Shape, scales: [Double], mode: String, transformation: String,
    nearest: String, roi: ValueID? = nil
  ) throws(ImportError) -> ValueID {
    let attributes: Attributes = [
      "sizes": .dims(sizes), "scales": .floats(scales), "mode": .string(mode),
      "coordinate_transformation": .string(transformation), "nearest_mode": .string(nearest),
      "cubic_coefficient": .float(try n.float("cubic_coeff_a", -0.75)),
      "exclude_outside": .bool(try n.flag("exclude_outside")),
      "extrapolation_value": .float(try n.float("extrapolation_value", 0)),
      "antialias": .bool(try n.flag("antialias")),
    ]
    guard let roi else { return try n.emit("resize", attributes, x) }
    return try n.emit("resize", attributes, x, roi)
  }

  /// `floor(size · scale)` of each axis, as an exact fraction where the scale is one of small numbers.
  private static func scaled(_ shape: Shape, _ scales: [Double]) throws(ImportError) -> Shape {
    guard scales.count == shape.count else {
      throw ImportError("APUS-I-0013", "\(scales.count) scales are given for rank \(shape.count)")
    }
    var sizes: Shape = []
    for (dim, scale) in zip(shape, scales) {
      guard scale > 0, scale.isFinite else { throw ImportError("APUS-I-0013", "a scale is \(scale)") }
      if let size = dim.constantValue {
        let product: Double = Double(size) * scale
        guard let value = Int(exactly: product.rounded(.down)) else {
          throw ImportError("APUS-I-0013", "size \(size) times scale \(scale) is too large")
        }
        sizes.append(Dim(value))
      } else if let fraction = Fraction(scale) {
        sizes.append((dim * fraction.numerator).floorDivided(by: fraction.denominator))
      } else {
        throw ImportError(
          "APUS-I-0015", "the size \(dim) times scale \(scale) has no exact form",
          hint: "Give the input's shape with --shape.")
      }
    }
    return sizes
  }

  private static func resize(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let shape = try n.shape(x)
    let mode = try n.choice("mode", ["nearest", "linear", "cubic"], default: "nearest")
    if n.opset < 11 {
      let scales = try n.requireNumbers(n.input(1), "scales")
      return [
        try emit(
          n, x, sizes: scaled(shape, scales), scales: scales, mode: mode, transformation: "asymmetric",
          nearest: "floor")
      ]
    }
    let transformation = try n.string("coordinate_transformation_mode", "half_pixel")
    let nearest = try n.string("nearest_mode", "round_prefer_floor")
    var axes = try n.optionalInts("axes") ?? Array(shape.indices)
    for index in axes.indices { axes[index] = try n.normalized(axes[index], rank: shape.count) }
    let roi = transformation == "tf_crop_and_resize" ? try cropBounds(n, axes, rank: shape.count) : nil
    let (sizes, scales) = try target(n, x, axes)
    let fill = Array(repeating: 1.0, count: shape.count)
    let allScales = axes.enumerated().reduce(into: fill) { all, entry in
      if entry.offset < scales.count { all[entry.element] = scales[entry.offset] }
    }
    return [
      try emit(
        n, x, sizes: sizes, scales: allScales, mode: mode, transformation: transformation, nearest: nearest, roi: roi)
    ]
  }

  /// Sizes of all axes, and the scales of the resized ones; a scale of 0 is the quotient of the sizes.
  private static func target(
    _ n: NodeContext, _ x: ValueID, _ axes: [Int]
  ) throws(ImportError) -> (sizes: Shape, scales: [Double]) {
    let shape = try n.shape(x)
    var sizes = shape
    if let input = n.optional(2), try n.type(input).elementCount != 0 {
      let part = axes.map { shape[$0] }
      if let dims = scaledSizes(n, input, part) {
        for (axis, size) in zip(axes, dims) { sizes[axis] = size }
        return (sizes, axes.map { _ in 0 })
      }
      let scales = try n.requireNumbers(input, "scales")
      for (axis, size) in zip(axes, try scaled(part, scales)) { sizes[axis] = size }
      return (sizes, scales)
    }
    guard let input = n.optional(3) else { throw ImportError("APUS-I-0014", "neither scales nor sizes are given") }
    let wanted = try n.sizes(input, "sizes")
    guard wanted.count == axes.count else {
      throw ImportError("APUS-I-0013", "\(wanted.count) sizes are given for \(axes.count) axes")
    }
    let policy = try n.choice(
      "keep_aspect_ratio_policy", ["stretch", "not_larger", "not_smaller"], default: "stretch")
    if policy != "stretch" { return try keepingAspect(shape, axes, wanted, smallest: policy == "not_larger") }
    for (axis, size) in zip(axes, wanted) { sizes[axis] = size }
    return (sizes, axes.map { _ in 0 })
  }

  /// The sizes when the scales were computed from sizes in the graph.
  private static func scaledSizes(_ n: NodeContext, _ scales: ValueID, _ shape: [Dim]) -> [Dim]? {
    guard n.constant(scales) == nil, let fractions = n.builder.fractions[scales], fractions.count == shape.count else {
      return nil
    }
    return zip(shape, fractions).map { ($0 * $1.numerator).floorDivided(by: $1.denominator) }
  }

  private static func keepingAspect(
    _ shape: Shape, _ axes: [Int], _ wanted: [Dim], smallest: Bool
  ) throws(ImportError) -> (sizes: Shape, scales: [Double]) {
    var factors: [Double] = []
    for (axis, size) in zip(axes, wanted) {
      guard let from = shape[axis].constantValue, let to = size.constantValue, from > 0 else {
        throw ImportError(
          "APUS-I-0015", "keeping the aspect ratio needs known sizes", hint: "Give the input's shape with --shape.")
      }
      factors.append(Double(to) / Double(from))
    }
    guard let factor = smallest ? factors.min() : factors.max() else { return (shape, []) }
    var sizes = shape
    for axis in axes {
      let size = Double(shape[axis].constantValue ?? 0) * factor
      guard let rounded = Int(exactly: (size + 0.5).rounded(.down)) else {
        throw ImportError("APUS-I-0013", "a size is too large")
      }
      sizes[axis] = Dim(rounded)
    }
    return (sizes, axes.map { _ in factor })
  }

  /// Start and end of the crop on every axis.
  private static func cropBounds(_ n: NodeContext, _ axes: [Int], rank: Int) throws(ImportError) -> ValueID {
    let roi = try n.input(1)
    if axes == Array(0..<rank) { return roi }
    let shape = try n.shape(roi, rank: 1, "roi")
    guard shape[0] == Dim(2 * axes.count) else {
      throw ImportError("APUS-I-0013", "roi has \(shape[0]) elements for \(axes.count) axes")
    }
    var parts: [ValueID] = []
    for end in [0, 1] {
      for axis in 0..<rank {
        if let index = axes.firstIndex(of: axis) {
          parts.append(try n.slice(roi, axis: 0, start: Dim(end * axes.count + index), size: 1))
        } else {
          parts.append(n.vector([Double(end)], try n.dtype(roi)))
        }
      }
    }
    return try n.concat(parts, axis: 0)
  }

  // MARK: Sampling

  private static func gridSample(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let mode = try n.choice(
      "mode", ["linear", "nearest", "cubic", "bilinear", "bicubic"], default: n.opset < 20 ? "bilinear" : "linear")
    let names = ["bilinear": "linear", "bicubic": "cubic"]
    let padding = try n.choice("padding_mode", ["zeros", "border", "reflection"], default: "zeros")
    return [
      try n.emit(
        "grid_sample",
        [
          "mode": .string(names[mode] ?? mode), "padding": .string(padding),
          "align_corners": .bool(n.flag("align_corners")),
        ], n.input(0), n.input(1))
    ]
  }

  private static func affineGrid(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let size = try n.sizes(n.input(1), "size")
    guard size.count >= 3 else { throw ImportError("APUS-I-0013", "size has \(size.count) entries") }
    return [
      try n.emit(
        "affine_grid", ["sizes": .dims(Array(size[2...])), "align_corners": .bool(n.flag("align_corners"))], n.input(0))
    ]
  }

  private static func roiAlign(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let standard = n.opset < 16 ? "output_half_pixel" : "half_pixel"
    let transformation = try n.choice(
      "coordinate_transformation_mode", ["half_pixel", "output_half_pixel"], default: standard)
    return [
      try n.emit(
        "roi_align",
        [
          "mode": .string(n.choice("mode", ["avg", "max"], default: "avg")),
          "height": .int(n.int("output_height", 1)), "width": .int(n.int("output_width", 1)),
          "sampling_ratio": .int(n.int("sampling_ratio", 0)), "spatial_scale": .float(n.float("spatial_scale", 1)),
          "half_pixel": .bool(transformation == "half_pixel"),
        ], n.input(0), n.input(1), n.input(2))
    ]
  }

  private static func maxRoiPool(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let size = try n.ints("pooled_shape")
    guard size.count == 2 else { throw ImportError("APUS-I-0012", "pooled_shape \(size) is not two sizes") }
    return [
      try n.emit(
        "max_roi_pool",
        ["height": .int(size[0]), "width": .int(size[1]), "spatial_scale": .float(n.float("spatial_scale", 1))],
        n.input(0), n.input(1))
    ]
  }
}
