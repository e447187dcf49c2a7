package import ApusCore

/// A matrix product of tensors as batches of products of matrices.
package struct MatmulForm {
  package var batches: Dim
  package var rows: Dim
  package var columns: Dim
  package var depth: Dim
  /// Elements from one batch to the next; 0 shares one matrix.
  package var aStride: Dim
  package var bStride: Dim

  /// Nil when batch dims broadcast in both directions.
  package init?(_ a: TensorType, _ b: TensorType) {
    guard a.rank >= 2, b.rank >= 2 else { return nil }
    (depth, columns) = (a.shape[a.rank - 1], b.shape[b.rank - 1])
    let (aBatch, bBatch) = (Array(a.shape.dropLast(2)), Array(b.shape.dropLast(2)))
    rows = a.shape[a.rank - 2]
    (batches, aStride, bStride) = (1, 0, 0)
    if bBatch.allSatisfy({ $0 == 1 }), bBatch.count <= aBatch.count || aBatch.isEmpty {
      rows = Dim.product(aBatch) * rows
      return
    }
    batches = Dim.product(bBatch)
    bStride = depth * columns
    if aBatch == bBatch {
      aStride = rows * depth
    } else if !aBatch.allSatisfy({ $0 == 1 }) || aBatch.count > bBatch.count {
      return nil
    }
  }
}
