package import ApusCore
package import ApusGraph
package import ApusKernel

/// Permutes the axes: axis i of the result is axis `perm[i]` of the operand.
///
/// - Source: ONNX Transpose-21.
package struct Transpose: MovementOperation {
  package let permutation: [Int]

  package init(_ permutation: [Int]) { self.permutation = permutation }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    permutation = try attributes.ints("perm")
    guard permutation.sorted() == Array(permutation.indices) else {
      throw GraphError("APUS-G-0020", "transpose: perm \(permutation) is not a permutation")
    }
  }

  package var name: String { "transpose" }
  package var attributes: Attributes { ["perm": .ints(permutation)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    guard permutation.sorted() == Array(x[0].shape.indices) else {
      throw shapeError("APUS-S-0021", "perm \(permutation) does not permute the axes of \(x[0])")
    }
    return [x[0].with(shape: permutation.map { x[0].shape[$0] })]
  }

  func sourceIndices(_ shape: [Int]) -> [Int] {
    let strides = HostTensor.strides(of: shape)
    return IndexMap.strided(shape: permutation.map { shape[$0] }, strides: permutation.map { strides[$0] })
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    if results[0].dtype == .string { return nil }
    let permutation = permutation
    return [
      Operand(results[0]) { coordinates, arena in
        var source = coordinates
        for (axis, from) in permutation.enumerated() { source[from] = coordinates[axis] }
        return x[0].at(source, arena)
      }
    ]
  }

  package static let samples = [
    Sample(Transpose([1, 0]), "f32[A, B]", where: ["A": 1...5, "B": 1...7]),
    Sample(Transpose([2, 0, 1]), "i8[A, B, 3]", where: ["A": 1...5, "B": 1...7]),
    Sample(Transpose([]), "f32[]"),
    Sample(Transpose([1, 0]), "string[A, 2]", where: ["A": 1...4]),
  ]
}
