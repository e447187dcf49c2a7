package import ApusCore
import ApusGraph

/// Numpy broadcasting of symbolic shapes.
package enum Broadcasting {
  /// The dim that two dims broadcast to, or nil when they cannot.
  ///
  /// A dim that surely exceeds 1 wins; of two that may be 1 the larger.
  static func dim(_ a: Dim, _ b: Dim) -> Dim? {
    if a == b { return a }
    if a == 1 { return b }
    if b == 1 { return a }
    let difference = (a - b).range
    let mayBeEqual = difference.contains(0)
    let mayBeOne = a.range.contains(1) || b.range.contains(1)
    guard mayBeEqual || mayBeOne else { return nil }
    if a.isConstant || a.range.lower > 1 { return a }
    if b.isConstant || b.range.lower > 1 { return b }
    return Dim.maximum(a, b)
  }

  /// The shape that two shapes broadcast to, or nil when they cannot.
  package static func shape(_ a: Shape, _ b: Shape) -> Shape? {
    let rank = max(a.count, b.count)
    let wide = Shape(repeating: 1, count: rank - a.count) + a
    let other = Shape(repeating: 1, count: rank - b.count) + b
    let dims = zip(wide, other).compactMap { dim($0, $1) }
    return dims.count == rank ? dims : nil
  }

  /// For each element of `target`, the linear index of the element of `source` that it comes from; nil when `source`
  /// does not broadcast to `target`.
  static func indices(from source: [Int], to target: [Int]) -> [Int]? {
    guard source.count <= target.count else { return nil }
    let strides = HostTensor.strides(of: source)
    let extra = target.count - source.count
    var steps = [Int](repeating: 0, count: target.count)
    for (axis, size) in source.enumerated() where size != 1 {
      if size != target[extra + axis] { return nil }
      steps[extra + axis] = strides[axis]
    }
    return IndexMap.strided(shape: target, strides: steps)
  }
}

extension Operation {
  /// The shape that all operands broadcast to.
  func broadcastShape(_ x: [TensorType]) throws(ShapeError) -> Shape {
    var shape = x.first?.shape ?? []
    for type in x.dropFirst() {
      guard let wider = Broadcasting.shape(shape, type.shape) else {
        let shapes = x.map(\.description).joined(separator: " and ")
        throw shapeError("APUS-S-0014", "shapes do not broadcast: \(shapes)")
      }
      shape = wider
    }
    return shape
  }

  /// The operand repeated to a shape that it broadcasts to.
  func broadcast(_ x: HostTensor, to shape: [Int]) throws(EvaluationError) -> HostTensor {
    if x.shape == shape { return x }
    guard let indices = Broadcasting.indices(from: x.shape, to: shape) else {
      throw evaluationError("APUS-V-0005", "\(x.type) does not broadcast to \(shape)")
    }
    return x.gathering(indices, shape: shape)
  }

  /// Known sizes repeated like the operand's elements.
  func broadcast(_ dims: [Dim]?, _ type: TensorType, to shape: Shape) -> [Dim]? {
    guard let dims, let source = type.constantShape, let target = TensorType(type.dtype, shape).constantShape,
      let indices = Broadcasting.indices(from: source, to: target), indices.allSatisfy(dims.indices.contains)
    else { return nil }
    return indices.map { dims[$0] }
  }
}
