package import ApusCore
package import ApusGraph
import ApusKernel

/// Scaled dot-product attention: softmax(cap(scale · q kᵀ) + mask) v, per head.
///
/// - Shapes: q `[B, H, S, D]`, k `[B, Hk, T, D]`, v `[B, Hk, T, Dv]` → `[B, H, S, Dv]`; H is a multiple of Hk and
///   consecutive query heads share a key head. The mask broadcasts to `[B, H, S, T]`.
/// - Types: floats, one type; the mask is added (any float type) or tells what may be seen (bool).
/// - Numerics: cap(s) = c · tanh(s / c) where `softcap` c is not 0. With `causal` query i sees keys 0 … i + `offset`. A
///   row that sees nothing gives NaN.
/// - Source: ONNX Attention-24.
package struct Attention: TensorOperation {
  package let scale: Double
  package let causal: Bool
  package let softcap: Double
  /// How many keys come before the first query's own, when causal.
  package let offset: Dim

  package init(scale: Double, causal: Bool = false, softcap: Double = 0, offset: Dim = 0) {
    self.scale = scale
    self.causal = causal
    self.softcap = softcap
    self.offset = offset
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    scale = try attributes.float("scale")
    causal = try attributes.bool("causal")
    softcap = try attributes.float("softcap")
    offset = try attributes.dim("offset")
  }

  package var name: String { "attention" }
  package var attributes: Attributes {
    ["scale": .float(scale), "causal": .bool(causal), "softcap": .float(softcap), "offset": .dim(offset)]
  }

  /// The sizes of one call.
  package struct Geometry: Sendable {
    package let batch: Dim
    package let heads: Dim
    package let keyHeads: Dim
    package let queries: Dim
    package let keys: Dim
    package let depth: Dim
    package let valueDepth: Dim

    package var scoreShape: Shape { [batch, heads, queries, keys] }
  }

  package func geometry(_ x: [TensorType]) throws(ShapeError) -> Geometry {
    for index in 0..<3 { try expect(x[index].rank == 4, x[index], operand: index, is: "a tensor of rank 4") }
    let (q, k, v) = (x[0].shape, x[1].shape, x[2].shape)
    let pairs = [(q[0], k[0]), (q[0], v[0]), (k[1], v[1]), (k[2], v[2]), (q[3], k[3])]
    let agree = pairs.allSatisfy { ($0 - $1).range.contains(0) }
    guard agree, k[1].range.upper > 0, q[1].remainder(by: Dim.maximum(k[1], 1)).range.contains(0) else {
      throw shapeError("APUS-S-0050", "sizes of q \(x[0]), k \(x[1]) and v \(x[2]) do not fit")
    }
    return Geometry(
      batch: q[0], heads: q[1], keyHeads: k[1], queries: q[2], keys: k[2], depth: q[3], valueDepth: v[3])
  }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 3...4)
    try expectSameDType(Array(x.prefix(3)))
    try expect(x[0].dtype.isFloat, x[0], operand: 0, is: "a float tensor")
    let sizes = try geometry(x)
    if x.count == 4 {
      try expect(x[3].dtype.isFloat || x[3].dtype == .bool, x[3], operand: 3, is: "a float or bool mask")
      let shape = Broadcasting.shape(sizes.scoreShape, x[3].shape)
      try expect(shape?.count == 4, x[3], operand: 3, is: "what broadcasts to \(sizes.scoreShape)")
    }
    return [x[0].with(shape: [sizes.batch, sizes.heads, sizes.queries, sizes.valueDepth])]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    if shape.contains(0) { return [HostTensor(dtype, shape)] }
    let (heads, queries, valueDepth) = (shape[1], shape[2], shape[3])
    let (keys, depth, shared) = (x[1].shape[2], x[1].shape[3], heads / x[1].shape[1])
    let scoreShape = [shape[0], heads, queries, keys]
    try checkSize(scoreShape)
    let (q, k, v) = (x[0].doubles, x[1].doubles, x[2].doubles)
    let mask = x.count > 3 ? try broadcast(x[3], to: scoreShape).doubles : []
    let maskIsBool = x.count > 3 && x[3].dtype == .bool
    let offset = try constants([offset])[0]
    var results = [Double](repeating: 0, count: shape.reduce(1, *))
    for row in 0..<shape[0] * heads * queries {
      let keyRow = row / queries / shared * keys
      let query = row % queries
      let scores = (0..<keys).map { key -> Double in
        if causal, key > saturatingAdd(query, offset) { return -.infinity }
        var score = 0.0
        for index in 0..<depth { score += q[row * depth + index] * k[(keyRow + key) * depth + index] }
        score *= scale
        if softcap != 0 { score = softcap * ScalarFunction.tanh.evaluate(score / softcap) }
        if mask.isEmpty { return score }
        return maskIsBool ? (mask[row * keys + key] != 0 ? score : -.infinity) : score + mask[row * keys + key]
      }
      let largest = scores.max() ?? 0
      let weights = scores.map { ScalarFunction.exp.evaluate($0 - largest) }
      let sum = weights.reduce(0, +)
      for index in 0..<valueDepth {
        var total = 0.0
        for key in 0..<keys where weights[key] != 0 { total += weights[key] * v[(keyRow + key) * valueDepth + index] }
        results[row * valueDepth + index] = total / sum
      }
    }
    return [HostTensor(dtype, shape, doubles: results)]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim {
    let types = x.compactMap(\.tensor)
    guard types.count >= 3, let sizes = try? geometry(types) else { return 0 }
    return 2 * Dim.product(sizes.scoreShape) * (sizes.depth + sizes.valueDepth)
  }

  package static let samples: [Sample] = {
    let sizes = ["B": 1...2, "S": 1...5, "T": 5...9]
    let operands = ("f32[B, 4, S, 6]", "f32[B, 4, T, 6]", "f32[B, 4, T, 3]")
    return [
      Sample(Attention(scale: 0.4), operands.0, operands.1, operands.2, where: sizes),
      Sample(Attention(scale: 0.4), operands.0, operands.1, operands.2, "f32[S, T]", where: sizes),
      Sample(
        Attention(scale: 0.4, causal: true, softcap: 2, offset: 2), "f32[B, 4, S, 6]", "f32[B, 2, T, 6]",
        "f32[B, 2, T, 6]", where: sizes),
      Sample(
        Attention(scale: 0.4, causal: true), "f16[B, 4, S, 6]", "f16[B, 1, T, 6]", "f16[B, 1, T, 6]",
        "f32[B, 1, 1, T]", where: sizes),
    ]
  }()
}
