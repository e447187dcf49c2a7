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

  /// Whether each result depends on the pixel at its place alone.
  var isPointwise: Bool {
    taps == 1 && strides == (1, 1) && padsBegin == (0, 0) && outHeight == height && outWidth == width
  }

  var parameters: [Dim] { [batch, height, width, outHeight, outWidth] }
  var pixels: Dim { batch * outHeight * outWidth }
  var taps: Int { kernel.0 * kernel.1 }

  /// Images that cost is reckoned with: the fewest where nothing is said of them.
  var images: Int {
    batch.symbols.allSatisfy { $0.opt != nil } ? batch.estimate : max(1, batch.range.lower)
  }

  /// Elements that are read and written, to reckon with.
  func activations(outputs: Int) -> Double {
    Double(images) * (inputPixels * Double(channels) + outputPixels * Double(outputs))
  }

  /// Pixels of an image that is read, and of one that is written, to reckon with.
  var inputPixels: Double { Double(height.estimate) * Double(width.estimate) }
  var outputPixels: Double { Double(outHeight.estimate) * Double(outWidth.estimate) }
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
    case line(WinogradLine)
    case spread(SpreadConv)

    var name: String {
      switch self {
      case .direct(let block): "conv \(block.rows)x\(block.columns)"
      case .transformed(let winograd): winograd.name
      case .line(let line): line.name
      case .spread(let spread): spread.name
      }
    }
  }

  private func ways(_ form: WindowForm, _ weights: HostTensor, _ groups: Int) -> [Way] {
    let outputs = weights.shape[0]
    let blocks = GemmBlock.all(cpu: cpu, columns: outputs / groups)
    let transformed = Winograd.all(form, outputs: outputs, groups: groups, blocks[0])
    var ways = blocks.map { Way.direct($0) } + transformed.map { .transformed($0) }
    if let line = WinogradLine(form, outputs: outputs, groups: groups, blocks[0]) { ways.append(.line(line)) }
    let wide = GemmBlock.all(cpu: cpu, columns: nil)
    if let spread = SpreadConv(form, outputs: outputs, groups: groups, usual: blocks[0], wide) {
      ways.append(.spread(spread))
    }
    return ways
  }

  func takesInside(_ region: AnchorRegion) -> Bool { RowStrips(region, cpu: cpu) != nil }

  func tactics(for region: AnchorRegion) -> [TacticCandidate] {
    if !region.inside.isEmpty { return RowStrips.tactics(for: region, cpu: cpu) }
    guard let weights = region.graph[region.node.inputs[1]].constant,
      let groups = try? region.node.op.attributes.int("groups"), groups > 0,
      let form = WindowForm(region.node, in: region.graph, kernel: Array(weights.shape.dropFirst().dropLast()))
    else { return [] }
    let perGroup = form.channels / groups
    let pointsAtTaps = perGroup >= 16 || form.taps == 1
    var sizes = ProductSizes(
      groups: Double(groups), rows: Double(form.images * (form.outHeight * form.outWidth).estimate),
      columns: weights.shape[0] / groups, depth: Double(form.taps * perGroup))
    let isProduct = form.isPointwise && groups == 1
    sizes.pointersPerRow = pointsAtTaps && !isProduct ? Double(form.taps) : 0
    sizes.copiesPerRow = pointsAtTaps ? 0 : sizes.depth
    return Grain.tactics(
      ways(form, weights, groups).map { way in
        switch way {
        case .direct(let block):
          sizes.rowsPerChunk = Double(block.rows * chunk(block, form, perGroup))
          return (way.name, { [sizes] in block.work(sizes, $0) })
        case .transformed(let winograd): return (way.name, { winograd.work($0) })
        case .line(let line): return (way.name, { line.work($0) })
        case .spread(let spread): return (way.name, { spread.work($0) })
        }
      }, activations: form.activations(outputs: weights.shape[0]), cpu)
  }

  /// Micro-tiles whose rows are found at once, as `conv.h` has it.
  private func chunk(_ block: GemmBlock, _ form: WindowForm, _ perGroup: Int) -> Int {
    let pointsAtTaps = perGroup >= 16 || form.taps == 1
    return min(block.chunk(perGroup * form.kernel.0 * (pointsAtTaps ? 1 : form.kernel.1)), 64)
  }

  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) throws(BuildError) {
    if let strips = RowStrips(region, cpu: cpu) { return strips.emit(into: &builder) }
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
    case .line(let line): return line.emit(region, weights, Grain(of: region), into: &builder)
    case .spread(let spread): return spread.emit(region, weights, Grain(of: region), into: &builder)
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
    let scratch = chunk(block, form, perGroup) * block.rows * perRow + copied
    let weightSlot = builder.addConstant(packed, name: graph[node.inputs[1]].name)
    if form.isPointwise, groups == 1 {
      return emitProduct(region, form, block, weightSlot, outputs, way.name, into: &builder)
    }
    let zeros = builder.addConstant(HostTensor(.f32, [perGroup]), name: "zeros")
    let call = TemplateCall(
      texts: [KernelText.gemm, KernelText.conv], macros: block.macros(columns: outPerGroup),
      buffers: [builder.slot(node.inputs[0]), weightSlot, zeros],
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

extension ConvTemplate {
  /// A window of one pixel on every pixel: a product whose rows are the pixels as they lie.
  private func emitProduct(
    _ region: AnchorRegion, _ form: WindowForm, _ block: GemmBlock, _ weights: Int, _ outputs: Int, _ name: String,
    into builder: inout StepBuilder
  ) {
    let depth = Dim(form.channels)
    let call = TemplateCall(
      texts: [KernelText.gemm], macros: block.macros(columns: outputs),
      buffers: [builder.slot(region.node.inputs[0]), weights],
      parameters: [form.pixels],
      call: """
          const apus_matmul_args g = {.a = buffers[0], .b = buffers[1], .ctx = CTX, .batch = 1, .inner = 1, .M = P(0),
            .N = \(outputs), .K = \(form.channels), .aRow = \(form.channels), .aK = 1};
          KERNEL_NAME_matmul(&g, block, blockCount, scratch);

        """,
      batches: 1, rows: form.pixels, columns: Dim(outputs))
    call.emit(
      region,
      blocks: block.blocks(batches: 1, rows: form.pixels, columns: Dim(outputs), depth: depth, Grain(of: region)),
      scratchBytes: 0, tactic: Grain(of: region).name(name), into: &builder)
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

  /// The weights in the order in which windows meet them.
  static func weightsByTap(_ region: AnchorRegion, _ builder: inout StepBuilder) -> Int {
    let value = region.graph[region.node.inputs[1]]
    let weights = value.constant ?? HostTensor(.f32, [0])
    let outputs = weights.shape[0]
    let taps = weights.elementCount / max(1, outputs)
    let byTap = weights.gathering(
      (0..<taps * outputs).map { ($0 % outputs) * taps + $0 / outputs }, shape: [taps, outputs])
    return builder.addConstant(byTap, name: value.name)
  }

  /// Macros that say which windows there is code for, most having none of their own, and how rows of a known width are divided.
  static func window(_ form: WindowForm, outputs: Int, cpu: CPUTarget) -> [String] {
    guard hasOwnText(form) else { return ["DW_KW 0", "DW_SW 0"] }
    let window = ["DW_KW \(form.kernel.1)", "DW_SW \(form.strides.1)"]
    guard isWhole(form, outputs, cpu) else { return window }
    let pieces = pieces(form, outputs, cpu).map { ["DW_PIECES \($0.count)", "DW_OB \($0.each)", "DW_LAST \($0.last)"] }
    let row = ["DW_C \(outputs)", "DW_W \(form.width.constantValue ?? 0)", "DW_PL \(form.padsBegin.1)"]
    return window + row + (pieces ?? [])
  }

  /// Whether windows with code of their own go over whole vectors of channels, with a result for each.
  private static func isWhole(_ form: WindowForm, _ outputs: Int, _ cpu: CPUTarget) -> Bool {
    hasOwnText(form) && outputs == form.channels && outputs >= cpu.vectorBytes / 4
  }

  /// How rows of a known width are divided into pieces that registers hold, of which the first and the last alone meet edges.
  private static func pieces(
    _ form: WindowForm, _ outputs: Int, _ cpu: CPUTarget
  ) -> (count: Int, each: Int, last: Int)? {
    guard isWhole(form, outputs, cpu), let width = form.outWidth.constantValue, let inside = form.width.constantValue,
      width > 0
    else { return nil }
    #if arch(arm64)
      let most = 16
    #else
      let most = cpu.vectorBytes == 64 ? 16 : 8
    #endif
    let count = (width + most - 1) / most
    let each = (width + count - 1) / count
    let last = width - (count - 1) * each
    let (stride, before) = (form.strides.1, form.padsBegin.1)
    let endOfMiddle = ((count - 1) * each - 1) * stride + form.kernel.1 - before
    let areMiddlesInside = count < 2 || (before <= each * stride && endOfMiddle <= inside)
    return last > 0 && areMiddlesInside ? (count, each, last) : nil
  }

  private static func hasOwnText(_ form: WindowForm) -> Bool {
    form.dilations.1 == 1 && [3, 5].contains(form.kernel.1) && [1, 2].contains(form.strides.1)
  }

  /// Channels that a unit of work goes over a row for, the usual number first.
  private static let widths = [128, 64, 256]

  private func name(_ width: Int) -> String { width == Self.widths[0] ? "depthwise" : "depthwise \(width)" }

  /// A narrow window does little for each element: blocks are of half as many operations as those of products.
  private func operations(_ grain: Grain) -> Int { grain.operations / 2 }

  func takesInside(_ region: AnchorRegion) -> Bool { RowStrips(region, cpu: cpu) != nil }

  func tactics(for region: AnchorRegion) -> [TacticCandidate] {
    if !region.inside.isEmpty { return RowStrips.tactics(for: region, cpu: cpu) }
    guard let weights = region.graph[region.node.inputs[1]].constant,
      let form = WindowForm(region.node, in: region.graph, kernel: Array(weights.shape.dropFirst().dropLast()))
    else { return [] }
    let outputs = weights.shape[0]
    let rows = Double(form.images) * Double(form.outHeight.estimate)
    let ways = Self.widths.filter { $0 == Self.widths[0] || $0 / 2 < outputs }.map { width in
      (
        name: name(width),
        work: { (grain: Grain) in
          var work = work(form, outputs: outputs, width: width)
          let units = rows * Double(Self.groups(outputs, width))
          let wanted = 2 * rows * Double(form.outWidth.estimate) * Double(outputs * (form.taps + 4))
          work.blocks = Int(min(max((wanted / Double(operations(grain))).rounded(.up), 1), units, 64))
          return work
        }
      )
    }
    return Grain.tactics(ways, activations: form.activations(outputs: outputs), cpu)
  }

  private static func groups(_ outputs: Int, _ width: Int) -> Int { (outputs + width - 1) / width }

  /// What filtering all images does, by groups of so many channels at most.
  func work(_ form: WindowForm, outputs: Int, width: Int) -> KernelWork {
    let lanes = cpu.vectorBytes / 4
    let vectors = (outputs + lanes - 1) / lanes
    let rows = Double(form.images) * Double(form.outHeight.estimate)
    // Pieces of rows of known widths; else blocks of 8 pixels, of which those left over take as long as 4 or 8.
    let (pixels, rest) = (form.outWidth.estimate, form.outWidth.estimate % 8)
    let pieces = Self.pieces(form, outputs, cpu)
    let blocks = pieces?.count ?? (pixels + 7) / 8
    let covered = pieces == nil ? pixels / 8 * 8 + (rest == 0 ? 0 : rest <= 4 ? 4 : 8) : pixels
    var work = KernelWork()
    let lines = rows * Double(vectors)
    work.products = lines * Double(covered * form.taps)
    // Pixels of a row of a window are read once for all results of a block where the text has it for its width.
    work.loads =
      Self.hasOwnText(form)
      ? lines * Double(((covered - blocks) * form.strides.1 + 2 * blocks * form.kernel.1) * form.kernel.0)
      : lines * Double((covered + blocks) * form.taps)
    work.stores = lines * Double(pixels)
    let groups = Self.groups(outputs, width)
    work.tiles = rows * Double(groups * blocks)
    work.columns = lines * Double(blocks)
    // Rows that the window of the row before has read too.
    let window = 4 * Double(form.width.estimate) * Double(form.kernel.0 * outputs) / Double(groups)
    work.again =
      lines * Double(form.width.estimate) * Double(max(0, form.kernel.0 - form.strides.0))
      * KernelWork.beyondFirst(window)
    return work
  }

  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) throws(BuildError) {
    if let strips = RowStrips(region, cpu: cpu) { return strips.emit(into: &builder) }
    let (graph, node) = (region.graph, region.node)
    guard let weights = graph[node.inputs[1]].constant,
      let form = WindowForm(node, in: graph, kernel: Array(weights.shape.dropFirst().dropLast()))
    else { return }
    let outputs = weights.shape[0]
    let channels = Self.widths.first { name($0) == region.tactic.map(Grain.base) } ?? Self.widths[0]
    let grain = Grain(of: region)
    let call = TemplateCall(
      texts: [KernelText.depthwise],
      macros: Self.window(form, outputs: outputs, cpu: cpu)
        + (channels == Self.widths[0] ? [] : ["APUS_DW_CB \(channels)"]),
      buffers: [builder.slot(node.inputs[0]), Self.weightsByTap(region, &builder)],
      parameters: form.parameters,
      call: """
          const apus_depthwise_args g = {.x = buffers[0], .w = buffers[1], .ctx = CTX, \(form.fields),
            .multiplier = \(outputs / form.channels)};
          KERNEL_NAME_depthwise(&g, block, blockCount);

        """,
      batches: 1, rows: form.pixels, columns: Dim(outputs))
    let work = 2 * form.pixels * Dim(outputs * (form.taps + 4))
    let units = form.batch * form.outHeight * Dim((outputs + channels - 1) / channels)
    let wanted = work.ceilDivided(by: Dim(operations(grain)))
    call.emit(
      region, blocks: Dim.minimum(Dim.minimum(Dim.maximum(wanted, 1), units), 64), scratchBytes: 0,
      tactic: grain.name(name(channels)), into: &builder)
  }
}
