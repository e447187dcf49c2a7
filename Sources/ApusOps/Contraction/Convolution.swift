package import ApusCore
package import ApusGraph
package import ApusKernel

/// Convolution without bias over 1 to 3 spatial axes, in groups.
///
/// - Shapes: nchw: x `[N, C, S…]`, w `[O, C/groups, K…]` → `[N, O, S'…]`; nhwc: x `[N, S…, C]`, w `[O, K…, C/groups]` →
///   `[N, S'…, O]`.
/// - Types: numeric, one type; f16 and bf16 accumulate in f32; integers wrap.
/// - Source: ONNX Conv-22.
package struct Convolution: TensorOperation {
  package let window: WindowGeometry
  package let groups: Int
  package let layout: ImageLayout

  package init(_ window: WindowGeometry, groups: Int = 1, layout: ImageLayout = .nchw) {
    self.window = window
    self.groups = groups
    self.layout = layout
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    window = try WindowGeometry(attributes)
    groups = try attributes.int("groups")
    layout = try ImageLayout(attributes)
    if groups < 1 { throw GraphError("APUS-G-0024", "\(name): groups must be at least 1, not \(groups)") }
  }

  package var name: String { "conv" }
  package var attributes: Attributes {
    Attributes(window.attributes + [("groups", .int(groups)), ("layout", .string(layout.rawValue))])
  }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 2...2)
    try expectSameDType(x)
    try expect(x[0].dtype.isNumeric, x[0], operand: 0, is: "a numeric tensor")
    let rank = window.rank + 2
    guard window.rank >= 1, x[0].rank == rank, x[1].rank == rank else {
      throw shapeError("APUS-S-0043", "x and w of rank \(rank) are expected: \(x[0]) and \(x[1])")
    }
    let channels = x[0].shape[layout.channelAxis(rank: rank)]
    let perGroup = x[1].shape[layout.channelAxis(rank: rank)]
    let outputs = x[1].shape[0]
    if !(channels - perGroup * Dim(groups)).range.contains(0) || outputs.remainder(by: Dim(groups)).range.lower > 0 {
      throw shapeError(
        "APUS-S-0044", "channels do not fit: x \(x[0]), w \(x[1]), \(groups) groups, layout \(layout.rawValue)")
    }
    var spatial: [Dim] = []
    for (axis, index) in layout.spatialAxes(rank: rank).enumerated() {
      guard let size = window.outputSize(x[0].shape[index], kernel: x[1].shape[index], axis: axis) else {
        throw shapeError("APUS-S-0045", "the kernel \(x[1]) is larger than the padded input \(x[0])")
      }
      spatial.append(size)
    }
    return [x[0].with(shape: layout.assemble(x[0].shape[0], outputs, spatial))]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    if shape.contains(0) { return [HostTensor(dtype, shape)] }
    if dtype.isFloat {
      let results = accumulate(x, x[0].doubles, x[1].doubles, 0.0, shape) { $0 += $1 * $2 }
      return [HostTensor(dtype, shape, doubles: results)]
    }
    let results = accumulate(x, x[0].int64s, x[1].int64s, 0, shape) { $0 &+= $1 &* $2 }
    return [HostTensor(dtype, shape, int64s: results)]
  }

  private func accumulate<Element>(
    _ x: [HostTensor], _ data: [Element], _ weights: [Element], _ zero: Element, _ shape: [Int],
    _ add: (inout Element, Element, Element) -> Void
  ) -> [Element] {
    let spatial = layout.spatialAxes(rank: shape.count)
    let source = ImageStrides(x[0].shape, layout)
    let kernel = ImageStrides(x[1].shape, layout)
    let target = ImageStrides(shape, layout)
    let outputs = kernel.batch / groups
    let positions = Array(shape[spatial])
    var results = [Element](repeating: zero, count: shape.reduce(1, *))
    for position in 0..<positions.reduce(1, *) {
      let offsets = window.offsets(
        coordinates(of: position, in: positions), input: Array(x[0].shape[spatial]), kernel: Array(x[1].shape[spatial]))
      for batch in 0..<source.batch {
        for output in 0..<kernel.batch {
          let first = output / max(outputs, 1) * kernel.channels
          var sum = zero
          for channel in 0..<kernel.channels {
            for (tap, offset) in offsets.enumerated() where offset >= 0 {
              add(&sum, data[source.index(batch, first + channel, offset)], weights[kernel.index(output, channel, tap)])
            }
          }
          results[target.index(batch, output, position)] = sum
        }
      }
    }
    return results
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let (input, kernel, output) = (x[0].type.shape, x[1].type.shape, results[0].shape)
    let rank = input.count
    let channelAxis = layout.channelAxis(rank: rank)
    let spatial = Array(layout.spatialAxes(rank: rank))
    let (window, layout, groups) = (window, layout, groups)
    let outputs = kernel[0].floorDivided(by: Dim(groups))
    return [
      Operand(results[0]) { coordinates, arena in
        let channel = arena.makeVariable(kernel[channelAxis])
        let taps = spatial.map { arena.makeVariable(kernel[$0]) }
        let group = groups == 1 ? 0 : arena.quotient(coordinates[channelAxis], outputs)
        var conditions: [Expr] = []
        var source: [Dim] = []
        for (axis, index) in spatial.enumerated() {
          let place = window.source(coordinates[index], taps[axis].dim, axis)
          let inside = window.staysInside(axis, input: input[index], kernel: kernel[index], output: output[index])
          conditions += arena.insideConditions(place, input[index], below: !inside.below, above: !inside.above)
          source.append(inside.below && inside.above ? place : Dim.clamped(place, below: input[index]))
        }
        let value = x[0].at(
          layout.assemble(coordinates[0], group * kernel[channelAxis] + channel.dim, source), arena)
        let weight = x[1].at(layout.assemble(coordinates[channelAxis], channel.dim, taps.map(\.dim)), arena)
        var product = arena.binary(.mul, value, weight)
        if let inside = arena.all(conditions) {
          product = arena.select(inside, product, arena.constant(Int64(0), results[0].dtype))
        }
        return arena.cast(arena.reduce(.sum, over: [channel] + taps, product), to: results[0].dtype)
      }
    ]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim {
    guard x.count == 2, let kernel = x[1].tensor, let result = results.first?.tensor, let outputs = kernel.shape.first
    else { return 0 }
    return 2 * result.elementCount * kernel.elementCount.floorDivided(by: outputs)
  }

  package static let samples: [Sample] = {
    let plain = WindowGeometry(rank: 2)
    let padded = WindowGeometry(strides: [2, 1], padsBegin: [1, 2], padsEnd: [1, 0], dilations: [1, 2])
    let line = WindowGeometry(strides: [3], padsBegin: [2], padsEnd: [1], dilations: [1])
    let sizes = ["B": 1...2, "S": 5...8]
    return [
      Sample(Convolution(plain), "f32[B, 3, S, S]", "f32[4, 3, 3, 3]", where: sizes),
      Sample(Convolution(padded), "f32[B, 3, S, 6]", "f32[4, 3, 3, 2]", where: sizes),
      Sample(Convolution(padded, groups: 2, layout: .nhwc), "f32[B, S, 6, 4]", "f32[6, 3, 2, 2]", where: sizes),
      Sample(Convolution(padded, groups: 6, layout: .nhwc), "f32[B, S, 6, 6]", "f32[6, 3, 2, 1]", where: sizes),
      Sample(Convolution(padded, groups: 4), "i32[B, 4, S, 6]", "i32[4, 1, 3, 2]", where: sizes),
      Sample(Convolution(line), "f16[B, 2, S]", "f16[3, 2, 4]", where: sizes),
      Sample(Convolution(line, layout: .nhwc), "f64[B, S, 2]", "f64[3, 4, 2]", where: sizes),
      Sample(Convolution(WindowGeometry(rank: 3)), "f32[1, 2, 3, 4, S]", "f32[2, 2, 2, 3, 2]", where: sizes),
    ]
  }()
}

/// Strides of a tensor of an image layout, its spatial axes taken as one.
struct ImageStrides {
  let batch: Int
  let channels: Int
  private let batchStride: Int
  private let channelStride: Int
  private let spatialStride: Int

  init(_ shape: [Int], _ layout: ImageLayout) {
    batch = shape[0]
    channels = shape[layout.channelAxis(rank: shape.count)]
    let spatial = shape[layout.spatialAxes(rank: shape.count)].reduce(1, *)
    batchStride = channels * spatial
    channelStride = layout == .nchw ? spatial : 1
    spatialStride = layout == .nchw ? 1 : channels
  }

  func index(_ batch: Int, _ channel: Int, _ position: Int) -> Int {
    batch * batchStride + channel * channelStride + position * spatialStride
  }
}
