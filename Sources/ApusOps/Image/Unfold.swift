package import ApusCore
package import ApusGraph
package import ApusKernel

/// Puts pooled maxima back at the places they came from; everything else is zero.
///
/// - Shapes: x `[N, C, p…]`, indices of x's shape → `[N, C, sizes…]`; indices are linear in the whole result.
/// - Types: x numeric; indices i64.
/// - Source: ONNX MaxUnpool-22.
package struct MaxUnpool: TensorOperation {
  package let sizes: [Dim]

  package init(sizes: [Dim]) { self.sizes = sizes }

  package init(name: String, attributes: Attributes) throws(GraphError) { sizes = try attributes.dims("sizes") }

  package var name: String { "max_unpool" }
  package var attributes: Attributes { ["sizes": .dims(sizes)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 2...2)
    try expect(x[0].dtype != .string, x[0], operand: 0, is: "numeric")
    try expectIndices(x[1], "indices")
    guard x[0].rank == sizes.count + 2, x[1].rank == x[0].rank else {
      throw shapeError("APUS-S-0202", "x \(x[0]), indices \(x[1]) and \(sizes.count) sizes do not fit")
    }
    for (a, b) in zip(x[0].shape, x[1].shape) { try expectEqual(a, b, "sizes of x and indices") }
    return [x[0].with(shape: Array(x[0].shape[..<2]) + sizes)]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    guard let sizes = knownInts(sizes), sizes.allSatisfy({ $0 >= 0 }), x[0].shape == x[1].shape else {
      throw evaluationError("APUS-V-0202", "sizes \(self.sizes) or indices \(x[1].shape) do not fit x \(x[0].shape)")
    }
    try checkSize(Array(x[0].shape[..<2]) + sizes)
    let blank = HostTensor(x[0].dtype, Array(x[0].shape[..<2]) + sizes)
    var starts: [Int] = []
    for index in x[1].ints { starts.append(try normalized(index, blank.elementCount)) }
    return [ScatterReduction.none.scatter(blank, x[0], starts: starts, block: 1)]
  }
}

/// Adds overlapping blocks into an image: the transpose of cutting an image into sliding blocks.
///
/// - Shapes: x `[N, C · Π block, L]` with L the count of block positions → `[N, C, image…]`.
/// - Types: numeric; floats are added in f64.
/// - Throws: ``EvaluationError`` `APUS-V-0202` when L is not the count that the sizes give.
/// - Source: ONNX Col2Im-18.
package struct Col2Im: TensorOperation {
  package let image: [Dim]
  package let block: [Int]
  package let strides: [Int]
  package let dilations: [Int]
  package let padsBegin: [Int]
  package let padsEnd: [Int]

  package init(
    image: [Dim], block: [Int], strides: [Int], dilations: [Int], padsBegin: [Int], padsEnd: [Int]
  ) {
    self.image = image
    self.block = block
    self.strides = strides
    self.dilations = dilations
    self.padsBegin = padsBegin
    self.padsEnd = padsEnd
  }

  package init(name: String, attributes a: Attributes) throws(GraphError) {
    image = try a.dims("image")
    block = try a.ints("block")
    strides = try a.ints("strides")
    dilations = try a.ints("dilations")
    padsBegin = try a.ints("pads_begin")
    padsEnd = try a.ints("pads_end")
  }

  package var name: String { "col2im" }
  package var attributes: Attributes {
    [
      "image": .dims(image), "block": .ints(block), "strides": .ints(strides), "dilations": .ints(dilations),
      "pads_begin": .ints(padsBegin), "pads_end": .ints(padsEnd),
    ]
  }

  /// How many positions a block takes along each axis.
  private var positions: [Dim] {
    image.indices.map { axis in
      let reach = Dim(saturatingMultiply(dilations[axis], saturatingAdd(block[axis], -1))) + 1
      return (image[axis] + Dim(padsBegin[axis]) + Dim(padsEnd[axis]) - reach).floorDivided(by: Dim(strides[axis])) + 1
    }
  }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    try expectRank(x[0], 3...3, "x")
    let lists = [block, strides, dilations, padsBegin, padsEnd]
    guard lists.allSatisfy({ $0.count == image.count }), block.allSatisfy({ $0 > 0 }), strides.allSatisfy({ $0 > 0 }),
      dilations.allSatisfy({ $0 > 0 }), !image.isEmpty, x[0].dtype.isNumeric
    else { throw shapeError("APUS-S-0206", "block, strides, dilations or pads do not fit \(image.count) axes") }
    let volume = block.reduce(1, saturatingMultiply)
    if let rows = x[0].shape[1].constantValue, rows % volume != 0 {
      throw shapeError("APUS-S-0205", "\(rows) rows are no multiple of the block's \(volume) elements")
    }
    try expectEqual(x[0].shape[2], Dim.product(positions), "columns and block positions")
    return [x[0].with(shape: [x[0].shape[0], x[0].shape[1].floorDivided(by: Dim(volume))] + image)]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    let volume = block.reduce(1, saturatingMultiply)
    guard let image = knownInts(image), let positions = knownInts(positions), image.allSatisfy({ $0 >= 0 }),
      positions.allSatisfy({ $0 >= 0 }), x[0].shape[1] % volume == 0,
      x[0].shape[2] == positions.reduce(1, saturatingMultiply)
    else { throw evaluationError("APUS-V-0202", "x \(x[0].shape) does not hold the blocks of \(self.image)") }
    try checkSize([x[0].shape[0], x[0].shape[1]] + image)
    let planes = x[0].shape[0] * (x[0].shape[1] / volume)
    if planes == 0 { return [HostTensor(x[0].dtype, [x[0].shape[0], x[0].shape[1] / volume] + image)] }
    let size = image.reduce(1, saturatingMultiply)
    let strides = HostTensor.strides(of: image)
    // Target of every (block element, position) in one plane; −1 in the padding.
    var targets: [Int] = []
    forEachCoordinate(block) { element in
      forEachCoordinate(positions) { position in
        var target = 0
        for axis in image.indices {
          let at = position[axis] &* self.strides[axis] &- padsBegin[axis] &+ element[axis] &* dilations[axis]
          if at < 0 || at >= image[axis] {
            target = -1
            break
          }
          target += at * strides[axis]
        }
        targets.append(target)
      }
    }
    let values = x[0].doubles
    var result = [Double](repeating: 0, count: planes * size)
    for plane in 0..<planes {
      for (source, target) in targets.enumerated() where target >= 0 {
        result[plane * size + target] += values[plane * targets.count + source]
      }
    }
    return [HostTensor(x[0].dtype, [x[0].shape[0], x[0].shape[1] / volume] + image, doubles: result)]
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let (blocks, dtype, positions) = (x[0], x[0].type.dtype, positions)
    return [
      Operand(results[0]) { coordinates, arena in
        // Each element of the image gathers the blocks that reach it.
        let taps = block.map { arena.makeVariable(Dim($0)) }
        var conditions: [Expr] = []
        var places: [Dim] = []
        for axis in image.indices {
          let start = coordinates[axis + 2] + Dim(padsBegin[axis]) - taps[axis].dim * Dim(dilations[axis])
          let place = arena.quotient(start, Dim(strides[axis]))
          if strides[axis] > 1 {
            let rest = arena.index(start - place * Dim(strides[axis]))
            conditions.append(arena.binary(.equal, rest, arena.constant(Int64(0), .i64)))
          }
          conditions += arena.insideConditions(place, positions[axis])
          places.append(Dim.clamped(place, below: positions[axis]))
        }
        let volume = Dim(block.reduce(1, saturatingMultiply))
        let row = coordinates[1] * volume + arena.flat(.coordinates(taps.map(\.dim)), in: block.map { Dim($0) })
        var element = blocks.at([coordinates[0], row, arena.flat(.coordinates(places), in: positions)], arena)
        if let isInside = arena.all(conditions) {
          element = arena.select(isInside, element, arena.constant(Int64(0), dtype))
        }
        return arena.cast(arena.reduce(.sum, over: taps, element), to: dtype)
      }
    ]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { x[0].tensor?.elementCount ?? 0 }
}
