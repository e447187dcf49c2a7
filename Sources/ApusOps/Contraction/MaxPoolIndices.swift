package import ApusCore
package import ApusGraph
package import ApusKernel

/// Finds where the maximum under each window is, as an index into the whole flattened operand.
///
/// - Shapes: nchw `[N, C, S…]`; the result has the pooled shape.
/// - Types: numeric → i64.
/// - Numerics: the first of equal maxima. With `storage_order` 1 the spatial part of the index is column-major.
/// - Source: ONNX MaxPool-22, second result.
package struct MaxPoolIndices: TensorOperation {
  package let kernel: [Int]
  package let window: WindowGeometry
  package let ceilMode: Bool
  package let storageOrder: Int

  package init(kernel: [Int], _ window: WindowGeometry, ceilMode: Bool = false, storageOrder: Int = 0) {
    self.kernel = kernel
    self.window = window
    self.ceilMode = ceilMode
    self.storageOrder = storageOrder
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    window = try WindowGeometry(attributes)
    kernel = try WindowGeometry.kernel(attributes, rank: window.rank)
    ceilMode = try attributes.bool("ceil_mode")
    storageOrder = try attributes.int("storage_order")
  }

  package var name: String { "max_pool_indices" }
  package var attributes: Attributes {
    Attributes(
      [("kernel", .ints(kernel))] + window.attributes + [
        ("ceil_mode", .bool(ceilMode)), ("storage_order", .int(storageOrder)),
      ])
  }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    try expect(x[0].dtype.isNumeric, x[0], operand: 0, is: "a numeric tensor")
    return [try pooledType(x[0], kernel: kernel, window, ceilMode: ceilMode, .nchw).with(dtype: .i64)]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (_, shape) = try resultType(for: x)
    let walk = PoolWalk(x[0].shape, shape, kernel: kernel, window, .nchw)
    let indices: [Int]
    if x[0].dtype.isFloat {
      let values = x[0].doubles
      indices = walk.map { offsets, _ in
        winner(offsets) { values[$0] > values[$1] || (values[$0].isNaN && !values[$1].isNaN) }
      }
    } else {
      let values = x[0].int64s
      let dtype = x[0].dtype
      indices = walk.map { offsets, _ in
        winner(offsets) { ScalarFunction.greater.evaluate(values[$0], values[$1], as: dtype) != 0 }
      }
    }
    let spatial = Array(x[0].shape.dropFirst(2))
    return [HostTensor(.i64, shape, int64s: indices.map { Int64(stored($0, spatial)) })]
  }

  private func winner(_ offsets: [Int], _ exceeds: (Int, Int) -> Bool) -> Int {
    var best = -1
    for offset in offsets where offset >= 0 && (best < 0 || exceeds(offset, best)) { best = offset }
    return max(best, 0)
  }

  private func stored(_ index: Int, _ spatial: [Int]) -> Int {
    if storageOrder == 0 { return index }
    let count = spatial.reduce(1, *)
    var result = 0
    for (position, size) in zip(coordinates(of: index % count, in: spatial), spatial).reversed() {
      result = result * size + position
    }
    return index / count * count + result
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let type = x[0].type
    let lowering = PoolLowering(type.shape, results[0].shape, kernel: kernel, window, .nchw)
    let kernel = kernel.map { Dim($0) }
    let columnMajor = storageOrder != 0
    return [
      Operand(results[0]) { coordinates, arena in
        let tap = arena.makeVariable(Dim.product(kernel))
        let place = lowering.place(coordinates, arena.coordinates(.flat(tap.dim), in: kernel), arena)
        var element = x[0].at(place.source, arena)
        if let inside = place.inside { element = arena.select(inside, element, arena.lowest(type.dtype)) }
        let winner = arena.dynamicIndex(arena.reduce(.argmax, over: [tap], element))
        let source = lowering.place(coordinates, arena.coordinates(.flat(winner), in: kernel), arena).source
        if !columnMajor { return arena.index(arena.flat(.coordinates(source), in: type.shape)) }
        let reordered = source.prefix(2) + source.dropFirst(2).reversed()
        let shape = type.shape.prefix(2) + type.shape.dropFirst(2).reversed()
        return arena.index(arena.flat(.coordinates(Array(reordered)), in: Array(shape)))
      }
    ]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim {
    Dim(kernel.reduce(1, saturatingMultiply)) * (results.first?.tensor?.elementCount ?? 0)
  }

  package static let samples: [Sample] = {
    let padded = WindowGeometry(strides: [2, 1], padsBegin: [1, 1], padsEnd: [1, 0], dilations: [1, 2])
    let sizes = ["B": 1...2, "S": 5...9]
    return [
      Sample(MaxPoolIndices(kernel: [2, 3], WindowGeometry(rank: 2)), "f32[B, 3, S, S]", where: sizes),
      Sample(MaxPoolIndices(kernel: [3, 2], padded, storageOrder: 1), "f32[B, 2, S, 5]", where: sizes),
      Sample(MaxPoolIndices(kernel: [3, 2], padded, ceilMode: true), "i8[B, 2, S, 5]", where: sizes),
    ]
  }()
}
