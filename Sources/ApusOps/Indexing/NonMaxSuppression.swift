package import ApusCore
package import ApusGraph

/// Picks boxes by score, per batch and class, skipping those that overlap a picked one too much.
///
/// - Shapes: boxes `[N, B, 4]`, scores `[N, C, B]`, most boxes per class, IoU threshold and score threshold, each one
///   element → `[count, 3]` rows of batch, class and box; `count` is a symbol that the operation sets.
/// - Types: boxes, scores and thresholds f32; most boxes i64; result i64.
/// - Numerics: in f32; a box is dropped when its IoU with a picked one is above the threshold, and when its score is not
///   above the score threshold. Of equal scores the lower index is first.
/// - Source: ONNX NonMaxSuppression-11.
package struct NonMaxSuppression: TensorOperation {
  /// Boxes are given as centre and size, else as two corners in any order.
  package let centerPointBox: Bool
  package let count: Dim

  package init(centerPointBox: Bool, count: Dim) {
    self.centerPointBox = centerPointBox
    self.count = count
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    centerPointBox = try attributes.bool("center_point_box")
    count = try attributes.dim("count")
  }

  package var name: String { "non_max_suppression" }
  package var attributes: Attributes { ["center_point_box": .bool(centerPointBox), "count": .dim(count)] }
  package var boundSymbols: [Symbol] { Self.symbols([count]) }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 5...5)
    try expectRank(x[0], 3...3, "boxes")
    try expectRank(x[1], 3...3, "scores")
    try expectFloat(x[0], "boxes")
    try expectFloat(x[1], "scores")
    try expectIndices(x[2], "most boxes per class")
    try expectEqual(x[0].shape[2], 4, "numbers of a box")
    try expectEqual(x[0].shape[0], x[1].shape[0], "batch of boxes and scores")
    try expectEqual(x[0].shape[1], x[1].shape[2], "count of boxes and scores")
    for operand in x[2...] { try expectEqual(operand.elementCount, 1, "elements of a limit or threshold") }
    return [TensorType(.i64, [count, 3])]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    guard let limit = x[2].ints.first, let overlap = x[3].doubles.first, let least = x[4].doubles.first,
      x[0].shape[2] == 4, x[0].shape[0] == x[1].shape[0], x[0].shape[1] == x[1].shape[2]
    else { throw evaluationError("APUS-V-0202", "boxes \(x[0].shape) and scores \(x[1].shape) do not fit") }
    let boxes = Self.corners(x[0].doubles.map { Float($0) }, centerPointBox)
    let scores = x[1].doubles.map { Float($0) }
    let (batches, classes, perBatch) = (x[1].shape[0], x[1].shape[1], x[1].shape[2])
    var rows: [Int64] = []
    for batch in 0..<batches {
      for category in 0..<classes {
        let line = scores[((batch * classes + category) * perBatch)...].prefix(perBatch)
        let own = Array(boxes[(batch * perBatch)...].prefix(perBatch))
        for index in pick(Array(line), own, max(limit, 0), Float(overlap), Float(least)) {
          rows += [Int64(batch), Int64(category), Int64(index)]
        }
      }
    }
    return [HostTensor(.i64, [rows.count / 3, 3], elements: rows)]
  }

  private func pick(_ scores: [Float], _ boxes: [Box], _ limit: Int, _ overlap: Float, _ least: Float) -> [Int] {
    let candidates = scores.indices.filter { scores[$0] > least }.sorted { scores[$0] > scores[$1] }
    var picked: [Int] = []
    for candidate in candidates {
      if picked.count >= limit { break }
      if picked.allSatisfy({ boxes[$0].overlap(boxes[candidate]) <= overlap }) { picked.append(candidate) }
    }
    return picked
  }

  private struct Box {
    let (low, high): (SIMD2<Float>, SIMD2<Float>)

    /// Intersection over union.
    func overlap(_ other: Box) -> Float {
      let size = pointwiseMin(high, other.high) - pointwiseMax(low, other.low)
      if size.x <= 0 || size.y <= 0 { return 0 }
      let (own, its) = (high - low, other.high - other.low)
      let (ownArea, itsArea) = (own.x * own.y, its.x * its.y)
      if ownArea <= 0 || itsArea <= 0 { return 0 }
      let common = size.x * size.y
      let union = ownArea + itsArea - common
      return union <= 0 ? 0 : common / union
    }
  }

  private static func corners(_ values: [Float], _ centerPointBox: Bool) -> [Box] {
    stride(from: 0, to: values.count - values.count % 4, by: 4).map { start in
      let a = SIMD2(values[start], values[start + 1])
      let b = SIMD2(values[start + 2], values[start + 3])
      if centerPointBox { return Box(low: a - b / 2, high: a + b / 2) }
      return Box(low: pointwiseMin(a, b), high: pointwiseMax(a, b))
    }
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { x[1].tensor?.elementCount ?? 0 }
}
