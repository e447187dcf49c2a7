package import ApusCore
package import ApusGraph
package import ApusKernel

/// Samples images at the places a grid names, in coordinates from −1 to 1 over each axis.
///
/// - Shapes: x `[N, C, d…]` with 1 to 3 spatial axes, grid `[N, o…, k]` whose last dim holds k coordinates, the last
///   spatial axis first → `[N, C, o…]`.
/// - Types: x numeric, grid a float type; computed in f32 (f64 when either is f64).
/// - Numerics: `padding` tells what lies outside; nearest rounds half to even.
/// - Source: ONNX GridSample-22.
package struct GridSample: TensorOperation {
  package enum Mode: String, CaseIterable, Sendable {
    case nearest, linear, cubic
  }

  package enum Padding: String, CaseIterable, Sendable {
    case zeros, border, reflection
  }

  package let mode: Mode
  package let padding: Padding
  /// −1 and 1 are the centres of the outermost elements, else their outer edges.
  package let alignCorners: Bool

  package init(mode: Mode, padding: Padding, alignCorners: Bool) {
    self.mode = mode
    self.padding = padding
    self.alignCorners = alignCorners
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    mode = try attributes.choice("mode")
    padding = try attributes.choice("padding")
    alignCorners = try attributes.bool("align_corners")
  }

  package var name: String { "grid_sample" }
  package var attributes: Attributes {
    [
      "mode": .string(mode.rawValue), "padding": .string(padding.rawValue), "align_corners": .bool(alignCorners),
    ]
  }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 2...2)
    try expectRank(x[0], 3...5, "x")
    try expectRank(x[1], x[0].rank...x[0].rank, "grid")
    try expectFloat(x[1], "grid")
    guard x[0].dtype.isNumeric else { throw shapeError("APUS-S-0204", "\(x[0]) is not numeric") }
    try expectEqual(x[0].shape[0], x[1].shape[0], "batch of x and grid")
    try expectEqual(x[1].shape[x[1].rank - 1], Dim(x[0].rank - 2), "coordinates and spatial axes")
    return [x[0].with(shape: Array(x[0].shape[..<2]) + Array(x[1].shape[1..<x[1].rank - 1]))]
  }

  private func workType(_ x: DType, _ grid: DType) -> DType { x == .f64 || grid == .f64 ? .f64 : .f32 }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim {
    guard let source = x[0].tensor, let result = results[0].tensor else { return 0 }
    let taps = mode == .nearest ? 1 : (mode == .linear ? 2 : 4)
    return (2..<source.rank).reduce(result.elementCount) { product, _ in product * Dim(taps) }
  }
}

// MARK: Reference

extension GridSample {
  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    let shape = x[0].shape
    let sizes = Array(shape[2...])
    let outputs = Array(x[1].shape[1..<x[1].rank - 1])
    guard x[1].shape.last == sizes.count, x[1].shape[0] == shape[0], sizes.allSatisfy({ $0 > 0 }) else {
      throw evaluationError("APUS-V-0202", "grid \(x[1].shape) does not fit x \(shape)")
    }
    let isSingle = workType(x[0].dtype, x[1].dtype) == .f32
    let (values, grid) = (x[0].doubles, x[1].doubles)
    let plane = sizes.reduce(1, saturatingMultiply)
    let places = outputs.reduce(1, saturatingMultiply)
    var result = [Double](repeating: 0, count: shape[0] * shape[1] * places)
    for batch in 0..<shape[0] {
      for place in 0..<places {
        let start = (batch * places + place) * sizes.count
        let taps = sizes.indices.map { axis in
          let normalized = grid[start + sizes.count - 1 - axis]
          return self.taps(
            isSingle ? singleCoordinate(normalized, sizes[axis]) : coordinate(normalized, sizes[axis]),
            sizes[axis])
        }
        let points = Self.product(taps, sizes)
        for channel in 0..<shape[1] {
          let base = (batch * shape[1] + channel) * plane
          var sum = 0.0
          for (index, weight) in points { sum += weight * values[base + index] }
          result[(batch * shape[1] + channel) * places + place] = sum
        }
      }
    }
    return [HostTensor(x[0].dtype, Array(shape[..<2]) + outputs, doubles: result)]
  }

  private func coordinate(_ x: Double, _ size: Int) -> Double {
    alignCorners ? (x + 1) / 2 * Double(size - 1) : ((x + 1) * Double(size) - 1) / 2
  }

  /// ``coordinate(_:_:)`` in f32, as kernels compute it.
  private func singleCoordinate(_ x: Double, _ size: Int) -> Double {
    let x = Float(x)
    return Double(alignCorners ? (x + 1) / 2 * Float(size - 1) : ((x + 1) * Float(size) - 1) / 2)
  }

  private func bounds(_ size: Int) -> (low: Double, high: Double) {
    alignCorners ? (0, Double(size - 1)) : (-0.5, Double(size) - 0.5)
  }

  private func reflected(_ x: Double, _ size: Int) -> Double {
    let (low, high) = bounds(size)
    let span = high - low
    if span <= 0 { return low }
    let far = (x - low).magnitude
    let turns = (far / span).rounded(.down)
    let rest = far - turns * span
    return turns.truncatingRemainder(dividingBy: 2) == 0 ? low + rest : high - rest
  }

  /// The elements along one axis that a coordinate is made of; those outside with zero padding are left out.
  private func taps(_ coordinate: Double, _ size: Int) -> [(index: Int, weight: Double)] {
    guard coordinate.magnitude < 1e15 else { return [] }
    var x = mode == .nearest ? coordinate.rounded(.toNearestOrEven) : coordinate
    let (low, high) = bounds(size)
    if x < low || x > high {
      switch padding {
      case .zeros: break
      case .border: x = min(max(x, 0), Double(size - 1))
      case .reflection: x = reflected(x, size)
      }
    }
    if mode == .nearest { return element(Int(x), size).map { [($0, 1)] } ?? [] }
    let whole = x.rounded(.down)
    let rest = x - whole
    let weights = mode == .linear ? [1 - rest, rest] : Self.cubicWeights(rest)
    let first = Int(whole) - (mode == .linear ? 0 : 1)
    return weights.enumerated().compactMap { step, weight in element(first + step, size).map { ($0, weight) } }
  }

  /// The element that stands at `index`, which may be outside; nil for zeros.
  private func element(_ index: Int, _ size: Int) -> Int? {
    if index >= 0 && index < size { return index }
    switch padding {
    case .zeros: return nil
    case .border: return min(max(index, 0), size - 1)
    case .reflection: return min(max(Int(reflected(Double(index), size)), 0), size - 1)
    }
  }

  private static func cubicWeights(_ x: Double) -> [Double] {
    let a = -0.75
    let outer = { (x: Double) in ((a * x - 5 * a) * x + 8 * a) * x - 4 * a }
    let inner = { (x: Double) in ((a + 2) * x - (a + 3)) * x * x + 1 }
    return [outer(x + 1), inner(x), inner(1 - x), outer(2 - x)]
  }

  /// Linear positions and weights of all combinations of taps.
  private static func product(
    _ taps: [[(index: Int, weight: Double)]], _ sizes: [Int]
  ) -> [(index: Int, weight: Double)] {
    var points: [(index: Int, weight: Double)] = [(0, 1)]
    for (own, size) in zip(taps, sizes) {
      points = points.flatMap { point in
        own.map { (point.index * size + $0.index, point.weight * $0.weight) }
      }
    }
    return points
  }
}

// MARK: Lowering

extension GridSample {
  /// One element along an axis: its clamped index, its weight, and when it is inside (nil for always).
  private struct Tap {
    let index: Dim
    let weight: Expr?
    let isInside: Expr?
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let (data, grid) = (x[0], x[1])
    let sizes = Array(data.type.shape[2...])
    let work = workType(data.type.dtype, grid.type.dtype)
    return [
      Operand(results[0]) { coordinates, arena in
        let place = [coordinates[0]] + Array(coordinates[2...])
        let taps = sizes.indices.map { axis in
          let normalized = grid.at(place + [Dim(sizes.count - 1 - axis)], arena)
          return lowerTaps(arena.cast(normalized, to: work), sizes[axis], arena, work)
        }
        let sum = blend(data, taps[...], Array(coordinates[..<2]), nil, arena, work)
        return arena.cast(sum, to: data.type.dtype)
      }
    ]
  }

  private func lowerTaps(_ normalized: Expr, _ size: Dim, _ arena: ExprArena, _ work: DType) -> [Tap] {
    let real = { (value: Double) in arena.constant(value, work) }
    let extent = arena.cast(arena.index(size), to: work)
    let (add, sub) = ({ arena.binary(.add, $0, $1) }, { arena.binary(.sub, $0, $1) })
    let (mul, div) = ({ arena.binary(.mul, $0, $1) }, { arena.binary(.div, $0, $1) })
    let shifted = add(normalized, real(1))
    var x =
      alignCorners
      ? mul(div(shifted, real(2)), sub(extent, real(1))) : div(sub(mul(shifted, extent), real(1)), real(2))
    if mode == .nearest { x = arena.unary(.round, x) }
    let low = real(alignCorners ? 0 : -0.5)
    let high = sub(extent, real(alignCorners ? 1 : 0.5))
    let isOutside = arena.binary(.or, arena.binary(.less, x, low), arena.binary(.greater, x, high))
    switch padding {
    case .zeros: break
    case .border:
      let bounded = arena.binary(.min, arena.binary(.max, x, real(0)), sub(extent, real(1)))
      x = arena.select(isOutside, bounded, x)
    case .reflection: x = arena.select(isOutside, reflected(x, low, high, arena, work), x)
    }
    let whole = arena.unary(.floor, x)
    if mode == .nearest { return [tap(whole, nil, size, low, high, arena, work)] }
    let rest = sub(x, whole)
    if mode == .linear {
      return [
        tap(whole, sub(real(1), rest), size, low, high, arena, work),
        tap(add(whole, real(1)), rest, size, low, high, arena, work),
      ]
    }
    let a = -0.75
    let outer = { (x: Expr) in
      add(mul(add(mul(add(mul(real(a), x), real(-5 * a)), x), real(8 * a)), x), real(-4 * a))
    }
    let inner = { (x: Expr) in add(mul(mul(add(mul(real(a + 2), x), real(-(a + 3))), x), x), real(1)) }
    let weights = [outer(add(rest, real(1))), inner(rest), inner(sub(real(1), rest)), outer(sub(real(2), rest))]
    return weights.enumerated().map { step, weight in
      tap(add(whole, real(Double(step - 1))), weight, size, low, high, arena, work)
    }
  }

  private func tap(
    _ position: Expr, _ weight: Expr?, _ size: Dim, _ low: Expr, _ high: Expr, _ arena: ExprArena, _ work: DType
  ) -> Tap {
    var position = position
    if padding == .reflection { position = reflected(position, low, high, arena, work) }
    let index = arena.cast(position, to: .i64)
    let isBefore = arena.binary(.less, index, arena.constant(Int64(0), .i64))
    let isBeyond = arena.binary(.greater_equal, index, arena.index(size))
    let isInside = padding == .zeros ? arena.unary(.not, arena.binary(.or, isBefore, isBeyond)) : nil
    return Tap(index: arena.clamped(index, in: size), weight: weight, isInside: isInside)
  }

  private func reflected(_ x: Expr, _ low: Expr, _ high: Expr, _ arena: ExprArena, _ work: DType) -> Expr {
    let real = { (value: Double) in arena.constant(value, work) }
    let span = arena.binary(.sub, high, low)
    let far = arena.unary(.abs, arena.binary(.sub, x, low))
    let turns = arena.unary(.floor, arena.binary(.div, far, span))
    let rest = arena.binary(.sub, far, arena.binary(.mul, turns, span))
    let pairs = arena.unary(.floor, arena.binary(.div, turns, real(2)))
    let isEven = arena.binary(.equal, turns, arena.binary(.mul, pairs, real(2)))
    let folded = arena.select(isEven, arena.binary(.add, low, rest), arena.binary(.sub, high, rest))
    return arena.select(arena.binary(.greater, span, real(0)), folded, low)
  }

  private func blend(
    _ data: Operand, _ taps: ArraySlice<[Tap]>, _ source: [Dim], _ isInside: Expr?, _ arena: ExprArena, _ work: DType
  ) -> Expr {
    guard let own = taps.first else {
      let value = arena.cast(data.at(source, arena), to: work)
      return isInside.map { arena.select($0, value, arena.constant(0.0, work)) } ?? value
    }
    let parts = own.map { tap in
      let both = tap.isInside.map { own in isInside.map { arena.binary(.and, $0, own) } ?? own } ?? isInside
      let inner = blend(data, taps.dropFirst(), source + [tap.index], both, arena, work)
      return tap.weight.map { arena.binary(.mul, $0, inner) } ?? inner
    }
    guard let first = parts.first else { return arena.constant(0.0, work) }
    return parts.dropFirst().reduce(first) { arena.binary(.add, $0, $1) }
  }
}
