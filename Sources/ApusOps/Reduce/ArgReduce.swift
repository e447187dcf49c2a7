package import ApusCore
package import ApusGraph
package import ApusKernel

/// Finds where along an axis the smallest or largest element is.
///
/// - Shapes: the axis becomes 1 with `keep_dims`, else it vanishes; it must not be empty.
/// - Types: numeric or bool → i64.
/// - Numerics: the first of equal extremes, the last with `select_last`; a NaN counts as more extreme than any number.
/// - Source: ONNX ArgMax-13, ArgMin-13.
package struct ArgReduce: TensorOperation {
  package let isMaximum: Bool
  package let axis: Int
  package let keepDims: Bool
  package let selectLast: Bool

  package init(isMaximum: Bool, axis: Int, keepDims: Bool, selectLast: Bool = false) {
    self.isMaximum = isMaximum
    self.axis = axis
    self.keepDims = keepDims
    self.selectLast = selectLast
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    isMaximum = name == "argmax"
    axis = try attributes.int("axis")
    keepDims = try attributes.bool("keep_dims")
    selectLast = try attributes.bool("select_last")
  }

  package var name: String { isMaximum ? "argmax" : "argmin" }
  package var attributes: Attributes {
    ["axis": .int(axis), "keep_dims": .bool(keepDims), "select_last": .bool(selectLast)]
  }

  private func reduced(rank: Int) throws(ShapeError) -> ReducedAxes {
    ReducedAxes(axes: [try resolve(axis: axis, rank: rank)], keepDims: keepDims)
  }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    try expect(x[0].dtype != .string, x[0], operand: 0, is: "a numeric tensor")
    let reduced = try reduced(rank: x[0].rank)
    if x[0].shape[reduced.axes[0]] == 0 { throw shapeError("APUS-S-0031", "\(x[0]) is empty along axis \(axis)") }
    return [TensorType(.i64, reduced.resultShape(x[0].shape))]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (_, shape) = try resultType(for: x)
    guard let reduced = try? reduced(rank: x[0].rank) else { return [] }
    let starts = shape.contains(0) ? [] : reduced.starts(x[0].shape)
    let offsets = reduced.offsets(x[0].shape)
    let results: [Int64]
    if x[0].dtype.isFloat {
      let values = x[0].doubles
      results = starts.map { start in
        winner(offsets) { a, b in
          let (first, second) = (values[start + a], values[start + b])
          return !second.isNaN && (first.isNaN || (isMaximum ? first > second : first < second))
        }
      }
    } else {
      let values = x[0].int64s
      let function: ScalarFunction = isMaximum ? .greater : .less
      let dtype = x[0].dtype
      results = starts.map { start in
        winner(offsets) { function.evaluate(values[start + $0], values[start + $1], as: dtype) != 0 }
      }
    }
    return [HostTensor(.i64, shape, int64s: results)]
  }

  /// The position whose element no other precedes, by a strict order of offsets.
  private func winner(_ offsets: [Int], _ precedes: (Int, Int) -> Bool) -> Int64 {
    var best = 0
    for position in offsets.indices.dropFirst() {
      let isBetter = precedes(offsets[position], offsets[best])
      if isBetter || (selectLast && !precedes(offsets[best], offsets[position])) { best = position }
    }
    return Int64(best)
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let source = x[0].type
    guard let reduced = try? reduced(rank: source.rank) else { return nil }
    let reduction: Reduction = isMaximum ? .argmax : .argmin
    let (selectLast, end) = (selectLast, source.shape[reduced.axes[0]] - 1)
    return [
      Operand(results[0]) { coordinates, arena in
        let variables = reduced.variables(source.shape, arena)
        // The last of equal elements is the first from the other end.
        let inner = variables.map { selectLast ? end - $0.dim : $0.dim }
        let element = x[0].at(reduced.source(coordinates, inner, rank: source.rank), arena)
        let position = arena.reduce(reduction, over: variables, element)
        return selectLast ? arena.binary(.sub, arena.index(end), position) : position
      }
    ]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { x.first?.tensor?.elementCount ?? 0 }

  package static let samples: [Sample] = [true, false].flatMap { isMaximum in
    [
      Sample(ArgReduce(isMaximum: isMaximum, axis: 1, keepDims: true), "f32[A, B]", where: ["A": 1...4, "B": 1...20]),
      Sample(ArgReduce(isMaximum: isMaximum, axis: 0, keepDims: false), "i8[A, 7]", where: ["A": 1...9]),
      Sample(
        ArgReduce(isMaximum: isMaximum, axis: -2, keepDims: false, selectLast: true), "i64[A, 9, 2]",
        where: ["A": 1...3]),
      Sample(ArgReduce(isMaximum: isMaximum, axis: 0, keepDims: false), "u64[12]"),
    ]
  }
}
