package import ApusCore
package import ApusGraph
package import ApusKernel

/// Combines the elements under each window of the spatial axes: maximum, average or p-norm, per channel.
///
/// - Shapes: nchw `[N, C, S…]` or nhwc `[N, S…, C]`; with `ceil_mode` a last window may reach beyond the padded input but
///   must begin before its end.
/// - Types: maximum any numeric type; average and p-norm floats.
/// - Numerics: padding counts as −∞ (maximum) or 0. An average divides by the taps inside the input, or with
///   `count_include_pad` inside the padded input.
/// - Source: ONNX MaxPool-22, AveragePool-22, LpPool-22.
package struct Pool: TensorOperation {
  package enum Kind: String, CaseIterable, Sendable {
    case max, average, lp
  }

  package let kind: Kind
  package let kernel: [Int]
  package let window: WindowGeometry
  package let ceilMode: Bool
  package let countIncludePad: Bool
  /// The p of the p-norm.
  package let p: Int
  package let layout: ImageLayout

  package init(
    _ kind: Kind, kernel: [Int], _ window: WindowGeometry, ceilMode: Bool = false, countIncludePad: Bool = false,
    p: Int = 2, layout: ImageLayout = .nchw
  ) {
    self.kind = kind
    self.kernel = kernel
    self.window = window
    self.ceilMode = ceilMode
    self.countIncludePad = countIncludePad
    self.p = p
    self.layout = layout
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    guard let kind = Kind.allCases.first(where: { "\($0.rawValue)_pool" == name }) else {
      throw GraphError("APUS-G-0011", "no pooling is called '\(name)'")
    }
    self.kind = kind
    window = try WindowGeometry(attributes)
    kernel = try WindowGeometry.kernel(attributes, rank: window.rank)
    ceilMode = try attributes.bool("ceil_mode")
    countIncludePad = try attributes.bool("count_include_pad")
    p = try attributes.int("p")
    layout = try ImageLayout(attributes)
    if p < 1 { throw GraphError("APUS-G-0026", "\(name): p must be at least 1, not \(p)") }
  }

  package static let names = Kind.allCases.map { "\($0.rawValue)_pool" }
  package var name: String { "\(kind.rawValue)_pool" }
  package var attributes: Attributes {
    Attributes(
      [("kernel", .ints(kernel))] + window.attributes + [
        ("ceil_mode", .bool(ceilMode)), ("count_include_pad", .bool(countIncludePad)), ("p", .int(p)),
        ("layout", .string(layout.rawValue)),
      ])
  }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    let accepted = kind == .max ? x[0].dtype.isNumeric : x[0].dtype.isFloat
    try expect(accepted, x[0], operand: 0, is: kind == .max ? "a numeric tensor" : "a float tensor")
    return [try pooledType(x[0], kernel: kernel, window, ceilMode: ceilMode, layout)]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    let walk = PoolWalk(x[0].shape, shape, kernel: kernel, window, layout)
    if dtype.isFloat {
      let values = x[0].doubles
      return [
        HostTensor(dtype, shape, doubles: walk.map { offsets, position in pool(values, offsets, position, walk) })
      ]
    }
    let values = x[0].int64s
    let lowest = dtype.integerBounds.lowest
    let results = walk.map { offsets, _ in
      offsets.reduce(lowest) { $1 < 0 ? $0 : ScalarFunction.max.evaluate($0, values[$1], as: dtype) }
    }
    return [HostTensor(dtype, shape, int64s: results)]
  }

  private func pool(_ values: [Double], _ offsets: [Int], _ position: [Int], _ walk: PoolWalk) -> Double {
    let taken = offsets.lazy.filter { $0 >= 0 }.map { values[$0] }
    switch kind {
    case .max: return taken.reduce(-.infinity) { ScalarFunction.max.evaluate($0, $1) }
    case .average:
      let count = countIncludePad ? walk.paddedTaps(position) : taken.count
      return taken.reduce(0, +) / Double(count)
    case .lp:
      let sum = taken.reduce(0) { $0 + ScalarFunction.pow.evaluate($1.magnitude, Double(p)) }
      return ScalarFunction.pow.evaluate(sum, 1 / Double(p))
    }
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let dtype = results[0].dtype
    let lowering = PoolLowering(x[0].type.shape, results[0].shape, kernel: kernel, window, layout)
    let op = self
    return [
      Operand(results[0]) { coordinates, arena in
        let taps = op.kernel.map { arena.makeVariable(Dim($0)) }
        let place = lowering.place(coordinates, taps.map(\.dim), arena)
        var element = x[0].at(place.source, arena)
        if op.kind == .lp { element = op.powered(element, arena) }
        if let inside = place.inside {
          let outside = op.kind == .max ? arena.lowest(dtype) : arena.constant(0.0, dtype)
          element = arena.select(inside, element, outside)
        }
        let total = arena.reduce(op.kind == .max ? .max : .sum, over: taps, element)
        switch op.kind {
        case .max: return total
        case .lp: return arena.cast(op.rooted(total, arena), to: dtype)
        case .average:
          let count = op.countIncludePad ? lowering.paddedTaps(coordinates) : lowering.insideTaps(coordinates)
          let divisor = arena.cast(arena.index(count), to: arena.type(total))
          return arena.cast(arena.binary(.div, total, divisor), to: dtype)
        }
      }
    ]
  }

  private func powered(_ element: Expr, _ arena: ExprArena) -> Expr {
    if p == 2 { return arena.binary(.mul, element, element) }
    let magnitude = arena.unary(.abs, element)
    return p == 1 ? magnitude : arena.binary(.pow, magnitude, arena.constant(Double(p), arena.type(element)))
  }

  private func rooted(_ sum: Expr, _ arena: ExprArena) -> Expr {
    if p == 1 { return sum }
    return p == 2 ? arena.unary(.sqrt, sum) : arena.binary(.pow, sum, arena.constant(1 / Double(p), arena.type(sum)))
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim {
    Dim(kernel.reduce(1, saturatingMultiply)) * (results.first?.tensor?.elementCount ?? 0)
  }

  package static let samples: [Sample] = {
    let padded = WindowGeometry(strides: [2, 1], padsBegin: [1, 1], padsEnd: [1, 0], dilations: [1, 2])
    let wide = WindowGeometry(strides: [2, 3], padsBegin: [1, 0], padsEnd: [1, 1], dilations: [1, 1])
    let sizes = ["B": 1...2, "S": 5...9]
    var samples: [Sample] = []
    for kind in Kind.allCases {
      samples += [
        Sample(Pool(kind, kernel: [2, 3], WindowGeometry(rank: 2)), "f32[B, 3, S, S]", where: sizes),
        Sample(Pool(kind, kernel: [3, 2], padded, countIncludePad: true), "f32[B, 2, S, 5]", where: sizes),
        Sample(Pool(kind, kernel: [3, 2], wide, ceilMode: true, p: 3), "f16[B, 2, S, 6]", where: sizes),
        Sample(
          Pool(kind, kernel: [3, 2], wide, ceilMode: true, countIncludePad: true, p: 1, layout: .nhwc),
          "f64[B, S, 6, 2]", where: sizes),
        Sample(Pool(kind, kernel: [3, 2], padded, p: 2, layout: .nhwc), "f32[B, S, 6, 19]", where: sizes),
      ]
    }
    samples.append(Sample(Pool(.max, kernel: [3, 2], padded), "i8[B, 2, S, 5]", where: sizes))
    samples.append(Sample(Pool(.max, kernel: [3], WindowGeometry(rank: 1)), "u8[B, 2, S]", where: sizes))
    return samples
  }()
}

extension WindowGeometry {
  /// The `kernel` attribute: one size of at least 1 per axis.
  static func kernel(_ attributes: Attributes, rank: Int) throws(GraphError) -> [Int] {
    let kernel = try attributes.ints("kernel")
    if kernel.count != rank || !kernel.allSatisfy({ (1...1 << 31).contains($0) }) {
      throw GraphError("APUS-G-0027", "kernel \(kernel) needs \(rank) sizes of at least 1")
    }
    return kernel
  }
}

extension Operation {
  /// The type of a pooled image.
  func pooledType(
    _ x: TensorType, kernel: [Int], _ window: WindowGeometry, ceilMode: Bool, _ layout: ImageLayout
  ) throws(ShapeError) -> TensorType {
    let rank = kernel.count + 2
    guard !kernel.isEmpty, x.rank == rank else {
      throw shapeError("APUS-S-0047", "a tensor of rank \(rank) is expected for kernel \(kernel): \(x)")
    }
    var spatial: [Dim] = []
    for (axis, index) in layout.spatialAxes(rank: rank).enumerated() {
      let size = window.outputSize(x.shape[index], kernel: Dim(kernel[axis]), axis: axis, ceilMode: ceilMode)
      guard let size else {
        throw shapeError("APUS-S-0045", "the kernel \(kernel) is larger than the padded input \(x)")
      }
      spatial.append(size)
    }
    return x.with(shape: layout.assemble(x.shape[0], x.shape[layout.channelAxis(rank: rank)], spatial))
  }
}
