package import ApusCore
package import ApusGraph

/// Joins the tensors of a sequence along one axis, which is a new one where `new_axis` says so.
///
/// - Shapes: sequence → `shape`, whose symbols, all fresh, the operation sets.
/// - Throws: ``EvaluationError`` `APUS-V-0208` when the result has another shape.
/// - Source: ONNX ConcatFromSequence-11.
package struct ConcatFromSequence: Operation {
  package let axis: Int
  package let newAxis: Bool
  package let shape: Shape

  package init(axis: Int, newAxis: Bool, shape: Shape) {
    self.axis = axis
    self.newAxis = newAxis
    self.shape = shape
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    axis = try attributes.int("axis")
    newAxis = try attributes.bool("new_axis")
    shape = try attributes.dims("shape")
  }

  package var name: String { "concat_from_sequence" }
  package var attributes: Attributes {
    ["axis": .int(axis), "new_axis": .bool(newAxis), "shape": .dims(shape)]
  }
  package var boundSymbols: [Symbol] { Self.symbols(shape) }

  package func infer(_ x: [ValueType]) throws(ShapeError) -> [ValueType] {
    try expectOperands(x, 1...1)
    try expectAxis(axis, rank: shape.count)
    guard let element = try sequenceElement(x[0]).tensor else {
      throw shapeError("APUS-S-0207", "a sequence of tensors is expected, found \(x[0])")
    }
    return [.tensor(element.with(shape: shape))]
  }

  package func reference(_ x: [HostValue]) throws(EvaluationError) -> [HostValue] {
    var parts: [HostTensor] = []
    for value in try sequenceValues(x[0]).0 { parts.append(try tensorValue(value)) }
    guard let first = parts.first else { throw evaluationError("APUS-V-0201", "the sequence is empty") }
    guard axis >= 0, axis < first.rank + (newAxis ? 1 : 0) else {
      throw evaluationError("APUS-V-0202", "axis \(axis) is beyond rank \(first.rank)")
    }
    if newAxis {
      for part in parts where part.shape != first.shape {
        throw evaluationError("APUS-V-0202", "shapes \(first.shape) and \(part.shape) cannot be stacked")
      }
      parts = parts.map { $0.reshaped(Array($0.shape[..<axis]) + [1] + Array($0.shape[axis...])) }
    }
    let joined: [HostTensor]
    do { joined = try Concat(axis: axis).reference(parts) } catch { throw error }
    guard let result = joined.first else { return [] }
    try checkShape(.tensor(result), shape)
    return [.tensor(result)]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { 0 }
  package static var samples: [Sample] {
    [Sample(ConcatFromSequence(axis: 1, newAxis: true, shape: [2, 3]), "seq<f32[2]>")]
  }
}

/// Cuts a tensor along one axis into a sequence: into parts of the sizes in the second operand (one for all, or a list),
/// or without it into parts of 1.
///
/// - Shapes: x, sizes of rank 0 or 1 or absent → sequence of x's shape with `part` at the axis, which is
///   ``ApusCore/ValueType/anySize`` where parts differ; without sizes and `keep_dims` the axis is dropped.
/// - Types: x any; sizes i32 or i64.
/// - Throws: ``EvaluationError`` `APUS-V-0202` when the sizes do not add up.
/// - Source: ONNX SplitToSequence-11.
package struct SplitToSequence: Operation {
  package let axis: Int
  package let keepDims: Bool
  package let part: Dim

  package init(axis: Int, keepDims: Bool, part: Dim) {
    self.axis = axis
    self.keepDims = keepDims
    self.part = part
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    axis = try attributes.int("axis")
    keepDims = try attributes.bool("keep_dims")
    part = try attributes.dim("part")
  }

  package var name: String { "split_to_sequence" }
  package var attributes: Attributes { ["axis": .int(axis), "keep_dims": .bool(keepDims), "part": .dim(part)] }

  package func infer(_ x: [ValueType]) throws(ShapeError) -> [ValueType] {
    try expectOperands(x, 1...2)
    let types = x.compactMap(\.tensor)
    guard types.count == x.count else { throw shapeError("APUS-S-0207", "tensors are expected") }
    try expectAxis(axis, rank: types[0].rank)
    if types.count > 1 {
      try expectIndices(types[1], "sizes")
      guard types[1].rank <= 1 else { throw shapeError("APUS-S-0202", "sizes are \(types[1])") }
    }
    var shape = types[0].shape
    if types.count == 1 && !keepDims { shape.remove(at: axis) } else { shape[axis] = types.count == 1 ? 1 : part }
    return [.sequence(.tensor(types[0].with(shape: shape)))]
  }

  package func reference(_ x: [HostValue]) throws(EvaluationError) -> [HostValue] {
    let data = try tensorValue(x[0])
    let types: [ValueType]
    do { types = try infer(x.map(\.type)) } catch { throw EvaluationError(problems: error.problems) }
    guard case .sequence(let element)? = types.first else { return [] }
    let split = AxisSplit(data.shape, axis: axis)
    var sizes = [Int](repeating: 1, count: split.count)
    if x.count > 1 {
      let given = try tensorValue(x[1])
      sizes = given.ints
      if given.rank == 0, let size = sizes.first {
        guard size > 0 else { throw evaluationError("APUS-V-0202", "parts of size \(size) cannot be cut") }
        sizes = stride(from: 0, to: split.count, by: size).map { min(size, split.count - $0) }
      }
    }
    guard sizes.allSatisfy({ $0 >= 0 }), sizes.reduce(0, saturatingAdd) == split.count else {
      throw evaluationError("APUS-V-0202", "parts of sizes \(sizes) do not add up to \(split.count)")
    }
    var parts: [HostValue] = []
    var start = 0
    for size in sizes {
      var sources: [Int] = []
      for outer in 0..<split.outer {
        let first = (outer * split.count + start) * split.inner
        sources.append(contentsOf: first..<first + size * split.inner)
      }
      var shape = data.shape
      shape[axis] = size
      if x.count == 1 && !keepDims { shape.remove(at: axis) }
      parts.append(.tensor(data.gathering(sources, shape: shape)))
      start += size
    }
    return [.sequence(parts, element: element)]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { 0 }

  package static var samples: [Sample] {
    [Sample(SplitToSequence(axis: 1, keepDims: false, part: 1), "f32[N, 4]", where: ["N": 1...3])]
  }
}
