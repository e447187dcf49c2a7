package import ApusCore
package import ApusGraph
package import ApusKernel

/// Makes the sampling grid of an affine map, for ``GridSample``.
///
/// - Shapes: theta `[N, k, k + 1]` → `[N, sizes…, k]` with k spatial sizes, coordinates with the last axis first.
/// - Types: a float type.
/// - Source: ONNX AffineGrid-20.
package struct AffineGrid: TensorOperation {
  package let sizes: [Dim]
  package let alignCorners: Bool

  package init(sizes: [Dim], alignCorners: Bool) {
    self.sizes = sizes
    self.alignCorners = alignCorners
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    sizes = try attributes.dims("sizes")
    alignCorners = try attributes.bool("align_corners")
  }

  package var name: String { "affine_grid" }
  package var attributes: Attributes { ["sizes": .dims(sizes), "align_corners": .bool(alignCorners)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    try expectRank(x[0], 3...3, "theta")
    try expectFloat(x[0], "theta")
    try expectEqual(x[0].shape[1], Dim(sizes.count), "rows of theta and spatial axes")
    try expectEqual(x[0].shape[2], Dim(sizes.count + 1), "columns of theta")
    return [x[0].with(shape: [x[0].shape[0]] + sizes + [Dim(sizes.count)])]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    guard let sizes = knownInts(sizes), sizes.allSatisfy({ $0 >= 0 }), x[0].shape[1] == sizes.count else {
      throw evaluationError("APUS-V-0202", "sizes \(self.sizes) are not known")
    }
    try checkSize([x[0].shape[0]] + sizes + [sizes.count])
    let (rows, columns) = (sizes.count, sizes.count + 1)
    let theta = x[0].doubles
    var result: [Double] = []
    for batch in 0..<x[0].shape[0] {
      forEachCoordinate(sizes) { coordinate in
        for row in 0..<rows {
          let start = (batch * rows + row) * columns
          var sum = theta[start + rows]
          for column in 0..<rows {
            let axis = rows - 1 - column
            let (position, size) = (Double(coordinate[axis]), Double(sizes[axis]))
            let base = alignCorners ? 2 * position / max(size - 1, 1) - 1 : (2 * position + 1) / size - 1
            sum += theta[start + column] * base
          }
          result.append(sum)
        }
      }
    }
    return [HostTensor(x[0].dtype, [x[0].shape[0]] + sizes + [rows], doubles: result)]
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let theta = x[0]
    let count = sizes.count
    let work: DType = theta.type.dtype == .f64 ? .f64 : .f32
    return [
      Operand(results[0]) { coordinates, arena in
        let real = { (value: Double) in arena.constant(value, work) }
        let cast = { (dim: Dim) in arena.cast(arena.index(dim), to: work) }
        let (batch, row) = (coordinates[0], coordinates[count + 1])
        let at = { (column: Int) in arena.cast(theta.at([batch, row, Dim(column)], arena), to: work) }
        var sum = at(count)
        for column in 0..<count {
          let axis = count - 1 - column
          let (position, size) = (coordinates[axis + 1], sizes[axis])
          let part =
            alignCorners
            ? arena.binary(.div, cast(position * 2), cast(Dim.maximum(size - 1, 1)))
            : arena.binary(.div, cast(position * 2 + 1), cast(size))
          let base = arena.binary(.sub, part, real(1))
          sum = arena.binary(.add, sum, arena.binary(.mul, at(column), base))
        }
        return arena.cast(sum, to: theta.type.dtype)
      }
    ]
  }
}
