import ApusCore
import ApusGraph

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Fourier transforms, windows and random numbers.
enum SignalOperators {
  static let table: [String: Lowering] = [
    "DFT": dft, "STFT": stft, "HannWindow": window([0.5, -0.5]),
    "HammingWindow": window([25.0 / 46.0, -21.0 / 46.0]), "BlackmanWindow": window([0.42, -0.5, 0.08]),
    "MelWeightMatrix": melWeightMatrix, "RandomNormal": random, "RandomUniform": random, "RandomNormalLike": random,
    "RandomUniformLike": random, "Bernoulli": bernoulli, "Multinomial": multinomial,
  ]

  // MARK: Fourier transforms

  private static func dft(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let shape = try n.shape(x, minimumRank: 2)
    let inverse = try n.flag("inverse")
    let onesided = try n.flag("onesided")
    var axis = n.opset < 20 ? try n.int("axis", 1) : -2
    if n.opset >= 20, let input = n.optional(2) { axis = try n.requireInt(input, "axis") }
    axis = try n.normalized(axis, rank: shape.count)
    let standard = inverse && onesided ? (shape[axis] - 1) * 2 : shape[axis]
    let length = try n.optional(1).map { id throws(ImportError) in try n.size(id, "dft_length") } ?? standard
    return [
      try n.emit(
        "dft",
        ["axis": .int(axis), "length": .dim(length), "inverse": .bool(inverse), "onesided": .bool(onesided)], x)
    ]
  }

  private static func stft(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    var x = try n.input(0)
    if try n.rank(x) == 2 { x = try n.unsqueeze(x, [2]) }
    let shape = try n.shape(x, rank: 3, "the signal")
    let window: ValueID
    if let given = n.optional(2) {
      window = given
    } else {
      let length = try n.optional(3).map { id throws(ImportError) in try n.size(id, "frame_length") } ?? shape[1]
      window = try n.broadcast(n.scalar(1, like: x), [length])
    }
    let onesided = try n.flag("onesided", true)
    return [
      try n.emit("stft", ["step": .dim(n.size(n.input(1), "frame_step")), "onesided": .bool(onesided)], x, window)
    ]
  }

  /// A window that is a sum of cosines: `Σ coefficients[k] · cos(2π k i / N)`.
  private static func window(_ coefficients: [Double]) -> Lowering {
    { n throws(ImportError) in
      let size = try n.size(n.input(0), "size")
      let dtype = try n.optionalDType("output_datatype") ?? .f32
      let period = try n.flag("periodic", true) ? size : size - 1
      let position = try n.iota([size], axis: 0, .f64)
      let angle = try n("div", n("mul", position, n.scalar(2 * Double.pi, .f64)), n.value(of: period, .f64))
      var sum = try n.broadcast(n.scalar(coefficients[0], .f64), [size])
      for (index, coefficient) in coefficients.enumerated().dropFirst() {
        let wave = try n("cos", n("mul", angle, n.scalar(Double(index), .f64)))
        sum = try n("add", sum, n("mul", wave, n.scalar(coefficient, .f64)))
      }
      return [try n.cast(sum, dtype)]
    }
  }

  /// Largest matrix of mel weights that is made.
  private static let melLimit = 1 << 24

  private static func melWeightMatrix(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let bins = try n.requireInt(n.input(0), "num_mel_bins")
    let length = try n.requireInt(n.input(1), "dft_length")
    let rate = try n.requireInt(n.input(2), "sample_rate")
    let edges = [
      try n.requireNumbers(n.input(3), "lower_edge_hertz"), try n.requireNumbers(n.input(4), "upper_edge_hertz"),
    ]
    guard let low = edges[0].first, let high = edges[1].first, bins > 0, length > 0, rate > 0, low >= 0, high >= low,
      high.isFinite, length < melLimit, bins < melLimit, (length / 2 + 1) * bins <= melLimit
    else { throw ImportError("APUS-I-0013", "the bins, length, rate and edges do not fit") }
    let rows = length / 2 + 1
    func mel(_ hertz: Double) -> Double { 2595 * log1p(hertz / 700) / log(10) }
    let step = (mel(high) - mel(low)) / Double(bins + 2)
    let points = (0..<bins + 2).map { index -> Int in
      let hertz = 700 * expm1((Double(index) * step + mel(low)) / 2595 * log(10))
      let point = (Double(length + 1) * hertz / Double(rate)).rounded(.down)
      return Int(min(max(point, 0), Double(rows)))
    }
    var weights = [Double](repeating: 0, count: rows * bins)
    for bin in 0..<bins {
      let (left, center, right) = (points[bin], points[bin + 1], points[bin + 2])
      for row in left...max(center, left) where row < rows {
        weights[row * bins + bin] = left == center ? 1 : Double(row - left) / Double(center - left)
      }
      for row in center..<max(right, center) where row < rows {
        weights[row * bins + bin] = Double(right - row) / Double(right - center)
      }
    }
    let dtype = try n.optionalDType("output_datatype") ?? .f32
    return [n.constant(HostTensor(dtype, [rows, bins], doubles: weights))]
  }

  // MARK: Random numbers

  private static func seed(_ n: NodeContext) throws(ImportError) -> [(String, Attribute)] {
    guard let seed = try n.optionalFloat("seed"), seed.isFinite else { return [] }
    return [("seed", .int(Int(Float(seed).bitPattern)))]
  }

  private static func random(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let isNormal = n.node.opType.hasPrefix("RandomNormal")
    var dtype = try n.optionalDType("dtype") ?? .f32
    let shape: Shape
    if n.node.opType.hasSuffix("Like") {
      let like = try n.type(n.input(0))
      shape = like.shape
      if !n.hasAttribute("dtype") { dtype = like.dtype }
    } else {
      let sizes = try n.ints("shape")
      guard sizes.allSatisfy({ $0 >= 0 }) else { throw ImportError("APUS-I-0012", "shape \(sizes) is negative") }
      shape = sizes.map { Dim($0) }
    }
    let range: (Double, Double) =
      isNormal ? (try n.float("mean", 0), try n.float("scale", 1)) : (try n.float("low", 0), try n.float("high", 1))
    let entries: [(String, Attribute)] = [
      ("shape", .dims(shape)), ("dtype", .dtype(dtype)), ("a", .float(range.0)), ("b", .float(range.1)),
    ]
    return try n.emitAll(isNormal ? "random_normal" : "random_uniform", Attributes(entries + seed(n)), [])
  }

  private static func bernoulli(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let own = try n.dtype(x)
    let dtype = try n.optionalDType("dtype") ?? own
    return [try n.emit("random_bernoulli", Attributes([("dtype", .dtype(dtype))] + seed(n)), x)]
  }

  private static func multinomial(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let entries: [(String, Attribute)] = [
      ("count", .int(try n.int("sample_size", 1))), ("dtype", .dtype(try n.optionalDType("dtype") ?? .i32)),
    ]
    return [try n.emit("random_multinomial", Attributes(entries + seed(n)), n.input(0))]
  }
}
