package import ApusCore
package import ApusGraph
package import ApusKernel

/// Convolves with a kernel whose taps are moved by learnt offsets and sampled bilinearly.
///
/// - Shapes: x `[N, C, H, W]`, w `[O, C/groups, kh, kw]`, offsets `[N, G · kh · kw · 2, oh, ow]` (row then column), mask
///   `[N, G · kh · kw, oh, ow]` or absent → `[N, O, oh, ow]`.
/// - Types: one float type; accumulated in f64.
/// - Source: ONNX DeformConv-22; Zhu et al. 2019.
package struct DeformConv: TensorOperation {
  package var strides = [1, 1]
  package var padsBegin = [0, 0]
  package var padsEnd = [0, 0]
  package var dilations = [1, 1]
  package var groups = 1
  package var offsetGroups = 1

  package init() {}

  package init(name: String, attributes a: Attributes) throws(GraphError) {
    strides = try a.ints("strides")
    padsBegin = try a.ints("pads_begin")
    padsEnd = try a.ints("pads_end")
    dilations = try a.ints("dilations")
    groups = try a.int("groups")
    offsetGroups = try a.int("offset_groups")
  }

  package var name: String { "deform_conv" }
  package var attributes: Attributes {
    [
      "strides": .ints(strides), "pads_begin": .ints(padsBegin), "pads_end": .ints(padsEnd),
      "dilations": .ints(dilations), "groups": .int(groups), "offset_groups": .int(offsetGroups),
    ]
  }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 3...4)
    for (operand, what) in zip(x, ["x", "w", "offsets", "mask"]) {
      try expectRank(operand, 4...4, what)
      try expectFloat(operand, what)
      try expectSameDType([x[0], operand])
    }
    guard [strides, padsBegin, padsEnd, dilations].allSatisfy({ $0.count == 2 }), groups > 0, offsetGroups > 0,
      strides.allSatisfy({ $0 > 0 }), dilations.allSatisfy({ $0 > 0 })
    else { throw shapeError("APUS-S-0206", "strides, pads, dilations or groups do not fit two axes") }
    let taps = x[1].shape[2] * x[1].shape[3]
    try expectEqual(x[0].shape[1], x[1].shape[1] * Dim(groups), "channels of x and w")
    try expectEqual(x[2].shape[1], taps * Dim(offsetGroups) * 2, "channels of offsets")
    if x.count > 3 { try expectEqual(x[3].shape[1], taps * Dim(offsetGroups), "channels of mask") }
    var spatial: [Dim] = []
    for axis in 0..<2 {
      let reach = (x[1].shape[axis + 2] - 1) * Dim(dilations[axis]) + 1
      let room = x[0].shape[axis + 2] + Dim(padsBegin[axis]) + Dim(padsEnd[axis]) - reach
      spatial.append(room.floorDivided(by: Dim(strides[axis])) + 1)
      try expectEqual(spatial[axis], x[2].shape[axis + 2], "size of the result and of offsets")
    }
    return [x[0].with(shape: [x[0].shape[0], x[1].shape[0]] + spatial)]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    let (shape, kernel, outputs) = (x[0].shape, x[1].shape, Array(x[2].shape[2...]))
    let taps = kernel[2] * kernel[3]
    guard kernel[0] % groups == 0, shape[1] % offsetGroups == 0, shape[1] == kernel[1] * groups,
      x[2].shape[1] == taps * 2 * offsetGroups, x[2].shape[0] == shape[0],
      x.count < 4 || x[3].shape == [shape[0], taps * offsetGroups] + outputs
    else { throw evaluationError("APUS-V-0202", "operands \(x.map(\.shape)) do not fit") }
    let (values, weights, offsets) = (x[0].doubles, x[1].doubles, x[2].doubles)
    let mask = x.count > 3 ? x[3].doubles : nil
    let places = outputs[0] * outputs[1]
    let perGroup = kernel[0] / groups
    let channelsPerOffset = shape[1] / offsetGroups
    var result = [Double](repeating: 0, count: shape[0] * kernel[0] * places)
    var column = [Double](repeating: 0, count: shape[1] * taps)
    for batch in 0..<shape[0] {
      for place in 0..<places {
        for channel in 0..<shape[1] {
          let group = channel / channelsPerOffset
          let plane = (batch * shape[1] + channel) * shape[2] * shape[3]
          for tap in 0..<taps {
            let slot = ((batch * offsetGroups + group) * taps + tap)
            let y =
              Double(place / outputs[1] &* strides[0] &- padsBegin[0] &+ tap / kernel[3] &* dilations[0])
              + offsets[slot * 2 * places + place]
            let x =
              Double(place % outputs[1] &* strides[1] &- padsBegin[1] &+ tap % kernel[3] &* dilations[1])
              + offsets[(slot * 2 + 1) * places + place]
            let sample = Self.bilinear(y, x, shape[2], shape[3]) { values[plane + $0] }
            column[channel * taps + tap] = sample * (mask?[slot * places + place] ?? 1)
          }
        }
        for output in 0..<kernel[0] {
          let start = output / perGroup * kernel[1] * taps
          let row = output * kernel[1] * taps
          var sum = 0.0
          for index in 0..<kernel[1] * taps { sum += weights[row + index] * column[start + index] }
          result[(batch * kernel[0] + output) * places + place] = sum
        }
      }
    }
    return [HostTensor(x[0].dtype, [shape[0], kernel[0]] + outputs, doubles: result)]
  }

  /// The value at a fractional place, with zeros outside.
  private static func bilinear(
    _ y: Double, _ x: Double, _ height: Int, _ width: Int, _ at: (Int) -> Double
  ) -> Double {
    guard y > -1, x > -1, y < Double(height), x < Double(width) else { return 0 }
    let (top, left) = (Int(y.rounded(.down)), Int(x.rounded(.down)))
    var sum = 0.0
    for row in top...top + 1 where row >= 0 && row < height {
      for column in left...left + 1 where column >= 0 && column < width {
        sum += (1 - (y - Double(row)).magnitude) * (1 - (x - Double(column)).magnitude) * at(row * width + column)
      }
    }
    return sum
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    guard let channels = x[0].type.shape[1].constantValue, let kernel = x[1].type.constantShape,
      kernel.allSatisfy({ $0 > 0 }), channels % offsetGroups == 0, kernel[0] % groups == 0,
      channels == kernel[1] * groups
    else { return nil }
    let work: DType = x[0].type.dtype == .f64 ? .f64 : .f32
    return [
      Operand(results[0]) { coordinates, arena in
        let inner = [kernel[1], kernel[2], kernel[3]].map { arena.makeVariable(Dim($0)) }
        let group = arena.quotient(coordinates[1], Dim(kernel[0] / groups))
        let channel = group * Dim(kernel[1]) + inner[0].dim
        let tap = inner[1].dim * Dim(kernel[3]) + inner[2].dim
        let slot = arena.quotient(channel, Dim(channels / offsetGroups)) * Dim(kernel[2] * kernel[3]) + tap
        let place = Array(coordinates[2...])
        let at = (0..<2).map { axis in
          let base =
            place[axis] * Dim(strides[axis]) - Dim(padsBegin[axis]) + inner[axis + 1].dim * Dim(dilations[axis])
          let offset = x[2].at([coordinates[0], slot * 2 + Dim(axis)] + place, arena)
          return arena.binary(.add, arena.cast(arena.index(base), to: work), arena.cast(offset, to: work))
        }
        var sample = Self.bilinear(x[0], [coordinates[0], channel], at, arena, work)
        if x.count > 3 {
          let mask = arena.cast(x[3].at([coordinates[0], slot] + place, arena), to: work)
          sample = arena.binary(.mul, sample, mask)
        }
        let weight = arena.cast(x[1].at([coordinates[1]] + inner.map(\.dim), arena), to: work)
        let sum = arena.reduce(.sum, over: inner, arena.binary(.mul, weight, sample))
        return arena.cast(sum, to: x[0].type.dtype)
      }
    ]
  }

  /// The element at a fractional place of a plane, with zeros outside.
  private static func bilinear(
    _ x: Operand, _ plane: [Dim], _ at: [Expr], _ arena: ExprArena, _ work: DType
  ) -> Expr {
    let (zero, one) = (arena.constant(0.0, work), arena.constant(1.0, work))
    // The two neighbours along each axis, with their weights: 0 outside.
    let neighbours = at.enumerated().map { axis, position in
      let size = x.type.shape[axis + 2]
      let floor = arena.unary(.floor, position)
      let rest = arena.binary(.sub, position, floor)
      let low = arena.cast(floor, to: .i64)
      return [(0, arena.binary(.sub, one, rest)), (1, rest)].map { step, weight in
        let index = arena.binary(.add, low, arena.constant(Int64(step), .i64))
        let isBefore = arena.binary(.less, index, arena.constant(Int64(0), .i64))
        let isOutside = arena.binary(.or, isBefore, arena.binary(.greater_equal, index, arena.index(size)))
        return (place: arena.clamped(index, in: size), weight: arena.select(isOutside, zero, weight))
      }
    }
    var sum = zero
    for row in neighbours[0] {
      for column in neighbours[1] {
        let value = arena.cast(x.at(plane + [row.place, column.place], arena), to: work)
        sum = arena.binary(.add, sum, arena.binary(.mul, arena.binary(.mul, row.weight, column.weight), value))
      }
    }
    return sum
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim {
    guard let kernel = x[1].tensor, let result = results[0].tensor else { return 0 }
    return result.elementCount * Dim.product(kernel.shape[1...]) * 2
  }
}
