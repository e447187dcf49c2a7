import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import ApusPlan

/// Blocked attention in f32 with an online softmax: no matrix of scores is stored. Operands may be transposed views.
struct AttentionTemplate: KernelTemplate {
  let cpu: CPUTarget
  let name = "attention"

  func readsInPlace(_ operand: Int, _ view: StridedView, in graph: Graph) -> Bool {
    operand < 3 && view.strides.last == 1
  }

  func refusal(_ node: Node, in graph: Graph) -> String? {
    guard let op = node.op as? Attention else { return "it is no attention" }
    let types = node.inputs.map { graph.tensorType($0) }
    guard types.allSatisfy({ $0.dtype == .f32 }) else { return "an operand is not f32" }
    guard op.softcap == 0 else { return "scores are capped" }
    guard let sizes = try? op.geometry(types), sizes.depth.isConstant, sizes.valueDepth.isConstant else {
      return "the head size is not known"
    }
    guard types.count > 3 else { return nil }
    let mask = types[3].shape
    let fits = mask.count <= 4 && zip(mask, sizes.scoreShape.suffix(mask.count)).allSatisfy { $0 == 1 || $0 == $1 }
    return fits ? nil : "the mask \(types[3]) may broadcast at run time"
  }

  /// Blocks are of half as many operations as those of products.
  private func operations(_ grain: Grain) -> Int { grain.operations / 2 }

  /// Keys of a step, and query rows that share one.
  private struct Steps: Equatable {
    let keys: Int
    let rows: Int

    static let usual = Steps(keys: 128, rows: 192)

    /// Those that tuning tries, the usual first.
    static let all = [
      usual, Steps(keys: 64, rows: 192), Steps(keys: 256, rows: 192), Steps(keys: 128, rows: 96),
      Steps(keys: 128, rows: 384), Steps(keys: 64, rows: 96), Steps(keys: 256, rows: 384),
    ]

    var name: String { self == .usual ? "attention" : "attention \(keys)x\(rows)" }
    /// What `attention.h` takes.
    var macros: [String] { self == .usual ? [] : ["APUS_ATTN_KEYS \(keys)", "APUS_ATTN_ROWS \(rows)"] }
  }

  /// The steps to choose among: all that divide keys or rows in another way.
  private func steps(_ sizes: Attention.Geometry) -> [Steps] {
    let rows = (sizes.queries * sizes.heads).estimate / max(1, sizes.keyHeads.estimate)
    // Few rows by themselves share nothing, and keys are read in place.
    if rows <= 4 { return Steps.all.filter { $0.rows == Steps.usual.rows && $0.keys >= Steps.usual.keys } }
    var seen: Set<[Int]> = []
    return Steps.all.filter { seen.insert([min($0.keys, sizes.keys.estimate), min($0.rows, rows)]).inserted }
  }

  func tactics(for region: AnchorRegion) -> [TacticCandidate] {
    let types = region.node.inputs.map { region.graph.tensorType($0) }
    guard let op = region.node.op as? Attention, let sizes = try? op.geometry(types) else { return [] }
    let scores = Double((sizes.batch * sizes.heads * sizes.queries * sizes.keys).estimate)
    let depth = Double((sizes.depth + sizes.valueDepth).estimate)
    let lanes = Double(cpu.vectorBytes / 4)
    let values = Double(sizes.valueDepth.estimate)
    let groups = Double((sizes.batch * sizes.keyHeads).estimate)
    let keys = Double(sizes.keys.estimate)
    return Grain.tactics(
      steps(sizes).map { steps in
        (
          name: steps.name,
          work: { grain in
            var work = KernelWork()
            work.products = scores * depth / lanes
            work.blocks = Int(min(max((2 * scores * depth / Double(operations(grain))).rounded(.up), 1), 64))
            // Each step adds to the results of its rows, and turns its values once for all of them.
            let rows = scores / max(1, groups * keys)
            work.stores = (scores + groups * rows * (keys / Double(steps.keys)).rounded(.up) * values) / lanes
            let parts = max((rows / Double(steps.rows)).rounded(.up), Double(work.blocks) / max(1, groups))
            work.copies = groups * parts * keys * values
            return work
          }
        )
      }, cpu)
  }

  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) throws(BuildError) {
    let (graph, node) = (region.graph, region.node)
    let types = node.inputs.map { graph.tensorType($0) }
    guard let op = node.op as? Attention, let sizes = try? op.geometry(types),
      let depth = sizes.depth.constantValue, let valueDepth = sizes.valueDepth.constantValue
    else { return }
    // A view whose last dim is not contiguous has been stored before; see readsInPlace.
    var parameters = [sizes.batch, sizes.heads, sizes.keyHeads, sizes.queries, sizes.keys]
    for operand in 0..<3 { parameters += region.strides(of: node.inputs[operand]).prefix(3) }
    var buffers = (0..<3).map { region.slot(of: node.inputs[$0], in: &builder) }
    var mask = ".mask = 0"
    if node.inputs.count > 3 {
      let shape = types[3].shape
      var strides: [Dim] = Array(repeating: 0, count: 4 - shape.count)
      for (axis, dim) in shape.enumerated() { strides.append(dim == 1 ? 0 : Dim.product(shape[(axis + 1)...])) }
      parameters += strides
      buffers.append(builder.slot(node.inputs[3]))
      mask = ".mask = (const float *)buffers[3], .maskB = P(14), .maskH = P(15), .maskQ = P(16), .maskK = P(17)"
    } else {
      parameters += [0, 0, 0, 0]
    }
    parameters.append(op.offset)
    let block = GemmBlock(cpu: cpu, columns: nil)
    let steps = Steps.all.first { $0.name == region.tactic.map(Grain.base) } ?? .usual
    let call = TemplateCall(
      texts: [KernelText.gemm, KernelText.attention], macros: block.macros() + steps.macros, buffers: buffers,
      parameters: parameters,
      call: """
          const apus_attention_args g = {.q = (const float *)buffers[0], .k = (const float *)buffers[1],
            .v = (const float *)buffers[2], .ctx = CTX, .B = P(0), .heads = P(1), .kvHeads = P(2), .Sq = P(3), .Sk = P(4),
            .D = \(depth), .Dv = \(valueDepth), .qB = P(5), .qH = P(6), .qS = P(7), .kB = P(8), .kH = P(9), .kS = P(10),
            .vB = P(11), .vH = P(12), .vS = P(13), \(mask), .causal = \(op.causal ? 1 : 0), .causalOffset = P(18),
            .scale = \(CDialect.float(op.scale, .f32))};
          KERNEL_NAME_attention(&g, block, blockCount, scratch);

        """,
      batches: sizes.batch * sizes.heads, rows: sizes.queries, columns: Dim(valueDepth))
    let rounded = (valueDepth + block.lanes - 1) / block.lanes * block.lanes
    let rows = (steps.rows + block.columns - 1) / block.columns * block.columns
    let floats =
      rows * (depth + valueDepth + 2) + steps.keys * (valueDepth + 2 * block.columns)
      + (rounded + block.rows) * block.columns
    let scratch = 4 * floats + 256
    let work = 2 * sizes.batch * sizes.heads * sizes.queries * sizes.keys * Dim(depth + valueDepth)
    let grain = Grain(of: region)
    call.emit(
      region, blocks: Dim.minimum(Dim.maximum(work.ceilDivided(by: Dim(operations(grain))), 1), 64),
      scratchBytes: Dim(scratch), tactic: grain.name(steps.name), into: &builder)
  }
}
