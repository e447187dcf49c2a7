package import ApusCore
package import ApusGraph

/// Pools boxes of feature maps to one size by bilinear samples.
///
/// - Shapes: x `[N, C, H, W]`, boxes `[R, 4]` as x1, y1, x2, y2, batch of each box `[R]` → `[R, C, height, width]`.
/// - Types: x and boxes one float type; batches i64.
/// - Numerics: `sampling_ratio` samples per bin and axis, 0 for one per started element; `max` takes the largest of the
///   weighted corners of all samples, as ONNX's evaluators do.
/// - Source: ONNX RoiAlign-22; He et al. 2017.
package struct RoiAlign: TensorOperation {
  package enum Mode: String, CaseIterable, Sendable {
    case avg, max
  }

  package var mode = Mode.avg
  package var height: Int
  package var width: Int
  package var samplingRatio = 0
  package var spatialScale = 1.0
  /// Boxes are shifted by half an element, so that coordinates name edges.
  package var halfPixel = true

  package init(height: Int, width: Int) {
    self.height = height
    self.width = width
  }

  package init(name: String, attributes a: Attributes) throws(GraphError) {
    mode = try a.choice("mode")
    height = try a.int("height")
    width = try a.int("width")
    samplingRatio = try a.int("sampling_ratio")
    spatialScale = try a.float("spatial_scale")
    halfPixel = try a.bool("half_pixel")
  }

  package var name: String { "roi_align" }
  package var attributes: Attributes {
    [
      "mode": .string(mode.rawValue), "height": .int(height), "width": .int(width),
      "sampling_ratio": .int(samplingRatio), "spatial_scale": .float(spatialScale), "half_pixel": .bool(halfPixel),
    ]
  }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 3...3)
    try expectRank(x[0], 4...4, "x")
    try expectRank(x[1], 2...2, "boxes")
    try expectRank(x[2], 1...1, "batches")
    try expectFloat(x[0], "x")
    try expectSameDType([x[0], x[1]])
    try expectIndices(x[2], "batches")
    try expectEqual(x[1].shape[1], 4, "numbers of a box")
    try expectEqual(x[1].shape[0], x[2].shape[0], "boxes and batches")
    guard height > 0, width > 0, (0...1024).contains(samplingRatio) else {
      throw shapeError("APUS-S-0206", "height \(height), width \(width) or sampling ratio \(samplingRatio) is wrong")
    }
    return [x[0].with(shape: [x[1].shape[0], x[0].shape[1], Dim(height), Dim(width)])]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    let shape = x[0].shape
    try checkSize([x[1].shape[0], shape[1], height, width])
    let (values, boxes, batches) = (x[0].doubles, x[1].doubles, x[2].ints)
    let offset = halfPixel ? 0.5 : 0
    var result = [Double](repeating: 0, count: batches.count * shape[1] * height * width)
    for (box, batch) in batches.enumerated() {
      let batch = try normalized(batch, shape[0])
      let corner = (0..<4).map { boxes[box * 4 + $0] * spatialScale - offset }
      let rows = try samples(from: corner[1], to: corner[3], bins: height, size: shape[2])
      let columns = try samples(from: corner[0], to: corner[2], bins: width, size: shape[3])
      for channel in 0..<shape[1] {
        let base = (batch * shape[1] + channel) * shape[2] * shape[3]
        for row in 0..<height {
          for column in 0..<width {
            let target = ((box * shape[1] + channel) * height + row) * width + column
            result[target] = pool(rows[row], columns[column]) { values[base + $0 * shape[3] + $1] }
          }
        }
      }
    }
    return [HostTensor(x[0].dtype, [batches.count, shape[1], height, width], doubles: result)]
  }

  /// A sample along one axis between two elements; without weight when it lies outside the map.
  private struct AxisSample {
    var low = 0
    var high = 0
    var rest = 0.0
    var isOutside = false
  }

  /// The samples of every bin along one axis.
  private func samples(
    from start: Double, to end: Double, bins: Int, size: Int
  ) throws(EvaluationError) -> [[AxisSample]] {
    let length = halfPixel ? end - start : Swift.max(end - start, 1)
    let bin = length / Double(bins)
    let needed = samplingRatio > 0 ? Double(samplingRatio) : bin.rounded(.up)
    guard needed <= 1024, bin.magnitude < 1e12, start.magnitude < 1e12 else {
      throw evaluationError("APUS-V-0204", "a box reaches from \(start) to \(end)")
    }
    let count = Int(Swift.max(needed, 0))
    return (0..<bins).map { index in
      (0..<count).map { step in
        let x = start + Double(index) * bin + (Double(step) + 0.5) * bin / Double(count)
        if x < -1 || x > Double(size) || size == 0 { return AxisSample(isOutside: true) }
        let bounded = Swift.max(x, 0)
        let low = Int(bounded)
        if low >= size - 1 { return AxisSample(low: size - 1, high: size - 1) }
        return AxisSample(low: low, high: low + 1, rest: bounded - Double(low))
      }
    }
  }

  private func pool(_ rows: [AxisSample], _ columns: [AxisSample], _ at: (Int, Int) -> Double) -> Double {
    var sum = 0.0
    var largest: Double?
    for y in rows {
      for x in columns {
        var corners = [0.0, 0, 0, 0]
        if !y.isOutside && !x.isOutside {
          corners[0] = (1 - y.rest) * (1 - x.rest) * at(y.low, x.low)
          corners[1] = (1 - y.rest) * x.rest * at(y.low, x.high)
          corners[2] = y.rest * (1 - x.rest) * at(y.high, x.low)
          corners[3] = y.rest * x.rest * at(y.high, x.high)
        }
        sum += corners.reduce(0, +)
        let best = corners.reduce(corners[0], Swift.max)
        largest = largest.map { Swift.max($0, best) } ?? best
      }
    }
    return mode == .avg ? sum / Double(Swift.max(rows.count * columns.count, 1)) : largest ?? 0
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim {
    (results[0].tensor?.elementCount ?? 0) * Dim(4 * Swift.max(samplingRatio * samplingRatio, 1))
  }
}

/// Takes the maximum of each cell of a fixed grid laid over boxes of feature maps.
///
/// - Shapes: x `[N, C, H, W]`, boxes `[R, 5]` as batch, x1, y1, x2, y2 → `[R, C, height, width]`.
/// - Types: one float type.
/// - Numerics: corners are rounded to elements after scaling; an empty cell gives 0.
/// - Source: ONNX MaxRoiPool-1; Girshick 2015.
package struct MaxRoiPool: TensorOperation {
  package let height: Int
  package let width: Int
  package let spatialScale: Double

  package init(height: Int, width: Int, spatialScale: Double = 1) {
    self.height = height
    self.width = width
    self.spatialScale = spatialScale
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    height = try attributes.int("height")
    width = try attributes.int("width")
    spatialScale = try attributes.float("spatial_scale")
  }

  package var name: String { "max_roi_pool" }
  package var attributes: Attributes {
    ["height": .int(height), "width": .int(width), "spatial_scale": .float(spatialScale)]
  }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 2...2)
    try expectRank(x[0], 4...4, "x")
    try expectRank(x[1], 2...2, "boxes")
    try expectFloat(x[0], "x")
    try expectSameDType([x[0], x[1]])
    try expectEqual(x[1].shape[1], 5, "numbers of a box")
    guard height > 0, width > 0 else { throw shapeError("APUS-S-0206", "the grid is \(height) x \(width)") }
    return [x[0].with(shape: [x[1].shape[0], x[0].shape[1], Dim(height), Dim(width)])]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    let shape = x[0].shape
    try checkSize([x[1].shape[0], shape[1], height, width])
    let (values, boxes) = (x[0].doubles, x[1].doubles)
    let count = x[1].shape[0]
    var result = [Double](repeating: 0, count: count * shape[1] * height * width)
    for box in 0..<count {
      let numbers = Array(boxes[box * 5..<box * 5 + 5])
      guard numbers.allSatisfy({ $0.magnitude < 1e9 }), spatialScale.magnitude < 1e6 else {
        throw evaluationError("APUS-V-0204", "box \(box) is \(numbers)")
      }
      let batch = try normalized(Int(numbers[0]), shape[0])
      let corner = numbers[1...].map { Int(($0 * spatialScale).rounded(.toNearestOrAwayFromZero)) }
      for row in 0..<height {
        let ys = Self.cell(row, of: height, from: corner[1], to: corner[3], size: shape[2])
        for column in 0..<width {
          let xs = Self.cell(column, of: width, from: corner[0], to: corner[2], size: shape[3])
          for channel in 0..<shape[1] {
            var best: Double?
            for y in ys {
              for x in xs {
                let value = values[((batch * shape[1] + channel) * shape[2] + y) * shape[3] + x]
                best = best.map { Swift.max($0, value) } ?? value
              }
            }
            result[((box * shape[1] + channel) * height + row) * width + column] = best ?? 0
          }
        }
      }
    }
    return [HostTensor(x[0].dtype, [count, shape[1], height, width], doubles: result)]
  }

  private static func cell(_ index: Int, of count: Int, from start: Int, to end: Int, size: Int) -> Range<Int> {
    let bin = Double(Swift.max(end - start + 1, 1)) / Double(count)
    let low = Swift.min(Swift.max(Int((Double(index) * bin).rounded(.down)) + start, 0), size)
    let high = Swift.min(Swift.max(Int((Double(index + 1) * bin).rounded(.up)) + start, 0), size)
    return low..<Swift.max(low, high)
  }
}
