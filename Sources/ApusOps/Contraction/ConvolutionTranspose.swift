package import ApusCore
package import ApusGraph
package import ApusKernel

/// Transposed convolution without bias over 1 to 3 spatial axes, in groups: the gradient of ``Convolution`` with respect
/// to its input.
///
/// - Shapes: nchw: x `[N, C, S…]`, w `[C, O/groups, K…]` → `[N, O, S'…]`; nhwc: x `[N, S…, C]`, w `[C, K…, O/groups]` →
///   `[N, S'…, O]`; S' = stride·(S−1) + dilation·(K−1) + 1 + output padding − pads.
/// - Types: numeric, one type; f16 and bf16 accumulate in f32; integers wrap.
/// - Source: ONNX ConvTranspose-22.
package struct ConvolutionTranspose: TensorOperation {
  package let window: WindowGeometry
  package let outputPadding: [Int]
  package let groups: Int
  package let layout: ImageLayout

  package init(_ window: WindowGeometry, outputPadding: [Int], groups: Int = 1, layout: ImageLayout = .nchw) {
    self.window = window
    self.outputPadding = outputPadding
    self.groups = groups
    self.layout = layout
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    window = try WindowGeometry(attributes)
    outputPadding = try attributes.ints("output_padding")
    groups = try attributes.int("groups")
    layout = try ImageLayout(attributes)
    if groups < 1 { throw GraphError("APUS-G-0024", "\(name): groups must be at least 1, not \(groups)") }
    if outputPadding.count != window.rank || !outputPadding.allSatisfy({ (0...1 << 31).contains($0) }) {
      throw GraphError(
        "APUS-G-0025", "\(name): output_padding \(outputPadding) needs one amount of at least 0 per axis")
    }
  }

  package var name: String { "conv_transpose" }
  package var attributes: Attributes {
    Attributes(
      window.attributes + [
        ("output_padding", .ints(outputPadding)), ("groups", .int(groups)), ("layout", .string(layout.rawValue)),
      ])
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
    if !(channels - x[1].shape[0]).range.contains(0) || channels.remainder(by: Dim(groups)).range.lower > 0 {
      throw shapeError(
        "APUS-S-0044", "channels do not fit: x \(x[0]), w \(x[1]), \(groups) groups, layout \(layout.rawValue)")
    }
    var spatial: [Dim] = []
    for (axis, index) in layout.spatialAxes(rank: rank).enumerated() {
      let pads = Dim(window.padsBegin[axis]) + Dim(window.padsEnd[axis]) - Dim(outputPadding[axis])
      let size =
        Dim(window.strides[axis]) * (x[0].shape[index] - 1) + window.extent(x[1].shape[index], axis) - pads
      if size.range.upper < 1 { throw shapeError("APUS-S-0046", "pads leave nothing of the result of \(x[0])") }
      spatial.append(size)
    }
    let outputs = x[1].shape[layout.channelAxis(rank: rank)] * Dim(groups)
    return [x[0].with(shape: layout.assemble(x[0].shape[0], outputs, spatial))]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    if shape.contains(0) || x[0].elementCount == 0 { return [HostTensor(dtype, shape)] }
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
    let perGroup = source.channels / groups
    let positions = Array(x[0].shape[spatial])
    var results = [Element](repeating: zero, count: shape.reduce(1, *))
    for position in 0..<positions.reduce(1, *) {
      let offsets = window.offsets(
        coordinates(of: position, in: positions), input: Array(shape[spatial]), kernel: Array(x[1].shape[spatial]))
      for batch in 0..<source.batch {
        for channel in 0..<source.channels {
          let value = data[source.index(batch, channel, position)]
          let first = channel / max(perGroup, 1) * kernel.channels
          for output in 0..<kernel.channels {
            for (tap, offset) in offsets.enumerated() where offset >= 0 {
              add(
                &results[target.index(batch, first + output, offset)], value,
                weights[kernel.index(channel, output, tap)])
            }
          }
        }
      }
    }
    return results
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let (input, kernel) = (x[0].type.shape, x[1].type.shape)
    let rank = input.count
    let channelAxis = layout.channelAxis(rank: rank)
    let spatial = Array(layout.spatialAxes(rank: rank))
    let (window, layout, groups) = (window, layout, groups)
    let perGroup = input[channelAxis].floorDivided(by: Dim(groups))
    return [
      Operand(results[0]) { coordinates, arena in
        let channel = arena.makeVariable(perGroup)
        let taps = spatial.map { arena.makeVariable(kernel[$0]) }
        let group = groups == 1 ? 0 : arena.quotient(coordinates[channelAxis], kernel[channelAxis])
        let output = coordinates[channelAxis] - group * kernel[channelAxis]
        var conditions: [Expr] = []
        var source: [Dim] = []
        for (axis, index) in spatial.enumerated() {
          let stride = Dim(window.strides[axis])
          let place =
            coordinates[index] + Dim(window.padsBegin[axis]) - taps[axis].dim * Dim(window.dilations[axis])
          let from = place.floorDivided(by: stride)
          if stride != 1 { conditions.append(arena.binary(.equal, arena.index(from * stride), arena.index(place))) }
          conditions += arena.insideConditions(from, input[index])
          source.append(Dim.clamped(from, below: input[index]))
        }
        let from = group * perGroup + channel.dim
        let value = x[0].at(layout.assemble(coordinates[0], from, source), arena)
        let weight = x[1].at(layout.assemble(from, output, taps.map(\.dim)), arena)
        var product = arena.binary(.mul, value, weight)
        if let inside = arena.all(conditions) {
          product = arena.select(inside, product, arena.constant(Int64(0), results[0].dtype))
        }
        return arena.cast(arena.reduce(.sum, over: [channel] + taps, product), to: results[0].dtype)
      }
    ]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim {
    guard x.count == 2, let input = x[0].tensor, let kernel = x[1].tensor, let channels = kernel.shape.first else {
      return 0
    }
    return 2 * input.elementCount * kernel.elementCount.floorDivided(by: channels)
  }

  package static let samples: [Sample] = {
    let plain = WindowGeometry(rank: 2)
    let padded = WindowGeometry(strides: [2, 1], padsBegin: [1, 2], padsEnd: [1, 0], dilations: [1, 2])
    let line = WindowGeometry(strides: [3], padsBegin: [2], padsEnd: [1], dilations: [1])
    let sizes = ["B": 1...2, "S": 2...5]
    return [
      Sample(ConvolutionTranspose(plain, outputPadding: [0, 0]), "f32[B, 3, S, S]", "f32[3, 4, 3, 2]", where: sizes),
      Sample(
        ConvolutionTranspose(padded, outputPadding: [1, 0], groups: 2), "f32[B, 4, S, 4]", "f32[4, 3, 3, 2]",
        where: sizes),
      Sample(
        ConvolutionTranspose(padded, outputPadding: [0, 0], groups: 2, layout: .nhwc), "f64[B, S, 4, 4]",
        "f64[4, 3, 2, 3]", where: sizes),
      Sample(ConvolutionTranspose(line, outputPadding: [2]), "i32[B, 2, S]", "i32[2, 3, 4]", where: sizes),
    ]
  }()
}
