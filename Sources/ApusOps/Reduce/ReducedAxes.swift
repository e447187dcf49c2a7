import ApusCore
import ApusKernel

/// Which axes of a tensor a reduction runs over, and the walks that follow from it.
struct ReducedAxes {
  /// Sorted, counted from the front.
  let axes: [Int]
  let keepDims: Bool

  func resultShape<Size: ExpressibleByIntegerLiteral>(_ shape: [Size]) -> [Size] {
    shape.indices.compactMap { axes.contains($0) ? (keepDims ? 1 : nil) : shape[$0] }
  }

  /// Linear indices of the first element of every reduced set, in the result's order.
  func starts(_ shape: [Int]) -> [Int] {
    let strides = HostTensor.strides(of: shape)
    let kept = shape.indices.filter { !axes.contains($0) }
    return IndexMap.strided(shape: kept.map { shape[$0] }, strides: kept.map { strides[$0] })
  }

  /// Offsets of the elements of a reduced set from its first one.
  func offsets(_ shape: [Int]) -> [Int] {
    let strides = HostTensor.strides(of: shape)
    return IndexMap.strided(shape: axes.map { shape[$0] }, strides: axes.map { strides[$0] })
  }

  /// The operand's coordinates for a result's coordinates and the positions along the reduced axes.
  func source(_ coordinates: [Dim], _ inner: [Dim], rank: Int) -> [Dim] {
    var outer = coordinates.makeIterator()
    var reduced = inner.makeIterator()
    return (0..<rank).map { axis in
      if !axes.contains(axis) { return outer.next() ?? 0 }
      if keepDims { _ = outer.next() }
      return reduced.next() ?? 0
    }
  }

  func variables(_ shape: Shape, _ arena: ExprArena) -> [LoopVariable] { axes.map { arena.makeVariable(shape[$0]) } }
}
