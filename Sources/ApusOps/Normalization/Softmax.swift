package import ApusCore
package import ApusGraph
package import ApusKernel

/// Computes softmax along one axis: y = exp(x − max x) / Σ exp(x − max x).
///
/// - Shapes: any; the axis lies in −rank … rank−1.
/// - Types: floats; f16 and bf16 are computed in f32.
/// - Numerics: a row of −∞ only gives NaN.
/// - Source: ONNX Softmax-13.
package struct Softmax: TensorOperation {
  package let axis: Int

  package init(axis: Int) { self.axis = axis }

  package init(name: String, attributes: Attributes) throws(GraphError) { axis = try attributes.int("axis") }

  package var name: String { "softmax" }
  package var attributes: Attributes { ["axis": .int(axis)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    try expect(x[0].dtype.isFloat, x[0], operand: 0, is: "a float tensor")
    _ = try resolve(axis: axis, rank: x[0].rank)
    return x
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    if shape.contains(0) { return x }
    let reduced = ReducedAxes(axes: [axis < 0 ? axis + shape.count : axis], keepDims: false)
    var values = x[0].doubles
    let offsets = reduced.offsets(shape)
    for start in reduced.starts(shape) {
      let largest = offsets.reduce(-.infinity) { ScalarFunction.max.evaluate($0, values[start + $1]) }
      var sum = 0.0
      for offset in offsets {
        values[start + offset] = ScalarFunction.exp.evaluate(values[start + offset] - largest)
        sum += values[start + offset]
      }
      for offset in offsets { values[start + offset] /= sum }
    }
    return [HostTensor(dtype, shape, doubles: values)]
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let type = results[0]
    let axis = axis < 0 ? axis + type.rank : axis
    return [
      Operand(type) { coordinates, arena in
        func element(_ position: Dim) -> Expr {
          var source = coordinates
          source[axis] = position
          return x[0].at(source, arena)
        }
        let first = arena.makeVariable(type.shape[axis])
        let second = arena.makeVariable(type.shape[axis])
        let largest = arena.reduce(.max, over: [first], element(first.dim))
        func shifted(_ position: Dim) -> Expr { arena.unary(.exp, arena.binary(.sub, element(position), largest)) }
        let sum = arena.reduce(.sum, over: [second], shifted(second.dim))
        return arena.cast(arena.binary(.div, shifted(coordinates[axis]), sum), to: type.dtype)
      }
    ]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { 12 * (x.first?.tensor?.elementCount ?? 0) }

  package static let samples = [
    Sample(Softmax(axis: -1), "f32[B, N]", where: ["B": 1...4, "N": 1...40]),
    Sample(Softmax(axis: 1), "f16[B, N, 3]", where: ["B": 1...4, "N": 1...20]),
    Sample(Softmax(axis: 0), "f64[N]", where: ["N": 1...20], values: [0: -800...800]),
  ]
}
