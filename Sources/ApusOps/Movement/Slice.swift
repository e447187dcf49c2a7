package import ApusCore
package import ApusGraph
package import ApusKernel

/// Takes `sizes[i]` elements along each axis, from `starts[i]` on in steps of `steps[i]`.
///
/// - Shapes: one start, size and step per axis; starts and the last positions lie inside the operand. Steps may be
///   negative.
/// - Source: ONNX Slice-13 with starts and ends resolved.
package struct Slice: MovementOperation {
  package let starts: [Dim]
  package let sizes: [Dim]
  package let steps: [Int]

  package init(starts: [Dim], sizes: [Dim], steps: [Int]) {
    self.starts = starts
    self.sizes = sizes
    self.steps = steps
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    starts = try attributes.dims("starts")
    sizes = try attributes.dims("sizes")
    steps = try attributes.ints("steps")
  }

  package var name: String { "slice" }
  package var attributes: Attributes { ["starts": .dims(starts), "sizes": .dims(sizes), "steps": .ints(steps)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    let rank = x[0].rank
    guard starts.count == rank, sizes.count == rank, steps.count == rank else {
      throw shapeError("APUS-S-0023", "\(x[0]) needs \(rank) starts, sizes and steps")
    }
    for axis in 0..<rank {
      let last = starts[axis] + (sizes[axis] - 1) * Dim(steps[axis])
      let isEmpty = sizes[axis].range.contains(0)
      let reaches = [starts[axis], last].contains { $0.range.upper < 0 || (x[0].shape[axis] - $0).range.upper < 1 }
      if sizes[axis].range.upper < 0 || steps[axis] == 0 || (reaches && !isEmpty) {
        throw shapeError(
          "APUS-S-0024",
          "axis \(axis) of \(x[0]) has no \(sizes[axis]) elements from \(starts[axis]) in steps of \(steps[axis])")
      }
    }
    return [x[0].with(shape: sizes)]
  }

  func sourceIndices(_ shape: [Int]) throws(EvaluationError) -> [Int] {
    let starts = try constants(starts)
    let sizes = try constants(sizes)
    if sizes.contains(0) { return [] }
    var offset = 0
    let strides = HostTensor.strides(of: shape)
    for axis in shape.indices {
      let last = saturatingAdd(starts[axis], saturatingMultiply(sizes[axis] - 1, steps[axis]))
      guard (0..<shape[axis]).contains(starts[axis]), (0..<shape[axis]).contains(last) else {
        throw evaluationError("APUS-V-0020", "the slice reaches outside axis \(axis) of size \(shape[axis])")
      }
      offset += starts[axis] * strides[axis]
    }
    return IndexMap.strided(shape: sizes, strides: zip(strides, steps).map(*), offset: offset)
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    if results[0].dtype == .string { return nil }
    let (starts, steps) = (starts, steps)
    if results[0].shape == x[0].type.shape, steps.allSatisfy({ $0 == 1 }) { return x }
    return [
      Operand(results[0]) { coordinates, arena in
        x[0].at(coordinates.indices.map { starts[$0] + coordinates[$0] * Dim(steps[$0]) }, arena)
      }
    ]
  }

  package static let samples: [Sample] = {
    let a = Dim(Symbol("A", Interval(2, 6)))
    return [
      Sample(Slice(starts: [1, 0], sizes: [a - 1, 3], steps: [1, 2]), "f32[A, 5]", where: ["A": 2...6]),
      Sample(Slice(starts: [a - 1, 4], sizes: [a, 2], steps: [-1, -2]), "i32[A, 5]", where: ["A": 2...6]),
      Sample(Slice(starts: [0, 0], sizes: [a, 0], steps: [1, 1]), "f32[A, 5]", where: ["A": 2...6]),
    ]
  }()
}
