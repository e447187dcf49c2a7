import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusPlan

/// Sizes of a one- or two-dimensional NHWC window operation; one dimension is width with a height of 1.
struct WindowForm {
  var batch: Dim
  var height: Dim
  var width: Dim
  var channels: Int
  var outHeight: Dim
  var outWidth: Dim
  var kernel: (Int, Int)
  var strides: (Int, Int)
  var dilations: (Int, Int)
  var padsBegin: (Int, Int)
  var padsEnd: (Int, Int)

  /// nil when the node is not NHWC, has another rank, or unknown channels.
  init?(_ node: Node, in graph: Graph, kernel: [Int]) {
    guard let x = node.inputs.first.map(graph.tensorType), let y = node.outputs.first.map(graph.tensorType),
      x.dtype == .f32, x.rank == 3 || x.rank == 4, node.op.attributes["layout"] == .string("nhwc"),
      let channels = x.shape[x.rank - 1].constantValue,
      let strides = try? node.op.attributes.ints("strides"),
      let dilations = try? node.op.attributes.ints("dilations"),
      let begin = try? node.op.attributes.ints("pads_begin"), let end = try? node.op.attributes.ints("pads_end"),
      kernel.count == x.rank - 2
    else { return nil }
    let isFlat = x.rank == 3
    func pair(_ values: [Int], _ filler: Int) -> (Int, Int) { isFlat ? (filler, values[0]) : (values[0], values[1]) }
    batch = x.shape[0]
    height = isFlat ? 1 : x.shape[1]
    width = x.shape[x.rank - 2]
    self.channels = channels
    outHeight = isFlat ? 1 : y.shape[1]
    outWidth = y.shape[y.rank - 2]
    self.kernel = pair(kernel, 1)
    self.strides = pair(strides, 1)
    self.dilations = pair(dilations, 1)
    padsBegin = pair(begin, 0)
    padsEnd = pair(end, 0)
  }

  /// Fields that all window templates share, as C initialisers over `P(0)` … `P(4)`.
  var fields: String {
    """
    .N = P(0), .H = P(1), .W = P(2), .C = \(channels), .OH = P(3), .OW = P(4), .KH = \(kernel.0), .KW = \(kernel.1), \
    .SH = \(strides.0), .SW = \(strides.1), .DH = \(dilations.0), .DW = \(dilations.1), .PT = \(padsBegin.0), \
    .PL = \(padsBegin.1)
    """
  }

  var parameters: [Dim] { [batch, height, width, outHeight, outWidth] }
  var pixels: Dim { batch * outHeight * outWidth }
  var taps: Int { kernel.0 * kernel.1 }
}

/// NHWC convolution in f32 with constant weights, as an implicit matrix product.
struct ConvTemplate: KernelTemplate {
  let cpu: CPUTarget
  let name = "conv"

  func refusal(_ node: Node, in graph: Graph) -> String? {
    guard node.op.name == "conv" else { return "it is no convolution" }
    guard let weights = graph[node.inputs[1]].constant else { return "the weights are not constant" }
    if WindowForm(node, in: graph, kernel: Array(weights.shape.dropFirst().dropLast())) == nil {
      return "it is not an f32 NHWC convolution of one or two dimensions"
    }
    return nil
  }

  /// A way to compute a convolution.
  private enum Way {
    case direct(GemmBlock)
    case transformed(Winograd)

    var name: String {
      switch self {
      case .direct(let block): "conv \(block.rows)x\(block.columns)"
      case .transformed(let winograd): winograd.name
      }
    }
  }

  /// The ways that there are, the preferred one first.
  private func ways(_ form: WindowForm, _ weights: HostTensor, _ groups: Int) -> [Way] {
    let outputs = weights.shape[0]
    let blocks = GemmBlock.all(cpu: cpu, columns: outputs / groups)
    let chosen = Winograd.choose(form, outputs: outputs, groups: groups, blocks[0])
    var ways = blocks.map { Way.direct($0) }
    for winograd in Winograd.all(form, outputs: outputs, groups: groups, blocks[0]) {
      if winograd.tile == chosen?.tile {
        ways.insert(.transformed(winograd), at: 0)
      } else {
        ways.append(.transformed(winograd))
      }
    }
    return ways
  }

  func tactics(for region: AnchorRegion) -> [TacticCandidate] {
    guard let weights = region.graph[region.node.inputs[1]].constant,
      let groups = try? region.node.op.attributes.int("groups"), groups > 0,
      let form = WindowForm(region.node, in: region.graph, kernel: Array(weights.shape.dropFirst().dropLast()))
    else { return [] }
    let depth = Double(form.taps * form.channels / groups)
    return Grain.tactics(
      ways(form, weights, groups).map { way in
        switch way {
        case .direct(let block):
          let columns = weights.shape[0] / groups
          let rows = Double(form.pixels.estimate)
          return (way.name, Double(groups) * block.microseconds(rows: rows, columns: columns, depth: depth))
        case .transformed(let winograd): return (way.name, winograd.microseconds)
        }
      })
  }

  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) throws(BuildError) {
    let (graph, node) = (region.graph, region.node)
    guard let weights = graph[node.inputs[1]].constant, let groups = try? node.op.attributes.int("groups"),
      let form = WindowForm(node, in: graph, kernel: Array(weights.shape.dropFirst().dropLast()))
    else { return }
    let outputs = weights.shape[0]
    let (perGroup, outPerGroup) = (form.channels / groups, outputs / groups)
    let ways = ways(form, weights, groups)
    let way = ways.first { $0.name == region.tactic.map(Grain.base) } ?? ways[0]
    let block: GemmBlock
    switch way {
    case .transformed(let winograd): return winograd.emit(region, weights, Grain(of: region), into: &builder)
    case .direct(let chosen): block = chosen
    }
    let depth = form.taps * perGroup
    // Weights are [O, kh, kw, C/g]: a row of the sum is a (tap, channel) pair.
    let packed = block.pack(weights, batches: groups, depth: depth, columns: outPerGroup) { group, k, column in
      (group * outPerGroup + column) * depth + k
    }
    // How conv.h finds rows: a pointer per tap, a pointer per kernel row (with padded rows copied), or copied rows.
    let pointsAtTaps = perGroup >= 16 || form.taps == 1
    let pointsAtRows = groups == 1 && form.dilations.1 == 1
    let copied = depth * 4
    let perRow = pointsAtTaps ? form.taps * 8 : pointsAtRows ? copied + form.kernel.0 * 8 : copied
    let chunk = min(block.chunk(perGroup * form.kernel.0 * (pointsAtTaps ? 1 : form.kernel.1)), 64)
    let scratch = chunk * block.rows * perRow + copied
    let zeros = builder.addConstant(HostTensor(.f32, [perGroup]), name: "zeros")
    let call = TemplateCall(
      texts: [KernelText.gemm, KernelText.conv], macros: block.macros,
      buffers: [builder.slot(node.inputs[0]), builder.addConstant(packed, name: graph[node.inputs[1]].name), zeros],
      parameters: form.parameters,
      call: """
          const apus_conv_args g = {.x = buffers[0], .w = buffers[1], .zero = buffers[2], .ctx = CTX, \(form.fields),
            .O = \(outputs), .groups = \(groups)};
          KERNEL_NAME_conv(&g, block, blockCount, scratch);

        """,
      batches: 1, rows: form.pixels, columns: Dim(outputs))
    call.emit(
      region,
      blocks: block.blocks(
        batches: Dim(groups), rows: form.pixels, columns: Dim(outPerGroup), depth: Dim(depth), Grain(of: region)),
      scratchBytes: Dim(scratch), tactic: Grain(of: region).name(way.name), into: &builder)
  }
}

/// NHWC depthwise convolution in f32 with constant weights.
struct DepthwiseTemplate: KernelTemplate {
  let cpu: CPUTarget
  let name = "depthwise"

  func refusal(_ node: Node, in graph: Graph) -> String? {
    guard node.op.name == "conv" else { return "it is no convolution" }
    guard let weights = graph[node.inputs[1]].constant else { return "the weights are not constant" }
    guard let form = WindowForm(node, in: graph, kernel: Array(weights.shape.dropFirst().dropLast())),
      let groups = try? node.op.attributes.int("groups")
    else { return "it is not an f32 NHWC convolution of one or two dimensions" }
    return groups == form.channels && groups > 1 ? nil : "it is not depthwise"
  }

  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) throws(BuildError) {
    let (graph, node) = (region.graph, region.node)
    guard let weights = graph[node.inputs[1]].constant,
      let form = WindowForm(node, in: graph, kernel: Array(weights.shape.dropFirst().dropLast()))
    else { return }
    let outputs = weights.shape[0]
    let taps = form.taps
    let byTap = weights.gathering(
      (0..<taps * outputs).map { ($0 % outputs) * taps + $0 / outputs }, shape: [taps, outputs])
    let call = TemplateCall(
      texts: [KernelText.depthwise],
      buffers: [builder.slot(node.inputs[0]), builder.addConstant(byTap, name: graph[node.inputs[1]].name)],
      parameters: form.parameters,
      call: """
          const apus_depthwise_args g = {.x = buffers[0], .w = buffers[1], .ctx = CTX, \(form.fields),
            .multiplier = \(outputs / form.channels)};
          KERNEL_NAME_depthwise(&g, block, blockCount);

        """,
      batches: 1, rows: form.pixels, columns: Dim(outputs))
    let work = 2 * form.pixels * Dim(outputs * (taps + 4))
    let units = form.batch * form.outHeight * Dim((outputs + 127) / 128)
    call.emit(
      region, blocks: Dim.minimum(Dim.minimum(Dim.maximum(work.ceilDivided(by: 200_000), 1), units), 64),
      scratchBytes: 0, tactic: "depthwise", into: &builder)
  }
}
