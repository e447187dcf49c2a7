package import ApusCore
package import ApusKernel

extension Resize {
  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let data = x[0]
    let shape = data.type.shape
    let maps = shape.indices.map { axis($0, shape) }
    let dtype = data.type.dtype
    let work: DType = dtype == .f64 ? .f64 : .f32
    let isSmoothed = antialias && mode != .nearest
    let windows = isSmoothed ? maps.map { $0.isIdentity ? SmoothingWindow.one : smoothingWindow($0) } : []
    if windows.contains(where: { $0 == nil }) { return nil }
    let isCrop = transformation == .tfCropAndResize
    // Every axis of a crop is sampled.
    if isCrop && (isSmoothed || mode == .cubic && shape.count > 2) { return nil }
    return [
      Operand(results[0]) { coordinates, arena in
        let crops: [ResizeAxis.Crop?] = shape.indices.map { axis in
          guard isCrop else { return nil }
          let part = { (index: Int) in arena.cast(x[1].at(.flat(Dim(index)), arena), to: .f64) }
          return ResizeAxis.Crop(start: part(axis), end: part(shape.count + axis))
        }
        let value: Expr
        if mode == .nearest {
          value = data.at(
            shape.indices.map { axis in
              maps[axis].isIdentity
                ? coordinates[axis] : nearestIndex(maps[axis], coordinates[axis], crops[axis], arena)
            }, arena)
        } else {
          let sum: Expr
          if isSmoothed {
            sum = smoothed(data, maps, windows.compactMap { $0 }, coordinates, arena, work)
          } else {
            let taps = shape.indices.map { axis in
              maps[axis].isIdentity
                ? [(coordinates[axis], arena.constant(1.0, work))]
                : lowerTaps(maps[axis], coordinates[axis], crops[axis], arena, work)
            }
            sum = blend(data, taps[...], [], arena, work)
          }
          value = dtype.isFloat ? sum : rounded(sum, dtype, arena, work)
        }
        guard isCrop else { return value }
        let outside = shape.indices.map { axis in isOutside(maps[axis], coordinates[axis], crops[axis], arena) }
        let isAnyOutside = outside.dropFirst().reduce(outside.first ?? arena.constant(Int64(0), .bool)) {
          arena.binary(.or, $0, $1)
        }
        return arena.select(isAnyOutside, arena.constant(extrapolationValue, dtype), value)
      }
    ]
  }

  /// Whether a coordinate of a crop lies outside its axis.
  private func isOutside(_ map: ResizeAxis, _ x: Dim, _ crop: ResizeAxis.Crop?, _ arena: ExprArena) -> Expr {
    guard let position = map.coordinate(x, crop, arena) else { return arena.constant(Int64(0), .bool) }
    let last = arena.cast(arena.index(map.input - 1), to: .f64)
    return arena.binary(
      .or, arena.binary(.less, position, arena.constant(0.0, .f64)), arena.binary(.greater, position, last))
  }

  private func rounded(_ sum: Expr, _ dtype: DType, _ arena: ExprArena, _ work: DType) -> Expr {
    let (low, high) = (saturated(-.infinity, dtype), saturated(.infinity, dtype))
    let bounded = arena.binary(
      .min, arena.binary(.max, arena.unary(.round, sum), arena.constant(low, work)), arena.constant(high, work))
    return arena.cast(bounded, to: dtype)
  }

  private func nearestIndex(_ map: ResizeAxis, _ x: Dim, _ crop: ResizeAxis.Crop?, _ arena: ExprArena) -> Dim {
    if let fraction = map.fraction(x) {
      let index = ResizeAxis.nearest(fraction, nearestMode, arena)
      return Dim.maximum(Dim.minimum(index, map.input - 1), 0)
    }
    guard let position = map.coordinate(x, crop, arena) else { return 0 }
    let half = arena.constant(0.5, .f64)
    let whole =
      switch nearestMode {
      case .floor: arena.unary(.floor, position)
      case .ceil: arena.unary(.ceil, position)
      case .roundPreferFloor: arena.unary(.ceil, arena.binary(.sub, position, half))
      case .roundPreferCeil: arena.unary(.floor, arena.binary(.add, position, half))
      }
    return arena.clamped(arena.cast(whole, to: .i64), in: map.input)
  }

  /// The element before a coordinate, and how far behind it the coordinate is.
  private func split(
    _ map: ResizeAxis, _ x: Dim, _ crop: ResizeAxis.Crop?, _ arena: ExprArena, _ work: DType
  ) -> (whole: Dim, rest: Expr)? {
    if let fraction = map.fraction(x) {
      let whole = ResizeAxis.floor(fraction.over, fraction.under, arena)
      let over = arena.cast(arena.index(fraction.over - whole * fraction.under), to: work)
      return (whole, arena.binary(.div, over, arena.cast(arena.index(fraction.under), to: work)))
    }
    guard let position = map.coordinate(x, crop, arena) else { return nil }
    let floor = arena.unary(.floor, position)
    return (arena.asDim(arena.cast(floor, to: .i64)), arena.cast(arena.binary(.sub, position, floor), to: work))
  }

  private func lowerTaps(
    _ map: ResizeAxis, _ x: Dim, _ crop: ResizeAxis.Crop?, _ arena: ExprArena, _ work: DType
  ) -> [(Dim, Expr)] {
    guard let (whole, rest) = split(map, x, crop, arena, work) else { return [] }
    let steps = mode == .linear ? 0...1 : -1...2
    var weights = steps.map { weight(rest, step: $0, arena, work) }
    if excludeOutside {
      let zero = arena.constant(0.0, work)
      for (position, step) in steps.enumerated() {
        let index = arena.index(whole + Dim(step))
        let isBefore = arena.binary(.less, index, arena.constant(Int64(0), .i64))
        let isBeyond = arena.binary(.greater_equal, index, arena.index(map.input))
        weights[position] = arena.select(arena.binary(.or, isBefore, isBeyond), zero, weights[position])
      }
      let sum = weights.dropFirst().reduce(weights[0]) { arena.binary(.add, $0, $1) }
      weights = weights.map { arena.binary(.div, $0, sum) }
    }
    return zip(steps, weights).map { step, weight in
      (arena.clamped(arena.index(whole + Dim(step)), in: map.input), weight)
    }
  }

  /// The weight of the tap `step` elements from the floor of a coordinate with fractional part `rest`.
  private func weight(_ rest: Expr, step: Int, _ arena: ExprArena, _ work: DType) -> Expr {
    let real = { (value: Double) in arena.constant(value, work) }
    let (add, mul) = ({ arena.binary(.add, $0, $1) }, { arena.binary(.mul, $0, $1) })
    if mode == .linear { return step == 0 ? arena.binary(.sub, real(1), rest) : rest }
    let a = cubicCoefficient
    let offset = real(Double(-step))
    let distance = step > 0 ? arena.binary(.sub, real(Double(step)), rest) : add(rest, offset)
    if step == 0 || step == 1 {
      let inner = add(mul(real(a + 2), distance), real(-(a + 3)))
      return add(mul(mul(inner, distance), distance), real(1))
    }
    let inner = add(mul(add(mul(real(a), distance), real(-5 * a)), distance), real(8 * a))
    return add(mul(inner, distance), real(-4 * a))
  }

  private func blend(
    _ data: Operand, _ taps: ArraySlice<[(Dim, Expr)]>, _ source: [Dim], _ arena: ExprArena, _ work: DType
  ) -> Expr {
    guard let own = taps.first else { return arena.cast(data.at(source, arena), to: work) }
    let parts = own.map { index, weight in
      let inner = blend(data, taps.dropFirst(), source + [index], arena, work)
      return own.count == 1 ? inner : arena.binary(.mul, weight, inner)
    }
    guard let first = parts.first else { return arena.constant(0.0, work) }
    return parts.dropFirst().reduce(first) { arena.binary(.add, $0, $1) }
  }

  /// The elements around a coordinate that are blended where an axis shrinks.
  private struct SmoothingWindow {
    static let one: SmoothingWindow? = SmoothingWindow(first: 0, count: 1, shrink: 1)

    let first: Int
    let count: Int
    let shrink: Double
  }

  /// Nil where the factor is not known before running, or too many elements are blended.
  private func smoothingWindow(_ map: ResizeAxis) -> SmoothingWindow? {
    var scale = map.scale
    if scale == 0 {
      guard let input = map.input.constantValue, let output = map.output.constantValue, input > 0 else { return nil }
      scale = Double(output) / Double(input)
    }
    let shrink = min(scale, 1)
    let reach = ((mode == .linear ? -1 : -2) / shrink).rounded(.down) + 1
    return reach < -1000 ? nil : SmoothingWindow(first: Int(reach), count: 2 - 2 * Int(reach), shrink: shrink)
  }

  /// The weighted mean over the windows of all axes.
  private func smoothed(
    _ data: Operand, _ maps: [ResizeAxis], _ windows: [SmoothingWindow], _ coordinates: [Dim], _ arena: ExprArena,
    _ work: DType
  ) -> Expr {
    var (source, variables) = (coordinates, [LoopVariable]())
    var product: Expr?
    var norm: Expr?
    func multiplied(_ a: Expr?, _ b: Expr) -> Expr { a.map { arena.binary(.mul, $0, b) } ?? b }
    for (axis, (map, window)) in zip(maps, windows).enumerated() where !map.isIdentity {
      guard let (whole, rest) = split(map, coordinates[axis], nil, arena, work) else { continue }
      func weight(_ variable: LoopVariable) -> Expr {
        let step = variable.dim + Dim(window.first)
        let apart = arena.binary(.sub, arena.cast(arena.index(step), to: work), rest)
        let distance = arena.binary(.mul, arena.unary(.abs, apart), arena.constant(window.shrink, work))
        let weight = smoothingWeight(distance, arena, work)
        if !excludeOutside { return weight }
        let index = arena.index(whole + step)
        let isBefore = arena.binary(.less, index, arena.constant(Int64(0), .i64))
        let isBeyond = arena.binary(.greater_equal, index, arena.index(map.input))
        return arena.select(arena.binary(.or, isBefore, isBeyond), arena.constant(0.0, work), weight)
      }
      let variable = arena.makeVariable(Dim(window.count))
      let counted = arena.makeVariable(Dim(window.count))
      variables.append(variable)
      source[axis] = arena.clamped(arena.index(whole + variable.dim + Dim(window.first)), in: map.input)
      product = multiplied(product, weight(variable))
      norm = multiplied(norm, arena.reduce(.sum, over: [counted], weight(counted)))
    }
    let value = arena.cast(data.at(source, arena), to: work)
    guard let product, let norm else { return value }
    let sum = arena.reduce(.sum, over: variables, arena.binary(.mul, product, value))
    let isNothing = arena.binary(.equal, norm, arena.constant(0.0, work))
    return arena.select(isNothing, sum, arena.binary(.div, sum, norm))
  }

  /// The weight of an element at a distance that is not negative.
  private func smoothingWeight(_ x: Expr, _ arena: ExprArena, _ work: DType) -> Expr {
    let real = { (value: Double) in arena.constant(value, work) }
    let (add, mul) = ({ arena.binary(.add, $0, $1) }, { arena.binary(.mul, $0, $1) })
    if mode == .linear { return arena.binary(.max, arena.binary(.sub, real(1), x), real(0)) }
    let a = cubicCoefficient
    let inner = add(mul(mul(add(mul(real(a + 2), x), real(-(a + 3))), x), x), real(1))
    let outer = add(mul(add(mul(add(mul(real(a), x), real(-5 * a)), x), real(8 * a)), x), real(-4 * a))
    let beyond = arena.select(arena.binary(.less, x, real(2)), outer, real(0))
    return arena.select(arena.binary(.less_equal, x, real(1)), inner, beyond)
  }
}
