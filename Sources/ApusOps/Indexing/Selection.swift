package import ApusCore
package import ApusGraph
package import ApusKernel

/// Lists the coordinates of all elements that are not zero, in row-major order.
///
/// - Shapes: x of rank r → `[r, count]`; `count` is a symbol that the operation sets.
/// - Types: x numeric, bool or string (the empty string is zero); result i64.
/// - Source: ONNX NonZero-13.
package struct NonZero: TensorOperation {
  package let count: Dim

  package init(count: Dim) { self.count = count }

  package init(name: String, attributes: Attributes) throws(GraphError) { count = try attributes.dim("count") }

  package var name: String { "nonzero" }
  package var attributes: Attributes { ["count": .dim(count)] }
  package var boundSymbols: [Symbol] { Self.symbols([count]) }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    return [TensorType(.i64, [Dim(x[0].rank), count])]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    let found = truePositions(x[0])
    let (rank, strides) = (x[0].rank, x[0].strides)
    var coordinates = [Int64](repeating: 0, count: rank * found.count)
    for (column, position) in found.enumerated() {
      for axis in 0..<rank {
        coordinates[axis * found.count + column] = Int64(position / strides[axis] % x[0].shape[axis])
      }
    }
    return [HostTensor(.i64, [rank, found.count], elements: coordinates)]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { x[0].tensor?.elementCount ?? 0 }
}

/// Linear positions of the elements that are not zero.
private func truePositions(_ x: HostTensor) -> [Int] {
  if x.dtype == .string { return x.strings.indices.filter { !x.strings[$0].isEmpty } }
  if x.dtype.isFloat {
    let values = x.doubles
    return values.indices.filter { values[$0] != 0 }
  }
  let values = x.int64s
  return values.indices.filter { values[$0] != 0 }
}

/// Keeps the slices along one axis, or without an axis the elements, whose condition is true.
///
/// - Shapes: x any, condition `[m]` with m at most the axis's size → the axis (or the only dim) has size `count`, a symbol
///   that the operation sets.
/// - Types: x any; condition bool.
/// - Source: ONNX Compress-11.
package struct Compress: TensorOperation {
  package let axis: Int?
  package let count: Dim

  package init(axis: Int?, count: Dim) {
    self.axis = axis
    self.count = count
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    axis = attributes["axis"] == nil ? nil : try attributes.int("axis")
    count = try attributes.dim("count")
  }

  package var name: String { "compress" }
  package var attributes: Attributes {
    Attributes((axis.map { [("axis", .int($0))] } ?? []) + [("count", .dim(count))])
  }
  package var boundSymbols: [Symbol] { Self.symbols([count]) }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 2...2)
    try expectRank(x[1], 1...1, "condition")
    guard x[1].dtype == .bool else { throw shapeError("APUS-S-0204", "condition is \(x[1]), bool is expected") }
    guard let axis else { return [x[0].with(shape: [count])] }
    try expectAxis(axis, rank: x[0].rank)
    var shape = x[0].shape
    shape[axis] = count
    return [x[0].with(shape: shape)]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    let kept = truePositions(x[1])
    let split = axis.map { AxisSplit(x[0].shape, axis: $0) }
    let size = split?.count ?? x[0].elementCount
    if let last = kept.last, last >= size {
      throw evaluationError("APUS-V-0202", "condition is true at \(last), beyond the size \(size)")
    }
    guard let axis, let split else { return [x[0].gathering(kept, shape: [kept.count])] }
    var sources: [Int] = []
    for outer in 0..<split.outer {
      for index in kept {
        let start = (outer * split.count + index) * split.inner
        sources.append(contentsOf: start..<start + split.inner)
      }
    }
    var shape = x[0].shape
    shape[axis] = kept.count
    return [x[0].gathering(sources, shape: shape)]
  }
}

/// Sets symbols from the elements of an integer tensor, where sizes are computed by the model.
///
/// - Shapes: x with as many elements as `dims` has symbols; no results.
/// - Types: any integer type.
/// - Throws: ``EvaluationError`` `APUS-V-0202` when the count differs.
package struct BindDims: TensorOperation {
  package let dims: [Dim]

  package init(dims: [Dim]) { self.dims = dims }

  package init(name: String, attributes: Attributes) throws(GraphError) { dims = try attributes.dims("dims") }

  package var name: String { "bind_dims" }
  package var attributes: Attributes { ["dims": .dims(dims)] }
  package var boundSymbols: [Symbol] { Self.symbols(dims) }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    guard x[0].dtype.isInteger else { throw shapeError("APUS-S-0204", "\(x[0]) is not of an integer type") }
    try expectEqual(x[0].elementCount, Dim(dims.count), "elements and symbols")
    return []
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    guard x[0].elementCount == dims.count else {
      throw evaluationError("APUS-V-0202", "\(x[0].elementCount) elements for \(dims.count) symbols")
    }
    return []
  }
}

/// Reverses the first `lengths[b]` steps of every sequence b and keeps the rest.
///
/// - Shapes: x with a batch and a time axis, lengths `[B]` → y of x's shape.
/// - Types: x any; lengths i64 or i32 in 0 … time.
/// - Source: ONNX ReverseSequence-10.
package struct ReverseSequence: TensorOperation {
  package let batchAxis: Int
  package let timeAxis: Int

  package init(batchAxis: Int, timeAxis: Int) {
    self.batchAxis = batchAxis
    self.timeAxis = timeAxis
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    batchAxis = try attributes.int("batch_axis")
    timeAxis = try attributes.int("time_axis")
  }

  package var name: String { "reverse_sequence" }
  package var attributes: Attributes { ["batch_axis": .int(batchAxis), "time_axis": .int(timeAxis)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 2...2)
    try expectAxis(batchAxis, rank: x[0].rank)
    try expectAxis(timeAxis, rank: x[0].rank)
    try expectIndices(x[1], "lengths")
    try expectRank(x[1], 1...1, "lengths")
    guard batchAxis != timeAxis else { throw shapeError("APUS-S-0203", "batch and time axis are both \(timeAxis)") }
    try expectEqual(x[0].shape[batchAxis], x[1].shape[0], "batch and lengths")
    return [x[0]]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    let lengths = x[1].ints
    let shape = x[0].shape
    guard lengths.count == shape[batchAxis] else {
      throw evaluationError("APUS-V-0202", "\(lengths.count) lengths for a batch of \(shape[batchAxis])")
    }
    for length in lengths where length < 0 || length > shape[timeAxis] {
      throw evaluationError("APUS-V-0201", "length \(length) is outside 0 ... \(shape[timeAxis])")
    }
    let strides = x[0].strides
    var sources: [Int] = []
    sources.reserveCapacity(x[0].elementCount)
    var linear = 0
    forEachCoordinate(shape) { coordinate in
      let (time, length) = (coordinate[timeAxis], lengths[coordinate[batchAxis]])
      let moved = time < length ? length - 1 - time : time
      sources.append(linear + (moved - time) * strides[timeAxis])
      linear += 1
    }
    return [x[0].gathering(sources, shape: shape)]
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let (data, lengths) = (x[0], x[1])
    return [
      Operand(results[0]) { coordinates, arena in
        let time = arena.index(coordinates[timeAxis])
        let length = arena.cast(lengths.at([coordinates[batchAxis]], arena), to: .i64)
        let mirrored = arena.binary(.sub, arena.binary(.sub, length, arena.constant(Int64(1), .i64)), time)
        let moved = arena.select(arena.binary(.less, time, length), mirrored, time)
        var source = coordinates
        source[timeAxis] = arena.clamped(moved, in: data.type.shape[timeAxis])
        return data.at(source, arena)
      }
    ]
  }
}
