import ApusCore
import ApusGraph

extension MovementOperators {
  /// Operators that take parts of a tensor or extend it.
  static let sliceTable: [String: Lowering] = [
    "Slice": slice, "Pad": pad, "CenterCropPad": centerCropPad, "Trilu": trilu, "EyeLike": eyeLike,
    "Range": range, "ConstantOfShape": constantOfShape, "Constant": constantValue, "OneHot": oneHot,
  ]

  // MARK: Slice

  private static func slice(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let shape = try n.shape(x)
    let starts: [Dim]
    let ends: [Dim]
    var axes: [Int]?
    var steps: [Int]?
    if n.opset < 10 {
      starts = try n.ints("starts").map { Dim($0) }
      ends = try n.ints("ends").map { Dim($0) }
      axes = try n.optionalInts("axes")
    } else {
      starts = try n.sizes(n.input(1), "starts", range: .all)
      ends = try n.sizes(n.input(2), "ends", range: .all)
      if let input = n.optional(3) { axes = try n.requireInts(input, "axes") }
      if let input = n.optional(4) { steps = try n.requireInts(input, "steps") }
    }
    let chosen = axes ?? Array(starts.indices)
    let stride = steps ?? Array(repeating: 1, count: starts.count)
    guard ends.count == starts.count, chosen.count == starts.count, stride.count == starts.count else {
      throw ImportError("APUS-I-0013", "starts, ends, axes and steps differ in length")
    }
    _ = try n.normalized(axes: chosen, rank: shape.count)
    var first = Shape(repeating: 0, count: shape.count)
    var sizes = shape
    var allSteps = [Int](repeating: 1, count: shape.count)
    for (index, axis) in chosen.enumerated() {
      let axis = try n.normalized(axis, rank: shape.count)
      let step = stride[index]
      guard step != 0, step > .min else { throw ImportError("APUS-I-0013", "a step is \(step)") }
      (first[axis], sizes[axis]) = extent(shape[axis], from: starts[index], to: ends[index], step: step)
      allSteps[axis] = step
    }
    if sizes == shape, allSteps.allSatisfy({ $0 == 1 }) { return [x] }
    return [try n.emit("slice", ["starts": .dims(first), "sizes": .dims(sizes), "steps": .ints(allSteps)], x)]
  }

  /// First position and number of positions of a slice, as numpy clamps them.
  static func extent(_ size: Dim, from start: Dim, to end: Dim, step: Int) -> (start: Dim, size: Dim) {
    if step > 0 {
      let from = clamped(fromFront(start, size), 0, size)
      let to = clamped(fromFront(end, size), 0, size)
      return (from, Dim.maximum((to - from).ceilDivided(by: Dim(step)), 0))
    }
    let from = clamped(fromFront(start, size), 0, size - 1)
    let to = clamped(fromFront(end, size), -1, size - 1)
    let count = Dim.maximum((from - to).ceilDivided(by: Dim(-step)), 0)
    return (Dim.maximum(from, 0), count)
  }

  /// Largest size that a symbolic dim is taken to have when it is compared with a bound such as `Int.max`.
  private static let farEnd = 1 << 29

  /// An index that counts from the end where it is negative, counted from the front.
  private static func fromFront(_ index: Dim, _ size: Dim) -> Dim {
    if let value = index.constantValue { return value < 0 ? (value <= -farEnd ? -1 : size + index) : index }
    if index.range.lower >= 0 { return index }
    if index.range.upper < 0 { return size + index }
    // 1 where the index is negative.
    let isNegative = Dim.minimum(Dim.maximum(-index, 0), 1)
    return index + isNegative * size
  }

  private static func clamped(_ value: Dim, _ low: Dim, _ high: Dim) -> Dim {
    if let value = value.constantValue, value >= farEnd, !high.isConstant { return high }
    return Dim.minimum(Dim.maximum(value, low), high)
  }

  // MARK: Pad

  private static func pad(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let rank = try n.rank(x)
    let amounts: [Dim]
    var value: ValueID?
    if n.opset < 11 {
      amounts = try n.ints(n.opset < 2 ? "paddings" : "pads").map { Dim($0) }
      value = try n.scalar(n.float("value", 0), like: x)
    } else {
      amounts = try n.sizes(n.input(1), "pads", range: .all)
      value = try n.optional(2).map { id throws(ImportError) in try n.reshape(id, []) }
    }
    var axes = Array(0..<rank)
    if let input = n.optional(3) { axes = try n.requireInts(input, "axes") }
    _ = try n.normalized(axes: axes, rank: rank)
    guard amounts.count == 2 * axes.count else {
      throw ImportError("APUS-I-0013", "\(amounts.count) pads are given for \(axes.count) axes")
    }
    var before = Shape(repeating: 0, count: rank)
    var after = before
    for (index, axis) in axes.enumerated() {
      let axis = try n.normalized(axis, rank: rank)
      before[axis] = amounts[index]
      after[axis] = amounts[index + axes.count]
    }
    let mode = try n.choice("mode", ["constant", "reflect", "edge", "wrap"], default: "constant")
    return [try pad(n, x, before: before, after: after, value: value, mode: mode)]
  }

  /// Pads by positive amounts and cuts off by negative ones.
  static func pad(
    _ n: NodeContext, _ x: ValueID, before: [Dim], after: [Dim], value: ValueID?, mode: String
  ) throws(ImportError) -> ValueID {
    let shape = try n.shape(x)
    guard (before + after).contains(where: { $0.range.lower < 0 }) else {
      return try n.pad(x, before: before, after: after, value: value, mode: mode)
    }
    let cutBefore = before.map { Dim.maximum(-$0, 0) }
    let cutAfter = after.map { Dim.maximum(-$0, 0) }
    let sizes = shape.indices.map { shape[$0] - cutBefore[$0] - cutAfter[$0] }
    for size in sizes {
      if let size = size.constantValue, size < 0 { throw ImportError("APUS-I-0013", "more is cut off than there is") }
    }
    let steps = [Int](repeating: 1, count: shape.count)
    let kept = try n.emit("slice", ["starts": .dims(cutBefore), "sizes": .dims(sizes), "steps": .ints(steps)], x)
    return try n.pad(
      kept, before: before.map { Dim.maximum($0, 0) }, after: after.map { Dim.maximum($0, 0) }, value: value,
      mode: mode)
  }

  private static func centerCropPad(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let shape = try n.shape(x)
    let axes = try n.optionalInts("axes") ?? Array(shape.indices)
    let targets = try n.sizes(n.input(1), "shape")
    guard targets.count == axes.count else {
      throw ImportError("APUS-I-0013", "\(targets.count) sizes are given for \(axes.count) axes")
    }
    var before = Shape(repeating: 0, count: shape.count)
    var after = before
    for (axis, target) in zip(axes, targets) {
      let axis = try n.normalized(axis, rank: shape.count)
      let grown = Dim.maximum(target - shape[axis], 0)
      let cut = Dim.maximum(shape[axis] - target, 0)
      before[axis] = grown.floorDivided(by: 2) - cut.floorDivided(by: 2)
      after[axis] = target - shape[axis] - before[axis]
    }
    return [try pad(n, x, before: before, after: after, value: nil, mode: "constant")]
  }

  // MARK: Making tensors

  private static func constantOfShape(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let shape = try n.sizes(n.input(0), "shape")
    if let size = shape.compactMap(\.constantValue).first(where: { $0 < 0 }) {
      throw ImportError("APUS-I-0013", "a size of the shape is \(size)")
    }
    let value = try n.optionalTensor("value") ?? HostTensor(scalar: 0, .f32)
    guard value.elementCount == 1 else {
      throw ImportError("APUS-I-0012", "the value has \(value.elementCount) elements, 1 is expected")
    }
    return [try n.broadcast(n.constant(value.reshaped([])), shape)]
  }

  private static func constantValue(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    if let tensor = try n.optionalTensor("value") { return [n.constant(tensor)] }
    if let attribute = n.attribute("sparse_value") {
      return [n.constant(try n.session.tensors.tensor(attribute.sparseTensor))]
    }
    if let value = try n.optionalFloat("value_float") { return [n.constant(HostTensor(scalar: value, .f32))] }
    if let values = try n.optionalFloats("value_floats") { return [n.vector(values, .f32)] }
    if let value = try n.optionalInt("value_int") {
      return [n.constant(HostTensor(.i64, [], int64s: [Int64(value)]))]
    }
    if let values = try n.optionalInts("value_ints") {
      return [n.constant(HostTensor(.i64, [values.count], int64s: values.map { Int64($0) }))]
    }
    if let value = try n.optionalString("value_string") { return [n.constant(HostTensor(strings: [value], shape: []))] }
    if let values = try n.optionalStrings("value_strings") {
      return [n.constant(HostTensor(strings: values, shape: [values.count]))]
    }
    throw ImportError("APUS-I-0012", "the constant has no value")
  }

  private static func range(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let start = try n.reshape(n.input(0), [])
    let limit = try n.reshape(n.input(1), [])
    let delta = try n.reshape(n.input(2), [])
    let dtype = try n.dtype(start)
    let count = try rangeCount(n, start, limit, delta, dtype)
    if dtype.isFloat, let first = n.constant(start)?.doubles.first, let step = n.constant(delta)?.doubles.first,
      first == 0, step == 1
    {
      return [try n.iota([count], axis: 0, dtype)]
    }
    let position = try n.iota([count], axis: 0, dtype)
    return [try n("add", n("mul", position, delta), start)]
  }

  /// `max(ceil((limit − start) / delta), 0)`.
  private static func rangeCount(
    _ n: NodeContext, _ start: ValueID, _ limit: ValueID, _ delta: ValueID, _ dtype: DType
  ) throws(ImportError) -> Dim {
    if let from = n.knownDims(start)?.first, let to = n.knownDims(limit)?.first,
      let step = n.knownDims(delta)?.first?.constantValue
    {
      guard step != 0, step > .min else { throw ImportError("APUS-I-0013", "the step of the range is \(step)") }
      let length = step > 0 ? to - from : from - to
      return Dim.maximum(length.ceilDivided(by: Dim(abs(step))), 0)
    }
    // Computed as a tensor, in f64 for floats, and bound to a symbol when it runs.
    let wide: DType = dtype.isFloat ? .f64 : .i64
    let length = try n("sub", n.cast(limit, wide), n.cast(start, wide))
    let step = try n.cast(delta, wide)
    let steps: ValueID
    if dtype.isFloat {
      steps = try n.cast(n("ceil", n("div", length, step)), .i64)
    } else {
      let one = try n("sign", step)
      steps = try n("div", n("sub", n("add", length, step), one), step)
    }
    return try n.size(n("max", steps, n.scalar(0, .i64)), "range")
  }

  private static func oneHot(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let indices = try n.input(0)
    let values = try n.input(2)
    let depthInput = try n.input(1)
    let whole = try n.dtype(depthInput).isFloat ? n.cast(depthInput, .i64) : depthInput
    let depth = try n.size(whole, "depth")
    let rank = try n.rank(indices)
    let axis = try n.normalized(n.int("axis", -1), rank: rank + 1)
    var shape = try n.shape(indices)
    shape.insert(depth, at: axis)
    // An index counts from the end where it is negative; one outside the range marks nothing.
    let given = try n.unsqueeze(n.cast(indices, .i64), [axis])
    let size = try n.value(of: depth, .i64)
    let index = try n.select(n("less", given, n.scalar(0, .i64)), n("add", given, size), given)
    let isHere = try n("equal", n.iota(shape, axis: axis, .i64), index)
    let off = try n.reshape(n.slice(values, axis: 0, start: 0, size: 1), [])
    let on = try n.reshape(n.slice(values, axis: 0, start: 1, size: 1), [])
    return [try n.select(isHere, on, off)]
  }

  private static func eyeLike(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let type = try n.type(n.input(0))
    guard type.rank == 2 else { throw ImportError("APUS-I-0013", "the input must have rank 2") }
    let dtype = try n.optionalDType("dtype") ?? type.dtype
    let row = try n.iota(type.shape, axis: 0, .i64)
    let column = try n.iota(type.shape, axis: 1, .i64)
    let diagonal = try n("add", row, n.scalar(Double(n.int("k", 0)), .i64))
    return [try n.cast(n("equal", column, diagonal), dtype)]
  }

  private static func trilu(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let shape = try n.shape(x, minimumRank: 2)
    let matrix = Array(shape.suffix(2))
    var row = try n.iota(matrix, axis: 0, .i64)
    if let k = n.optional(1) { row = try n("add", row, n.reshape(n.cast(k, .i64), [])) }
    let column = try n.iota(matrix, axis: 1, .i64)
    let isKept = try n(n.flag("upper", true) ? "greater_equal" : "less_equal", column, row)
    return [try n.select(isKept, x, n.scalar(0, like: x))]
  }
}
