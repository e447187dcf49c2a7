package import ApusCore
package import ApusGraph

/// Resamples a tensor to other sizes, axis by axis.
///
/// - Shapes: x `[d…]` → `[sizes…]`; for `tf_crop_and_resize` a second operand `[2·rank]` gives where the crop starts and
///   ends on each axis, as parts of the axis.
/// - Types: numeric; computed in f32 (f64 for f64), integers round to even and saturate.
/// - Numerics: coordinates as ONNX defines them; a scale that is a fraction with a divisor up to 64 is exact. Axes whose
///   size and scale do not change are left alone.
/// - Source: ONNX Resize-19.
package struct Resize: TensorOperation {
  package enum Mode: String, CaseIterable, Sendable {
    case nearest, linear, cubic
  }

  package var sizes: [Dim]
  /// Factor of each axis; 0 stands for the quotient of the sizes.
  package var scales: [Double]
  package var mode: Mode
  package var transformation: CoordinateTransformation = .halfPixel
  package var nearestMode: NearestMode = .roundPreferFloor
  package var cubicCoefficient = -0.75
  package var excludeOutside = false
  package var extrapolationValue = 0.0
  package var antialias = false

  package init(sizes: [Dim], scales: [Double], mode: Mode) {
    self.sizes = sizes
    self.scales = scales
    self.mode = mode
  }

  package init(name: String, attributes a: Attributes) throws(GraphError) {
    sizes = try a.dims("sizes")
    scales = try a.floats("scales").map { $0.isNaN || $0 <= 0 ? 0 : $0 }
    mode = try a.choice("mode")
    transformation = try a.choice("coordinate_transformation")
    nearestMode = try a.choice("nearest_mode")
    cubicCoefficient = try a.float("cubic_coefficient")
    excludeOutside = try a.bool("exclude_outside")
    extrapolationValue = try a.float("extrapolation_value")
    antialias = try a.bool("antialias")
  }

  package var name: String { "resize" }
  package var attributes: Attributes {
    [
      "sizes": .dims(sizes), "scales": .floats(scales), "mode": .string(mode.rawValue),
      "coordinate_transformation": .string(transformation.rawValue), "nearest_mode": .string(nearestMode.rawValue),
      "cubic_coefficient": .float(cubicCoefficient), "exclude_outside": .bool(excludeOutside),
      "extrapolation_value": .float(extrapolationValue), "antialias": .bool(antialias),
    ]
  }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    let isCrop = transformation == .tfCropAndResize
    try expectOperands(x, isCrop ? 2...2 : 1...1)
    guard x[0].dtype.isNumeric else { throw shapeError("APUS-S-0204", "\(x[0]) is not numeric") }
    guard sizes.count == x[0].rank, scales.count == x[0].rank else {
      throw shapeError("APUS-S-0205", "\(sizes.count) sizes and \(scales.count) scales for \(x[0])")
    }
    if isCrop { try expectEqual(x[1].elementCount, Dim(2 * x[0].rank), "elements of the crop") }
    return [x[0].with(shape: sizes)]
  }

  func axis(_ index: Int, _ shape: Shape) -> ResizeAxis {
    ResizeAxis(
      input: shape[index], output: sizes[index], scale: scales[index], transformation: transformation)
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim {
    guard let source = x[0].tensor, let result = results[0].tensor else { return 0 }
    let taps = mode == .nearest ? 1 : (mode == .linear ? 2 : 4)
    return result.shape.indices.reduce(result.elementCount) { product, index in
      axis(index, source.shape).isIdentity ? product : product * Dim(taps)
    }
  }
}

// MARK: Reference

/// Which elements of an axis an output element is made of.
private struct ResizeTaps {
  var indices: [Int]
  var weights: [Double]
  var isOutside = false
}

extension Resize {
  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    guard let outputs = knownInts(sizes), outputs.allSatisfy({ $0 >= 0 }) else {
      throw evaluationError("APUS-V-0202", "sizes \(sizes) are not known")
    }
    try checkSize(outputs)
    var shape = x[0].shape
    guard shape.allSatisfy({ $0 > 0 }) || outputs.contains(0) else {
      throw evaluationError("APUS-V-0202", "an empty tensor cannot be resized to \(outputs)")
    }
    let crop = x.count > 1 ? x[1].doubles : []
    if outputs.reduce(1, saturatingMultiply) == 0 { return [HostTensor(x[0].dtype, outputs)] }
    if mode == .nearest, crop.isEmpty { return [nearestReference(x[0], outputs)] }
    var values = x[0].doubles
    for index in shape.indices {
      let map = axis(index, x[0].type.shape)
      let rank = shape.count
      let part = crop.isEmpty ? (start: 0.0, end: 1.0) : (start: crop[index], end: crop[rank + index])
      if map.isIdentity || (map.input == map.output && !crop.isEmpty && part == (0, 1)) { continue }
      let taps = (0..<outputs[index]).map { self.taps($0, map, part) }
      values = apply(taps, values, AxisSplit(shape, axis: index))
      shape[index] = outputs[index]
    }
    if !x[0].dtype.isFloat { values = values.map { saturated($0, x[0].dtype) } }
    return [HostTensor(x[0].dtype, shape, doubles: values)]
  }

  private func nearestReference(_ x: HostTensor, _ outputs: [Int]) -> HostTensor {
    var sources = [0]
    for index in outputs.indices {
      let map = axis(index, x.type.shape)
      let size = x.shape[index]
      let picked = (0..<outputs[index]).map { map.isIdentity ? $0 : taps($0, map, (0, 1)).indices[0] }
      sources = sources.flatMap { base in picked.map { base * size + $0 } }
    }
    return x.gathering(sources, shape: outputs)
  }

  func saturated(_ value: Double, _ dtype: DType) -> Double {
    let bits = Double(dtype.bitWidth)
    let (low, high): (Double, Double) =
      dtype.isSignedInteger
      ? (-(2.0 as Double).power(bits - 1), (2.0 as Double).power(bits - 1) - 1) : (0, (2.0 as Double).power(bits) - 1)
    return min(max(value.rounded(.toNearestOrEven), low), high)
  }

  private func taps(_ x: Int, _ map: ResizeAxis, _ part: (start: Double, end: Double)) -> ResizeTaps {
    let size = map.input.constantValue ?? 0
    let clamp = { (index: Int) in min(max(index, 0), size - 1) }
    if let fraction = map.fraction(Dim(x)) {
      if mode == .nearest {
        let index = ResizeAxis.nearest(fraction, nearestMode, nil).constantValue ?? 0
        return ResizeTaps(indices: [clamp(index)], weights: [1])
      }
      let whole = ResizeAxis.floor(fraction.over, fraction.under, nil)
      let rest = (fraction.over - whole * fraction.under).constantValue ?? 0
      return blend(whole.constantValue ?? 0, Double(rest) / Double(fraction.under.constantValue ?? 1), map)
    }
    let position = map.coordinate(x, start: part.start, end: part.end)
    guard position.magnitude < 1e15 else { return ResizeTaps(indices: [0], weights: [0], isOutside: true) }
    let isCrop = transformation == .tfCropAndResize
    if isCrop, position < 0 || position > Double(size - 1) {
      return ResizeTaps(indices: [0], weights: [0], isOutside: true)
    }
    if mode == .nearest { return ResizeTaps(indices: [clamp(Int(nearest(position)))], weights: [1]) }
    let whole = position.rounded(.down)
    return blend(Int(whole), position - whole, map)
  }

  private func nearest(_ position: Double) -> Double {
    switch nearestMode {
    case .floor: position.rounded(.down)
    case .ceil: position.rounded(.up)
    case .roundPreferFloor: (position - 0.5).rounded(.up)
    case .roundPreferCeil: (position + 0.5).rounded(.down)
    }
  }

  /// Taps around `whole + rest` with the weights of the mode.
  private func blend(_ whole: Int, _ rest: Double, _ map: ResizeAxis) -> ResizeTaps {
    let size = map.input.constantValue ?? 1
    let output = Double(map.output.constantValue ?? 1)
    let scale = map.scale == 0 ? output / Double(max(size, 1)) : map.scale
    let shrink = antialias ? min(scale, 1) : 1
    let reach = mode == .linear ? 1.0 : 2.0
    let first = Int(max((-reach / shrink).rounded(.down) + 1, -1e6))
    var taps = ResizeTaps(indices: [], weights: [])
    for step in first...(1 - first) {
      let distance = ((Double(step) - rest) * shrink).magnitude
      let isOutside = whole + step < 0 || whole + step >= size
      taps.indices.append(min(max(whole + step, 0), size - 1))
      taps.weights.append(excludeOutside && isOutside ? 0 : weight(distance))
    }
    if antialias || excludeOutside {
      let sum = taps.weights.reduce(0, +)
      if sum != 0 { taps.weights = taps.weights.map { $0 / sum } }
    }
    return taps
  }

  private func weight(_ x: Double) -> Double {
    if mode == .linear { return max(1 - x, 0) }
    let a = cubicCoefficient
    if x <= 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0
  }

  private func apply(_ taps: [ResizeTaps], _ values: [Double], _ split: AxisSplit) -> [Double] {
    var result = [Double](repeating: 0, count: split.outer * taps.count * split.inner)
    for outer in 0..<split.outer {
      for (position, tap) in taps.enumerated() {
        let target = (outer * taps.count + position) * split.inner
        if tap.isOutside {
          for inner in 0..<split.inner { result[target + inner] = extrapolationValue }
          continue
        }
        for (index, weight) in zip(tap.indices, tap.weights) where weight != 0 {
          let source = (outer * split.count + index) * split.inner
          for inner in 0..<split.inner { result[target + inner] += weight * values[source + inner] }
        }
      }
    }
    return result
  }
}

extension Double {
  fileprivate func power(_ exponent: Double) -> Double {
    Double(sign: .plus, exponent: Int(exponent), significand: 1)
  }
}
