package import ApusCore
package import ApusGraph
package import ApusKernel

/// Repeats the whole tensor along each axis.
///
/// - Source: ONNX Tile-13.
package struct Tile: MovementOperation {
  package let repeats: [Dim]

  package init(repeats: [Dim]) { self.repeats = repeats }

  package init(name: String, attributes: Attributes) throws(GraphError) { repeats = try attributes.dims("repeats") }

  package var name: String { "tile" }
  package var attributes: Attributes { ["repeats": .dims(repeats)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    guard repeats.count == x[0].rank, repeats.allSatisfy({ $0.range.upper >= 0 }) else {
      throw shapeError("APUS-S-0028", "\(x[0]) needs \(x[0].rank) repeats of at least 0, not \(repeats)")
    }
    return [x[0].with(shape: zip(x[0].shape, repeats).map(*))]
  }

  func sourceIndices(_ shape: [Int]) throws(EvaluationError) -> [Int] {
    let repeats = try constants(repeats)
    let strides = HostTensor.strides(of: shape)
    let tables = shape.indices.map { axis in
      (0..<shape[axis] * repeats[axis]).map { $0 % shape[axis] * strides[axis] }
    }
    return IndexMap.combining(tables)
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    if results[0].dtype == .string { return nil }
    let repeats = repeats
    let shape = x[0].type.shape
    return [
      Operand(results[0]) { coordinates, arena in
        let source = coordinates.indices.map { axis in
          repeats[axis] == 1 ? coordinates[axis] : arena.remainder(coordinates[axis], shape[axis])
        }
        return x[0].at(source, arena)
      }
    ]
  }

  package static let samples = [
    Sample(Tile(repeats: [2, 1]), "f32[A, 3]", where: ["A": 1...4]),
    Sample(Tile(repeats: [1, Dim(Symbol("B"))]), "i64[A, 2]", where: ["A": 1...4, "B": 0...3]),
  ]
}
