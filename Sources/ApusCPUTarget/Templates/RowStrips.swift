import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusPlan

/// A depthwise convolution with the product before it, the one behind it, or both, computed by strips of rows: what lies between two
/// of them stays in a core's cache, and is in memory nowhere.
///
/// A block goes through neighbouring strips and keeps the rows of the one before that the next one needs too.
struct RowStrips {
  private let cpu: CPUTarget
  /// The product before, the convolution, the product behind.
  private let widen: AnchorRegion?
  private let filter: AnchorRegion
  private let project: AnchorRegion?
  private let form: WindowForm
  /// Rows of the convolution's result in a strip.
  private let rows: Int
  /// The product's block of registers, by its place among those there are.
  private let blockIndex: Int

  /// Bytes of a strip, of which a core's second cache holds about twice as many; those that tuning tries, the usual first.
  private static let stripBytes = [384 << 10, 192 << 10, 768 << 10, 96 << 10, 1536 << 10]
  /// Channels that the convolution goes over rows for, so that rows that neighbours share are in the first cache still.
  private static let filterChannels = 32
  /// Bytes of the products' weights, which each strip reads again.
  private static let largestWeights = 320 << 10
  /// Bytes that have to be saved: what is smaller stays in the caches anyway.
  private static let leastSaving = 1 << 20
  /// Strips that a block should go through, where there are enough for all cores.
  private static let stripsPerBlock = 4
  private static let leastBlocks = 8
  private static let fewBlocks = 2

  /// Nil where one by one is as good, or where the region asks for that.
  init?(_ region: AnchorRegion, cpu: CPUTarget) {
    self.init(region, cpu: cpu, bytes: Self.stripBytes[0], leastBlocks: Self.leastBlocks, blockIndex: 0)
    guard let tactic = region.tactic else { return }
    if let wanted = ways(region).first(where: { $0.name == tactic }) { self = wanted }
  }

  private init?(_ region: AnchorRegion, cpu: CPUTarget, bytes: Int, leastBlocks: Int, blockIndex: Int) {
    guard let inner = region.inside.first, region.inside.count == 1 else { return nil }
    if Self.isFilter(region) {
      (widen, filter, project) = (inner, region, nil)
    } else {
      (widen, filter, project) = (inner.inside.first, inner, region)
    }
    guard Self.isFilter(filter), let form = Self.form(filter), form.height != 1 || form.outHeight != 1,
      [widen, project].allSatisfy({ $0.map(Self.isProduct) ?? true }), filter.inside.allSatisfy({ $0.inside.isEmpty })
    else { return nil }
    self.cpu = cpu
    self.form = form
    self.blockIndex = blockIndex
    let channels = form.channels
    let wideRow = widen == nil ? 0 : form.width.estimate * channels * 4
    let thinRow = project == nil ? 0 : form.outWidth.estimate * channels * 4
    let stride = form.strides.0
    let overlap = (form.kernel.0 - 1) * form.dilations.0 + 1 - stride
    let fitting = (bytes - max(overlap, 0) * wideRow) / max(1, stride * wideRow + thinRow)
    let images = form.images
    let height = form.outHeight.estimate
    rows = min(fitting, max(1, height * images / leastBlocks), height)
    let saved = images * (form.height.estimate * wideRow + height * thinRow)
    let weights = [widen, project].compactMap { $0.flatMap { $0.graph[$0.node.inputs[1]].constant?.byteCount } }
    guard rows >= 1, saved >= Self.leastSaving, weights.reduce(0, +) <= Self.largestWeights else { return nil }
  }

  /// What tuning tries, the usual way first: strips of other sizes, in blocks for few cores too, and products by other blocks of
  /// registers.
  private func ways(_ region: AnchorRegion) -> [RowStrips] {
    var found = [self]
    func add(_ bytes: Int, _ leastBlocks: Int, _ blockIndex: Int) {
      let other = RowStrips(region, cpu: cpu, bytes: bytes, leastBlocks: leastBlocks, blockIndex: blockIndex)
      if let other, !found.contains(where: { $0.name == other.name }) { found.append(other) }
    }
    for bytes in Self.stripBytes {
      add(bytes, Self.leastBlocks, 0)
      add(bytes, Self.fewBlocks, 0)
    }
    for index in GemmBlock.all(cpu: cpu, columns: nil).indices.dropFirst() {
      add(Self.stripBytes[0], Self.leastBlocks, index)
    }
    return found
  }

  static func tactics(for region: AnchorRegion, cpu: CPUTarget) -> [TacticCandidate] {
    var region = region
    region.tactic = nil
    guard let usual = RowStrips(region, cpu: cpu) else { return [] }
    let costs = CPUCosts(cpu)
    let strips = usual.ways(region).map { TacticCandidate(name: $0.name, microseconds: $0.work.microseconds(costs)) }
    return (strips + [TacticCandidate(name: AnchorRegion.apart, microseconds: usual.apart(costs))]).cheapestFirst
  }

  /// What the convolution and its products take one by one, with what lies between them in memory.
  private func apart(_ costs: CPUCosts) -> Double {
    var between = KernelWork()
    between.blocks = KernelWork.cores
    between.launches = 0
    var sum = 0.0
    for region in [widen, filter, project].compactMap({ $0 }) {
      var alone = region
      alone.inside = []
      let tactics =
        Self.isFilter(region)
        ? DepthwiseTemplate(cpu: cpu).tactics(for: alone) : ConvTemplate(cpu: cpu).tactics(for: alone)
      sum += tactics.first?.microseconds ?? 0
      between.launches += 1
    }
    between.touched = elementsBetween / Double(cpu.vectorBytes / 4)
    between.spilled = between.touched * KernelWork.beyondSecond(4 * elementsBetween)
    return sum + between.microseconds(costs)
  }

  /// Elements of what lies between two of them.
  private var elementsBetween: Double {
    let pixels = (widen == nil ? 0 : form.inputPixels) + (project == nil ? 0 : form.outputPixels)
    return Double(form.images) * pixels * Double(form.channels)
  }

  /// What it does.
  private var work: KernelWork {
    let outputs = project.map { columns(of: $0) } ?? form.channels
    let images = Double(form.images)
    let lanes = Double(cpu.vectorBytes / 4)
    let units = form.images * ((form.outHeight.estimate + rows - 1) / rows)
    // A block computes the rows anew that it shares with the one before, and moves those that its own strips share.
    let overlap = Double(max(0, wideRows - rows * form.strides.0))
    let row = Double(form.width.estimate)
    var work = DepthwiseTemplate(cpu: cpu).work(form, outputs: form.channels, width: Self.filterChannels)
    work.blocks = min(max((units + Self.stripsPerBlock - 1) / Self.stripsPerBlock, min(units, Self.leastBlocks)), 64)
    var (strip, weights) = (0.0, 0.0)
    if let widen {
      let height = images * Double(form.height.estimate) + max(0, Double(work.blocks) - images) * overlap
      work.add(product(rows: height * row, columns: form.channels, depth: depth(of: widen)))
      work.again += Double(units - work.blocks) * overlap * row * Double(form.channels) / lanes
      strip += Double(wideRows) * row * Double(form.channels)
      weights += Double(depth(of: widen) * form.channels)
    }
    if project != nil {
      work.add(product(rows: images * form.outputPixels, columns: outputs, depth: form.channels))
      strip += Double(rows * form.outWidth.estimate * form.channels)
      weights += Double(form.channels * outputs)
    }
    work.touched = min(elementsBetween, Double(KernelWork.cores) * strip) / lanes
    work.spilled = elementsBetween / lanes * KernelWork.beyondSecond(4 * (strip + weights))
    let inputs = widen.map { depth(of: $0) } ?? form.channels
    let elements = form.inputPixels * Double(inputs) + form.outputPixels * Double(outputs)
    work.activations = images * elements / lanes
    return work
  }

  private func product(rows: Double, columns: Int, depth: Int) -> KernelWork {
    block(columns: columns).work(ProductSizes(rows: rows, columns: columns, depth: Double(depth)), .usual)
  }

  /// The block of a product with so many columns: the wished one, where it is one of those.
  private func block(columns: Int) -> GemmBlock {
    let wanted = GemmBlock.all(cpu: cpu, columns: nil)[blockIndex]
    let blocks = GemmBlock.all(cpu: cpu, columns: columns)
    return blockIndex == 0 ? blocks[0] : blocks.first { $0.tactic == wanted.tactic } ?? blocks[0]
  }

  private static func form(_ region: AnchorRegion) -> WindowForm? {
    guard let weights = region.graph[region.node.inputs[1]].constant else { return nil }
    return WindowForm(region.node, in: region.graph, kernel: Array(weights.shape.dropFirst().dropLast()))
  }

  /// Whether a region is a depthwise convolution with a result for each channel.
  private static func isFilter(_ region: AnchorRegion) -> Bool {
    guard region.node.op.name == "conv", let form = form(region), isPlain(region),
      let outputs = region.graph[region.node.inputs[1]].constant?.shape[0]
    else { return false }
    return (try? region.node.op.attributes.int("groups")) == form.channels && outputs == form.channels && outputs > 1
  }

  /// Whether a region is a product of the pixels as they lie.
  private static func isProduct(_ region: AnchorRegion) -> Bool {
    guard region.node.op.name == "conv", let form = form(region), isPlain(region) else { return false }
    return (try? region.node.op.attributes.int("groups")) == 1 && form.isPointwise
  }

  private static func isPlain(_ region: AnchorRegion) -> Bool {
    region.views.isEmpty && region.placement == nil && region.group == 1
  }

  private var name: String {
    let block = GemmBlock.all(cpu: cpu, columns: nil)[blockIndex]
    return blockIndex == 0 ? "rows \(rows)" : "rows \(rows) by \(block.rows)x\(block.columns)"
  }

  /// A stage's code: its epilogue, its template, and what it reads.
  private struct Stage {
    let prefix: String
    let region: AnchorRegion
    let texts: [String]
    let macros: [String]
    let weights: Int
  }

  func emit(into builder: inout StepBuilder) {
    let channels = form.channels
    var stages: [Stage] = []
    if let widen { stages.append(product("widen", widen, &builder)) }
    let filterWeights = DepthwiseTemplate.weightsByTap(filter, &builder)
    stages.append(
      Stage(
        prefix: "filter", region: filter, texts: [KernelText.depthwise],
        macros: DepthwiseTemplate.window(form, outputs: channels, cpu: cpu) + ["APUS_DW_CB \(Self.filterChannels)"],
        weights: filterWeights))
    if let project { stages.append(product("project", project, &builder)) }

    // Places of all that kernels read and write: the input, each stage's weights, and what its epilogue reads and writes.
    // Results between stages are in scratch memory.
    var slots = [builder.slot(stages[0].region.node.inputs[0])] + stages.map(\.weights)
    var places = slots.indices.map { "buffers[\($0)]" }
    var source = KernelText.prelude
    var parameters = form.parameters
    var resultPlaces: [Int] = []
    for (index, stage) in stages.enumerated() {
      let isLast = index == stages.count - 1
      let text = EpilogueText(
        stage.region, named: "KERNEL_NAME_\(stage.prefix)_epilogue", rows: rowCount(of: stage),
        columns: Dim(columns(of: stage)),
        firstBuffer: places.count, parameters: parameters, offsetsRows: true)
      parameters = text.parameters
      source += text.source
      for value in text.values.dropLast() {
        places.append("buffers[\(slots.count)]")
        slots.append(builder.slot(value))
      }
      resultPlaces.append(places.count)
      places.append(isLast ? "buffers[\(slots.count)]" : "0")
      if isLast { slots.append(builder.slot(stage.region.result)) }
      source += "#define KERNEL KERNEL_NAME_\(stage.prefix)\n#define EPILOGUE KERNEL_NAME_\(stage.prefix)_epilogue\n"
      source +=
        (stage.macros + text.macros).map { "#define \($0)\n" }.joined() + stage.texts.joined() + KernelText.undef
    }
    source += kernel(stages, places, resultPlaces)

    let wideRow = widen == nil ? 0 : form.width * Dim(channels)
    let thinRow = project == nil ? 0 : form.outWidth * Dim(channels)
    let units = form.batch * form.outHeight.ceilDivided(by: Dim(rows))
    let wanted = Dim.maximum(units.ceilDivided(by: Dim(Self.stripsPerBlock)), Dim.minimum(units, Dim(Self.leastBlocks)))
    let code = KernelCode(
      source: source, parameters: parameters, blocks: Dim.minimum(wanted, 64),
      scratchBytes: (Dim(wideRows) * wideRow + Dim(rows) * thinRow) * 4)
    let graph = filter.graph
    let nodes = stages.flatMap { $0.region.nodes }.map { graph[$0] }
    builder.launch(
      code, buffers: slots,
      name: stages.map { $0.region.nodes.map { graph[$0].op.name }.joined(separator: "+") }.joined(separator: " > "),
      sources: nodes.map(\.name).filter { !$0.isEmpty }, tactic: name,
      work: nodes.reduce(0) { $0 + $1.op.work($1.inputs.map(graph.type), $1.outputs.map(graph.type)) })
  }

  /// Rows of the convolution's input that a strip needs.
  private var wideRows: Int { (rows - 1) * form.strides.0 + (form.kernel.0 - 1) * form.dilations.0 + 1 }

  private func columns(of stage: Stage) -> Int { columns(of: stage.region) }

  private func columns(of region: AnchorRegion) -> Int {
    let type = region.graph.tensorType(region.node.outputs[0])
    return type.shape.last?.constantValue ?? form.channels
  }

  private func rowCount(of stage: Stage) -> Dim {
    let shape = stage.region.graph.tensorType(stage.region.node.outputs[0]).shape
    return Dim.product(shape.dropLast())
  }

  private func product(_ prefix: String, _ region: AnchorRegion, _ builder: inout StepBuilder) -> Stage {
    let (graph, input) = (region.graph, region.node.inputs[1])
    let weights = graph[input].constant ?? HostTensor(.f32, [0])
    let outputs = weights.shape[0]
    let depth = weights.elementCount / max(1, outputs)
    let block = block(columns: outputs)
    let packed = block.pack(weights, batches: 1, depth: depth, columns: outputs) { _, k, column in column * depth + k }
    return Stage(
      prefix: prefix, region: region, texts: [KernelText.gemm], macros: block.macros(columns: outputs),
      weights: builder.addConstant(packed, name: graph[input].name))
  }

  private func kernel(_ stages: [Stage], _ places: [String], _ results: [Int]) -> String {
    let channels = form.channels
    func weights(_ prefix: String) -> Int { 1 + (stages.firstIndex { $0.prefix == prefix } ?? 0) }
    func result(_ prefix: String) -> Int { results[stages.firstIndex { $0.prefix == prefix } ?? 0] }
    func matmul(_ prefix: String, from: String, rows: String) -> String {
      let stage = stages.first { $0.prefix == prefix }
      let depth = stage.flatMap { $0.region.graph.tensorType($0.region.node.inputs[0]).shape.last?.constantValue } ?? 0
      let outputs = stage.map { columns(of: $0) } ?? 0
      return """
        const apus_matmul_args g = {.a = \(from), .b = places[\(weights(prefix))], .ctx = &ctx, .batch = 1, .inner = 1, .M = \(rows),
              .N = \(outputs), .K = \(depth), .aRow = \(depth), .aK = 1};
            KERNEL_NAME_\(prefix)_matmul(&g, 0, 1, 0);
        """
    }
    var text = "#define P(i) params[i]\n"
    text += "void KERNEL_NAME(void *const *buffers, const i64 *params, i64 block, i64 blockCount, void *scratch) {\n"
    text += "  enum { C = \(channels), STRIP = \(rows) };\n"
    text += "  void *places[] = {\(places.map { $0 == "0" ? "0" : "(void *)\($0)" }.joined(separator: ", "))};\n"
    text += """
        apus_ctx ctx = {places, params, 0};
        const i64 H = P(1), W = P(2), OH = P(3), OW = P(4), strips = APUS_CEIL(OH, STRIP);
        float *const wide = (float *)scratch, *const thin = wide + \(widen == nil ? "0" : "\(wideRows) * W * C");
        const apus_range range = apus_share(P(0) * strips, block, blockCount);
        i64 image = -1, first = 0, end = 0;  // the rows that wide holds
        for (i64 u = range.begin; u < range.end; u++) {
          const i64 n = u / strips, oh0 = u % strips * STRIP, oh1 = APUS_MIN(oh0 + STRIP, OH);

      """
    if widen != nil {
      text += """
            const i64 y0 = APUS_MIN(H, APUS_MAX(0, oh0 * \(form.strides.0) - \(form.padsBegin.0)));
            const i64 y1 = APUS_MIN(H, (oh1 - 1) * \(form.strides.0) - \(form.padsBegin.0) + \((form.kernel.0 - 1) * form.dilations.0 + 1));
            i64 from = y0;
            if (n == image && end > y0) {
              from = end;
              __builtin_memmove(wide, wide + (y0 - first) * W * C, (u64)((end - y0) * W * C) * sizeof(float));
            }
            image = n, first = y0, end = APUS_MAX(from, y1);
            places[\(result("widen"))] = (void *)((u64)wide - (u64)((n * H + y0) * W * C) * sizeof(float));
            if (from < y1) {
              ctx.row = (n * H + from) * W;
              \(matmul("widen", from: "(const float *)places[0] + ctx.row * \(depth(of: widen))", rows: "(y1 - from) * W"))
            }

        """
    }
    if project != nil {
      text +=
        "    places[\(result("filter"))] = (void *)((u64)thin - (u64)((n * OH + oh0) * OW * C) * sizeof(float));\n"
    }
    text += """
          {
            ctx.row = 0;
            const apus_depthwise_args g = {.x = places[\(widen == nil ? 0 : result("widen"))], .w = places[\(weights("filter"))], .ctx = &ctx,
              \(form.fields), .multiplier = 1};
            KERNEL_NAME_filter_depthwise_rows(&g, n, oh0, oh1);
          }

      """
    if project != nil {
      text += """
            {
              ctx.row = (n * OH + oh0) * OW;
              \(matmul("project", from: "thin", rows: "(oh1 - oh0) * OW"))
            }

        """
    }
    return text + "  }\n}\n"
  }

  private func depth(of region: AnchorRegion?) -> Int {
    region.flatMap { $0.graph.tensorType($0.node.inputs[0]).shape.last?.constantValue } ?? 0
  }
}
