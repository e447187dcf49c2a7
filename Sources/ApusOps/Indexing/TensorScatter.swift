package import ApusCore
package import ApusGraph
package import ApusKernel

/// Writes a run of slices into a cache, for every batch from its own position on along one axis.
///
/// - Shapes: cache `[B, …, T, …]`, update `[B, …, S, …]` with S ≤ T at `axis`, positions `[B]` → y of cache's shape.
/// - Types: cache and update any, equal; positions i64 or i32.
/// - Numerics: `circular` wraps positions around T; else slices outside the cache are an error of the caller, which a
///   compiled kernel drops.
/// - Source: ONNX TensorScatter-24.
package struct TensorScatter: TensorOperation {
  package let axis: Int
  package let circular: Bool

  package init(axis: Int, circular: Bool = false) {
    self.axis = axis
    self.circular = circular
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    axis = try attributes.int("axis")
    circular = try attributes.bool("circular")
  }

  package var name: String { "tensor_scatter" }
  package var attributes: Attributes { ["axis": .int(axis), "circular": .bool(circular)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 3...3)
    try expectAxis(axis, rank: x[0].rank)
    try expectSameDType([x[0], x[1]])
    try expectIndices(x[2], "positions")
    guard axis > 0, x[1].rank == x[0].rank, x[2].rank == 1 else {
      throw shapeError("APUS-S-0202", "cache \(x[0]), update \(x[1]) and positions \(x[2]) do not fit")
    }
    for position in 0..<x[0].rank where position != axis {
      try expectEqual(x[0].shape[position], x[1].shape[position], "dim \(position) of cache and update")
    }
    try expectEqual(x[0].shape[0], x[2].shape[0], "batch and positions")
    return [x[0]]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    let positions = x[2].ints
    let cache = AxisSplit(x[0].shape, axis: axis)
    let update = AxisSplit(x[1].shape, axis: axis)
    guard cache.outer == update.outer, cache.inner == update.inner, positions.count == x[0].shape[0],
      update.count <= cache.count
    else { throw evaluationError("APUS-V-0202", "update \(x[1].shape) does not fit cache \(x[0].shape)") }
    let perBatch = cache.outer / max(positions.count, 1)
    var starts: [Int] = []
    for outer in 0..<cache.outer {
      for step in 0..<update.count {
        let (position, overflow) = positions[outer / perBatch].addingReportingOverflow(step)
        let target = circular && !overflow ? saturatingModulo(position, cache.count) : position
        guard !overflow, target >= 0, target < cache.count else {
          throw evaluationError("APUS-V-0201", "position \(position) is outside 0 ..< \(cache.count)")
        }
        starts.append((outer * cache.count + target) * cache.inner)
      }
    }
    return [ScatterReduction.none.scatter(x[0], x[1], starts: starts, block: cache.inner)]
  }

  private func saturatingModulo(_ value: Int, _ divisor: Int) -> Int {
    let rest = value % max(divisor, 1)
    return rest < 0 ? rest + divisor : rest
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let (cache, update, positions) = (x[0], x[1], x[2])
    let (total, run) = (cache.type.shape[axis], update.type.shape[axis])
    return [
      Operand(results[0]) { coordinates, arena in
        let start = arena.cast(positions.at([coordinates[0]], arena), to: .i64)
        var step = arena.binary(.sub, arena.index(coordinates[axis]), start)
        if circular { step = arena.binary(.floor_mod, step, arena.index(total)) }
        let isLate = arena.binary(.less, step, arena.constant(Int64(0), .i64))
        let isEarly = arena.binary(.greater_equal, step, arena.index(run))
        var source = coordinates
        source[axis] = arena.clamped(step, in: run)
        let isKept = arena.binary(.or, isLate, isEarly)
        return arena.select(isKept, cache.at(coordinates, arena), update.at(source, arena))
      }
    ]
  }
}
