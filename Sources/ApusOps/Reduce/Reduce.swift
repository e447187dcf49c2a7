package import ApusCore
package import ApusGraph
package import ApusKernel

/// Combines all elements along some axes: sum, mean, product, minimum, maximum, conjunction or disjunction.
///
/// - Shapes: reduced dims become 1 with `keep_dims`, else they vanish.
/// - Types: numeric; minimum and maximum also bool; conjunction and disjunction bool only.
/// - Numerics: integers wrap; NaN goes through minimum and maximum; an empty set gives 0 (sum), 1 (product), NaN (mean; 0
///   for integers), the type's far end (minimum, maximum), true (and), false (or). A mean of integers is truncated.
/// - Source: ONNX ReduceSum-13, ReduceMean-18, ReduceProd-18, ReduceMin-20, ReduceMax-20.
package struct Reduce: TensorOperation {
  package enum Kind: String, CaseIterable, Sendable {
    case sum, mean, prod, min, max, and, or

    fileprivate var reduction: Reduction {
      switch self {
      case .sum, .mean: .sum
      case .prod: .prod
      case .min: .min
      case .max: .max
      case .and: .and
      case .or: .or
      }
    }
  }

  package let kind: Kind
  package let axes: [Int]
  package let keepDims: Bool

  package init(_ kind: Kind, axes: [Int], keepDims: Bool) {
    self.kind = kind
    self.axes = axes
    self.keepDims = keepDims
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    guard name.hasPrefix("reduce_"), let kind = Kind(rawValue: String(name.dropFirst(7))) else {
      throw GraphError("APUS-G-0011", "no reduction is called '\(name)'")
    }
    self.kind = kind
    axes = try attributes.ints("axes")
    keepDims = try attributes.bool("keep_dims")
  }

  package static let names = Kind.allCases.map { "reduce_\($0.rawValue)" }
  package var name: String { "reduce_\(kind.rawValue)" }
  package var attributes: Attributes { ["axes": .ints(axes), "keep_dims": .bool(keepDims)] }

  private func reduced(rank: Int) throws(ShapeError) -> ReducedAxes {
    var resolved = Set<Int>()
    for axis in axes { resolved.insert(try resolve(axis: axis, rank: rank)) }
    if resolved.count != axes.count { throw shapeError("APUS-S-0030", "axes \(axes) name one axis twice") }
    return ReducedAxes(axes: resolved.sorted(), keepDims: keepDims)
  }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    switch kind {
    case .and, .or: try expect(x[0].dtype == .bool, x[0], operand: 0, is: "a bool tensor")
    case .min, .max: try expect(x[0].dtype != .string, x[0], operand: 0, is: "a numeric tensor")
    default: try expect(x[0].dtype.isNumeric, x[0], operand: 0, is: "a numeric tensor")
    }
    return [x[0].with(shape: try reduced(rank: x[0].rank).resultShape(x[0].shape))]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    guard let reduced = try? reduced(rank: x[0].rank) else { return [] }
    let starts = shape.contains(0) ? [] : reduced.starts(x[0].shape)
    let offsets = reduced.offsets(x[0].shape)
    let count = offsets.count
    if dtype.isFloat {
      let values = x[0].doubles
      let identity: Double = kind == .prod ? 1 : kind == .min ? .infinity : kind == .max ? -.infinity : 0
      let results = starts.map { start in
        let total = offsets.reduce(identity) { kind.reduction.function.evaluate($0, values[start + $1]) }
        return kind == .mean ? total / Double(count) : total
      }
      return [HostTensor(dtype, shape, doubles: results)]
    }
    let values = x[0].int64s
    let bounds = dtype.integerBounds
    let identity: Int64 =
      switch kind {
      case .sum, .mean, .or: 0
      case .prod, .and: 1
      case .min: bounds.highest
      case .max: bounds.lowest
      }
    // A mean is summed in 64 bits, so that only its quotient has to fit the type.
    let type: DType = kind == .mean ? (dtype == .u64 ? .u64 : .i64) : dtype
    let results = starts.map { start in
      let total = offsets.reduce(identity) { kind.reduction.function.evaluate($0, values[start + $1], as: type) }
      return kind == .mean ? ScalarFunction.div.evaluate(total, Int64(count), as: type) : total
    }
    return [HostTensor(dtype, shape, int64s: results)]
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let source = x[0].type
    guard let reduced = try? reduced(rank: source.rank) else { return nil }
    let dtype = source.dtype
    let kind = kind
    var reduction = kind.reduction
    if dtype == .bool, kind == .min || kind == .max { reduction = kind == .min ? .and : .or }
    return [
      Operand(results[0]) { coordinates, arena in
        let variables = reduced.variables(source.shape, arena)
        let element = x[0].at(reduced.source(coordinates, variables.map(\.dim), rank: source.rank), arena)
        guard kind == .mean else {
          let total = arena.reduce(reduction, over: variables, element)
          guard kind == .min || kind == .max else { return arena.cast(total, to: dtype) }
          // An empty set gives the far end of the type, which may be narrower than what is computed in.
          guard dtype.isInteger, ExprArena.computeType(dtype) != dtype else { return total }
          let end = kind == .min ? dtype.integerBounds.highest : dtype.integerBounds.lowest
          return arena.binary(kind == .min ? .min : .max, total, arena.constant(end, dtype))
        }
        let type = dtype.isFloat ? ExprArena.computeType(dtype) : dtype == .u64 ? .u64 : .i64
        let total = arena.reduce(.sum, over: variables, arena.cast(element, to: type))
        let count = arena.cast(arena.index(Dim.product(reduced.axes.map { source.shape[$0] })), to: type)
        return arena.cast(arena.binary(.div, total, count), to: dtype)
      }
    ]
  }

  package func dims(_ x: [[Dim]?], _ types: [TensorType]) -> [[Dim]?]? {
    guard let dims = x[0], kind != .mean, let shape = types[0].constantShape, !shape.contains(0),
      let reduced = try? reduced(rank: shape.count)
    else { return nil }
    let offsets = reduced.offsets(shape)
    let results = reduced.starts(shape).compactMap { start -> Dim? in
      var total = dims[start]
      for offset in offsets.dropFirst() {
        guard let next = DimArithmetic.apply(kind.reduction.function, total, dims[start + offset], types[0].dtype)
        else {
          return nil
        }
        total = next
      }
      return total
    }
    return [results.count == reduced.resultShape(shape).reduce(1, *) ? results : nil]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { x.first?.tensor?.elementCount ?? 0 }

  package static let samples: [Sample] = Kind.allCases.flatMap { kind -> [Sample] in
    let types: [DType] =
      switch kind {
      case .and, .or: [.bool]
      case .min, .max: [.f32, .f64, .bf16, .i64, .i8, .u64, .bool]
      default: [.f32, .f64, .f16, .i64, .i32, .i8, .u8]
      }
    let sizes = ["A": 1...4, "B": 1...40]
    return types.flatMap { dtype in
      [
        Sample(Reduce(kind, axes: [1], keepDims: true), "\(dtype)[A, B]", where: sizes),
        Sample(Reduce(kind, axes: [0, 2], keepDims: false), "\(dtype)[A, 3, B]", where: sizes),
        Sample(Reduce(kind, axes: [], keepDims: false), "\(dtype)[A, B]", where: sizes),
        Sample(Reduce(kind, axes: [0, 1], keepDims: false), "\(dtype)[A, B]", where: sizes),
      ]
    } + [Sample(Reduce(kind, axes: [0], keepDims: false), "\(types[0])[0, A]", where: sizes)]
  }
}
