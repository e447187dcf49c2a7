package import ApusCore
package import ApusGraph

/// How an update combines with the element it meets.
package enum ScatterReduction: String, CaseIterable, Sendable {
  case none, add, mul, min, max

  /// `x` with `updates` written as blocks of `block` elements beginning at `starts`, in order.
  func scatter(_ x: HostTensor, _ updates: HostTensor, starts: [Int], block: Int) -> HostTensor {
    if self == .none { return Self.overwrite(x, updates, starts: starts, block: block) }
    if x.dtype.isFloat {
      var values = x.doubles
      accumulate(&values, updates.doubles, starts, block) { combine($0, $1) }
      return HostTensor(x.dtype, x.shape, doubles: values)
    }
    var values = x.int64s
    let isUnsigned = x.dtype == .u64
    accumulate(&values, updates.int64s, starts, block) { combine($0, $1, isUnsigned: isUnsigned) }
    return HostTensor(x.dtype, x.shape, int64s: values)
  }

  private func accumulate<Element>(
    _ values: inout [Element], _ updates: [Element], _ starts: [Int], _ block: Int,
    _ combine: (Element, Element) -> Element
  ) {
    var cursor = 0
    for start in starts {
      for position in start..<start + block {
        values[position] = combine(values[position], updates[cursor])
        cursor += 1
      }
    }
  }

  private func combine(_ x: Double, _ y: Double) -> Double {
    switch self {
    case .none: y
    case .add: x + y
    case .mul: x * y
    case .min: x.isNaN || y.isNaN ? .nan : Swift.min(x, y)
    case .max: x.isNaN || y.isNaN ? .nan : Swift.max(x, y)
    }
  }

  private func combine(_ x: Int64, _ y: Int64, isUnsigned: Bool) -> Int64 {
    let isLess = isUnsigned ? UInt64(bitPattern: x) < UInt64(bitPattern: y) : x < y
    switch self {
    case .none: return y
    case .add: return x &+ y
    case .mul: return x &* y
    case .min: return isLess ? x : y
    case .max: return isLess ? y : x
    }
  }

  private static func overwrite(_ x: HostTensor, _ updates: HostTensor, starts: [Int], block: Int) -> HostTensor {
    if x.dtype == .string {
      var values = x.strings
      for (row, start) in starts.enumerated() {
        for position in 0..<block { values[start + position] = updates.strings[row * block + position] }
      }
      return HostTensor(strings: values, shape: x.shape)
    }
    let width = block * x.dtype.byteCount
    return HostTensor(x.dtype, x.shape) { target in
      x.withUnsafeBytes { target.copyMemory(from: $0) }
      guard let base = target.baseAddress, width > 0 else { return }
      updates.withUnsafeBytes { source in
        guard let from = source.baseAddress else { return }
        for (row, start) in starts.enumerated() {
          (base + start * x.dtype.byteCount).copyMemory(from: from + row * width, byteCount: width)
        }
      }
    }
  }
}

/// Writes one update per index into a copy of x: y[…, indices[…, i, …], …] = updates[…, i, …].
///
/// - Shapes: x; indices and updates of one shape and x's rank → y of x's shape.
/// - Types: x and updates any, equal; indices i64 or i32, negative values count from the end.
/// - Numerics: without a reduction the last of several updates of one element stays.
/// - Throws: ``EvaluationError`` `APUS-V-0201` for an index outside the axis.
/// - Source: ONNX ScatterElements-18.
package struct ScatterElements: TensorOperation {
  package let axis: Int
  package let reduction: ScatterReduction

  package init(axis: Int, reduction: ScatterReduction = .none) {
    self.axis = axis
    self.reduction = reduction
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    axis = try attributes.int("axis")
    reduction = try attributes.choice("reduction")
  }

  package var name: String { "scatter_elements" }
  package var attributes: Attributes { ["axis": .int(axis), "reduction": .string(reduction.rawValue)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 3...3)
    try expectAxis(axis, rank: x[0].rank)
    try expectIndices(x[1], "indices")
    try expectSameDType([x[0], x[2]])
    guard x[1].rank == x[0].rank, x[2].rank == x[0].rank else {
      throw shapeError("APUS-S-0202", "x \(x[0]), indices \(x[1]) and updates \(x[2]) need one rank")
    }
    for (a, b) in zip(x[1].shape, x[2].shape) { try expectEqual(a, b, "sizes of indices and updates") }
    return [x[0]]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    guard x[1].shape == x[2].shape else {
      throw evaluationError("APUS-V-0202", "indices \(x[1].shape) and updates \(x[2].shape) differ in shape")
    }
    let starts = try elementTargets(x[0].shape, x[1].shape, x[1].ints, axis: axis)
    return [reduction.scatter(x[0], x[2], starts: starts, block: 1)]
  }

  package func dims(_ x: [[Dim]?], _ types: [TensorType]) -> [[Dim]?]? {
    guard reduction == .none, var values = x[0], let updates = x[2], let indices = knownInts(x[1]),
      let shape = types[0].constantShape, let indexShape = types[1].constantShape,
      let targets = try? elementTargets(shape, indexShape, indices, axis: axis), targets.count == updates.count,
      targets.allSatisfy({ values.indices.contains($0) })
    else { return nil }
    for (target, update) in zip(targets, updates) { values[target] = update }
    return [values]
  }
}

/// Writes slices into a copy of x: y[indices[i…, :]…, …] = updates[i…, …].
///
/// - Shapes: x `[d…, s…]`, indices `[i…, k]` with k constant = count of d, updates `[i…, s…]` → y of x's shape.
/// - Types: x and updates any, equal; indices i64 or i32, negative values count from the end.
/// - Numerics: without a reduction the last of several updates of one slice stays.
/// - Throws: ``EvaluationError`` `APUS-V-0201` for an index outside its axis.
/// - Source: ONNX ScatterND-18.
package struct ScatterND: TensorOperation {
  package let reduction: ScatterReduction

  package init(reduction: ScatterReduction = .none) { self.reduction = reduction }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    reduction = try attributes.choice("reduction")
  }

  package var name: String { "scatter_nd" }
  package var attributes: Attributes { ["reduction": .string(reduction.rawValue)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 3...3)
    try expectIndices(x[1], "indices")
    try expectSameDType([x[0], x[2]])
    guard let last = x[1].shape.last else { throw shapeError("APUS-S-0202", "indices must have a dim") }
    let width = try expectConstant(last, "the last dim of indices")
    guard width <= x[0].rank else {
      throw shapeError("APUS-S-0205", "indices \(x[1]) address more dims than \(x[0]) has")
    }
    let expected = Array(x[1].shape.dropLast()) + Array(x[0].shape[width...])
    guard expected.count == x[2].rank else {
      throw shapeError("APUS-S-0205", "updates are \(x[2]), expected \(x[2].with(shape: expected))")
    }
    for (a, b) in zip(expected, x[2].shape) { try expectEqual(a, b, "sizes of the slices and updates") }
    return [x[0]]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    let (starts, block) = try sliceStarts(x[0].shape, x[1].shape, x[1].ints, batchDims: 0)
    guard saturatingMultiply(starts.count, block) == x[2].elementCount else {
      throw evaluationError("APUS-V-0202", "updates \(x[2].shape) do not fit indices \(x[1].shape) into \(x[0].shape)")
    }
    return [reduction.scatter(x[0], x[2], starts: starts, block: block)]
  }

  package func dims(_ x: [[Dim]?], _ types: [TensorType]) -> [[Dim]?]? {
    guard reduction == .none, var values = x[0], let updates = x[2], let indices = knownInts(x[1]),
      let shape = types[0].constantShape, let indexShape = types[1].constantShape,
      let (starts, block) = try? sliceStarts(shape, indexShape, indices, batchDims: 0),
      starts.count * block == updates.count, starts.allSatisfy({ $0 + block <= values.count })
    else { return nil }
    for (row, start) in starts.enumerated() {
      for position in 0..<block { values[start + position] = updates[row * block + position] }
    }
    return [values]
  }
}
