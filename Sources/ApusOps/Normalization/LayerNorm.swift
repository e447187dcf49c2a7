package import ApusCore
package import ApusGraph
package import ApusKernel

/// Normalizes over the axes from `axis` on: by mean and variance (`layer_norm`), or by the root of the mean square alone
/// (`rms_norm`); then scales and, for `layer_norm`, may add a bias.
///
/// - Shapes: scale and bias broadcast to x.
/// - Types: floats, one type; f16 and bf16 are computed in f32 and rounded once.
/// - Numerics: the variance is the mean of squared differences from the mean (two passes).
/// - Source: ONNX LayerNormalization-17, RMSNormalization-23.
package struct LayerNorm: TensorOperation {
  package let axis: Int
  package let epsilon: Double
  /// Leaves the mean in place: root-mean-square normalization.
  package let isRootMeanSquare: Bool

  package init(axis: Int, epsilon: Double, isRootMeanSquare: Bool = false) {
    self.axis = axis
    self.epsilon = epsilon
    self.isRootMeanSquare = isRootMeanSquare
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    axis = try attributes.int("axis")
    epsilon = try attributes.float("epsilon")
    isRootMeanSquare = name == "rms_norm"
  }

  package var name: String { isRootMeanSquare ? "rms_norm" : "layer_norm" }
  package var attributes: Attributes { ["axis": .int(axis), "epsilon": .float(epsilon)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, isRootMeanSquare ? 2...2 : 2...3)
    try expectSameDType(x)
    try expect(x[0].dtype.isFloat, x[0], operand: 0, is: "a float tensor")
    _ = try resolve(axis: axis, rank: x[0].rank)
    for (index, type) in x.enumerated().dropFirst() {
      let fits =
        type.rank <= x[0].rank
        && zip(type.shape, x[0].shape.suffix(type.rank)).allSatisfy { $0 == 1 || ($0 - $1).range.contains(0) }
      try expect(fits, type, operand: index, is: "what broadcasts to \(x[0])")
    }
    return [x[0]]
  }

  private func reduced(rank: Int) -> ReducedAxes {
    ReducedAxes(axes: Array((axis < 0 ? axis + rank : axis)..<rank), keepDims: true)
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    if shape.contains(0) { return [x[0]] }
    let scale = try broadcast(x[1], to: shape).doubles
    let bias = x.count > 2 ? try broadcast(x[2], to: shape).doubles : nil
    let reduced = reduced(rank: shape.count)
    let offsets = reduced.offsets(shape)
    let count = Double(offsets.count)
    var values = x[0].doubles
    for start in reduced.starts(shape) {
      let mean = isRootMeanSquare ? 0 : offsets.reduce(0) { $0 + values[start + $1] } / count
      let variance =
        offsets.reduce(0) { sum, offset in
          let difference = values[start + offset] - mean
          return sum + difference * difference
        } / count
      let factor = 1 / (variance + epsilon).squareRoot()
      for offset in offsets {
        let index = start + offset
        values[index] = (values[index] - mean) * factor * scale[index] + (bias?[index] ?? 0)
      }
    }
    return [HostTensor(dtype, shape, doubles: values)]
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let type = results[0]
    let shape = x[0].type.shape
    let reduced = reduced(rank: type.rank)
    let (epsilon, isRootMeanSquare) = (epsilon, isRootMeanSquare)
    return [
      Operand(type) { coordinates, arena in
        func element(_ variables: [LoopVariable]) -> Expr {
          x[0].at(reduced.source(coordinates, variables.map(\.dim), rank: shape.count), arena)
        }
        let own = x[0].at(coordinates, arena)
        let compute = arena.type(own)
        let count = arena.cast(arena.index(Dim.product(reduced.axes.map { shape[$0] })), to: compute)
        func mean(_ variables: [LoopVariable], _ body: Expr) -> Expr {
          arena.binary(.div, arena.reduce(.sum, over: variables, body), count)
        }
        var centered = own
        let inner = reduced.variables(shape, arena)
        var difference = element(inner)
        if !isRootMeanSquare {
          let outer = reduced.variables(shape, arena)
          let average = mean(outer, element(outer))
          centered = arena.binary(.sub, own, average)
          difference = arena.binary(.sub, difference, average)
        }
        let variance = mean(inner, arena.binary(.mul, difference, difference))
        let factor = arena.unary(.rsqrt, arena.binary(.add, variance, arena.constant(epsilon, compute)))
        let position = Position.coordinates(coordinates)
        let scale = x[1].broadcast(position, of: shape, arena)
        var result = arena.binary(.mul, arena.binary(.mul, centered, factor), scale)
        if x.count > 2 { result = arena.binary(.add, result, x[2].broadcast(position, of: shape, arena)) }
        return arena.cast(result, to: type.dtype)
      }
    ]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { 8 * (x.first?.tensor?.elementCount ?? 0) }

  package static let samples: [Sample] = {
    let sizes = ["B": 1...4, "N": 1...20]
    return [
      Sample(LayerNorm(axis: -1, epsilon: 1e-5), "f32[B, N]", "f32[N]", "f32[N]", where: sizes, tolerance: 1e-4),
      Sample(LayerNorm(axis: 1, epsilon: 1e-3), "f32[B, 3, N]", "f32[3, N]", where: sizes, tolerance: 1e-4),
      Sample(LayerNorm(axis: 0, epsilon: 1e-3), "f16[N]", "f16[N]", "f16[]", where: sizes, tolerance: 1e-4),
      Sample(
        LayerNorm(axis: -1, epsilon: 1e-6, isRootMeanSquare: true), "f32[B, N]", "f32[N]", where: sizes,
        tolerance: 1e-4),
      Sample(
        LayerNorm(axis: 1, epsilon: 1e-6, isRootMeanSquare: true), "bf16[B, 2, N]", "bf16[2, N]", where: sizes,
        tolerance: 1e-4),
    ]
  }()
}
