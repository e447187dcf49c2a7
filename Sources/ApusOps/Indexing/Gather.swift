package import ApusCore
package import ApusGraph
package import ApusKernel

/// Takes slices of x along one axis: y[a…, i…, b…] = x[a…, indices[i…], b…].
///
/// - Shapes: x `[a…, n, b…]`, indices any shape → y `[a…, indices.shape…, b…]`.
/// - Types: x any; indices i64 or i32, negative values count from the end.
/// - Throws: ``EvaluationError`` `APUS-V-0201` for an index outside −n ..< n. A compiled kernel clamps instead.
/// - Source: ONNX Gather-13.
package struct Gather: TensorOperation {
  package let axis: Int

  package init(axis: Int) { self.axis = axis }

  package init(name: String, attributes: Attributes) throws(GraphError) { axis = try attributes.int("axis") }

  package var name: String { "gather" }
  package var attributes: Attributes { ["axis": .int(axis)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 2...2)
    try expectAxis(axis, rank: x[0].rank)
    try expectIndices(x[1], "indices")
    return [x[0].with(shape: Array(x[0].shape[..<axis]) + x[1].shape + Array(x[0].shape[(axis + 1)...]))]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (_, shape) = try resultType(for: x)
    return [x[0].gathering(try sources(x[0].shape, x[1].ints), shape: shape)]
  }

  package func dims(_ x: [[Dim]?], _ types: [TensorType]) -> [[Dim]?]? {
    guard let data = x[0], let shape = types[0].constantShape, let indices = knownInts(x[1]),
      let sources = try? sources(shape, indices), sources.allSatisfy({ data.indices.contains($0) })
    else { return nil }
    return [sources.map { data[$0] }]
  }

  private func sources(_ shape: [Int], _ indices: [Int]) throws(EvaluationError) -> [Int] {
    let split = AxisSplit(shape, axis: axis)
    var rows: [Int] = []
    rows.reserveCapacity(indices.count)
    for index in indices { rows.append(try normalized(index, split.count)) }
    var sources: [Int] = []
    sources.reserveCapacity(split.outer * rows.count * split.inner)
    for outer in 0..<split.outer {
      for row in rows {
        let start = (outer * split.count + row) * split.inner
        sources.append(contentsOf: start..<start + split.inner)
      }
    }
    return sources
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let (data, indices) = (x[0], x[1])
    return [
      Operand(results[0]) { coordinates, arena in
        let index = indices.at(Array(coordinates[axis..<axis + indices.type.rank]), arena)
        let row = arena.coordinate(index, in: data.type.shape[axis])
        return data.at(Array(coordinates[..<axis]) + [row] + Array(coordinates[(axis + indices.type.rank)...]), arena)
      }
    ]
  }
}

/// Takes one element per index: y[…, i, …] = x[…, indices[…, i, …], …] with the index along one axis.
///
/// - Shapes: x and indices of equal rank, indices no larger than x off the axis → y of indices' shape.
/// - Types: x any; indices i64 or i32, negative values count from the end.
/// - Throws: ``EvaluationError`` `APUS-V-0201` for an index outside the axis. A compiled kernel clamps instead.
/// - Source: ONNX GatherElements-13.
package struct GatherElements: TensorOperation {
  package let axis: Int

  package init(axis: Int) { self.axis = axis }

  package init(name: String, attributes: Attributes) throws(GraphError) { axis = try attributes.int("axis") }

  package var name: String { "gather_elements" }
  package var attributes: Attributes { ["axis": .int(axis)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 2...2)
    try expectAxis(axis, rank: x[0].rank)
    try expectIndices(x[1], "indices")
    guard x[0].rank == x[1].rank else {
      throw shapeError("APUS-S-0202", "x and indices have different ranks: \(x[0]) and \(x[1])")
    }
    return [x[1].with(dtype: x[0].dtype)]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    let targets = try elementTargets(x[0].shape, x[1].shape, x[1].ints, axis: axis)
    return [x[0].gathering(targets, shape: x[1].shape)]
  }

  package func dims(_ x: [[Dim]?], _ types: [TensorType]) -> [[Dim]?]? {
    guard let data = x[0], let shape = types[0].constantShape, let indexShape = types[1].constantShape,
      let indices = knownInts(x[1]),
      let sources = try? elementTargets(shape, indexShape, indices, axis: axis),
      sources.allSatisfy({ data.indices.contains($0) })
    else { return nil }
    return [sources.map { data[$0] }]
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let (data, indices) = (x[0], x[1])
    return [
      Operand(results[0]) { coordinates, arena in
        var source = coordinates
        source[axis] = arena.coordinate(indices.at(coordinates, arena), in: data.type.shape[axis])
        return data.at(source, arena)
      }
    ]
  }
}

/// Takes slices of x at coordinates: y[b…, i…, s…] = x[b…, indices[b…, i…, :]…, s…].
///
/// - Shapes: x `[b…, d…, s…]`, indices `[b…, i…, k]` with k constant = count of d → y `[b…, i…, s…]`.
/// - Types: x any; indices i64 or i32, negative values count from the end.
/// - Throws: ``EvaluationError`` `APUS-V-0201` for an index outside its axis. A compiled kernel clamps instead.
/// - Source: ONNX GatherND-13.
package struct GatherND: TensorOperation {
  package let batchDims: Int

  package init(batchDims: Int) { self.batchDims = batchDims }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    batchDims = try attributes.int("batch_dims")
  }

  package var name: String { "gather_nd" }
  package var attributes: Attributes { ["batch_dims": .int(batchDims)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 2...2)
    try expectIndices(x[1], "indices")
    guard batchDims >= 0, x[1].rank > batchDims, let last = x[1].shape.last else {
      throw shapeError("APUS-S-0202", "indices \(x[1]) have too low a rank for batch_dims \(batchDims)")
    }
    let width = try expectConstant(last, "the last dim of indices")
    guard width <= x[0].rank - batchDims else {
      throw shapeError("APUS-S-0205", "indices \(x[1]) address more than the \(x[0].rank - batchDims) dims of \(x[0])")
    }
    for axis in 0..<batchDims { try expectEqual(x[0].shape[axis], x[1].shape[axis], "batch dim \(axis)") }
    return [x[0].with(shape: Array(x[1].shape.dropLast()) + Array(x[0].shape[(batchDims + width)...]))]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    let (starts, block) = try sliceStarts(x[0].shape, x[1].shape, x[1].ints, batchDims: batchDims)
    var sources: [Int] = []
    sources.reserveCapacity(starts.count * block)
    for start in starts { sources.append(contentsOf: start..<start + block) }
    let width = x[1].shape.last ?? 0
    return [
      x[0].gathering(sources, shape: Array(x[1].shape.dropLast()) + Array(x[0].shape[(batchDims + width)...]))
    ]
  }

  package func dims(_ x: [[Dim]?], _ types: [TensorType]) -> [[Dim]?]? {
    guard let data = x[0], let shape = types[0].constantShape, let indexShape = types[1].constantShape,
      let indices = knownInts(x[1]),
      let (starts, block) = try? sliceStarts(shape, indexShape, indices, batchDims: batchDims),
      starts.allSatisfy({ $0 + block <= data.count })
    else { return nil }
    return [starts.flatMap { data[$0..<$0 + block] }]
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let (data, indices) = (x[0], x[1])
    let outer = indices.type.rank - 1
    guard let width = indices.type.shape.last?.constantValue else { return nil }
    return [
      Operand(results[0]) { coordinates, arena in
        var source = Array(coordinates[..<batchDims])
        for position in 0..<width {
          let index = indices.at(Array(coordinates[..<outer]) + [Dim(position)], arena)
          source.append(arena.coordinate(index, in: data.type.shape[batchDims + position]))
        }
        return data.at(source + Array(coordinates[outer...]), arena)
      }
    ]
  }
}

// MARK: Index arithmetic shared with the scatter operations

extension Operation {
  /// An index with negatives counted from the end.
  func normalized(_ index: Int, _ size: Int) throws(EvaluationError) -> Int {
    let position = index < 0 ? index + size : index
    guard position >= 0 && position < size else {
      throw evaluationError("APUS-V-0201", "index \(index) is outside -\(size) ..< \(size)")
    }
    return position
  }

  /// Linear positions in a tensor of `shape` that element-wise indices along `axis` address.
  func elementTargets(
    _ shape: [Int], _ indexShape: [Int], _ indices: [Int], axis: Int
  ) throws(EvaluationError) -> [Int] {
    for (position, size) in indexShape.enumerated() where position != axis && size > shape[position] {
      throw evaluationError("APUS-V-0202", "indices \(indexShape) are larger than \(shape) at dim \(position)")
    }
    let strides = HostTensor.strides(of: shape)
    var targets: [Int] = []
    targets.reserveCapacity(indices.count)
    var coordinate = [Int](repeating: 0, count: shape.count)
    for index in indices {
      var target = try normalized(index, shape[axis]) * strides[axis]
      for (position, value) in coordinate.enumerated() where position != axis { target += value * strides[position] }
      targets.append(target)
      for position in coordinate.indices.reversed() {
        coordinate[position] += 1
        if coordinate[position] < indexShape[position] { break }
        coordinate[position] = 0
      }
    }
    return targets
  }

  /// Where the slices begin that coordinate tuples address, and their length in elements.
  func sliceStarts(
    _ shape: [Int], _ indexShape: [Int], _ indices: [Int], batchDims: Int
  ) throws(EvaluationError) -> (starts: [Int], block: Int) {
    let width = indexShape.last ?? 0
    guard batchDims + width <= shape.count, batchDims < indexShape.count else {
      throw evaluationError("APUS-V-0202", "indices \(indexShape) do not address \(shape)")
    }
    guard indexShape[..<batchDims] == shape[..<batchDims] else {
      throw evaluationError("APUS-V-0202", "batch dims differ: \(shape) and \(indexShape)")
    }
    let strides = HostTensor.strides(of: shape)
    let block = shape[(batchDims + width)...].reduce(1, saturatingMultiply)
    let batches = shape[..<batchDims].reduce(1, saturatingMultiply)
    let perBatch = indexShape[batchDims..<indexShape.count - 1].reduce(1, saturatingMultiply)
    let batchStride = shape[batchDims...].reduce(1, saturatingMultiply)
    var starts: [Int] = []
    var cursor = 0
    for batch in 0..<batches {
      for _ in 0..<perBatch {
        var start = batch * batchStride
        for position in 0..<width {
          let axis = batchDims + position
          start += try normalized(indices[cursor], shape[axis]) * strides[axis]
          cursor += 1
        }
        starts.append(start)
      }
    }
    return (starts, block)
  }
}
