import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusPlan

/// Matrix products in f32 by the register-blocked core; a constant right side is packed at build time, any other by a
/// launch of its own.
struct MatmulTemplate: KernelTemplate {
  let cpu: CPUTarget
  let name = "matmul"

  func refusal(_ node: Node, in graph: Graph) -> String? {
    guard node.op.name == "matmul" else { return "it is no matmul" }
    let (a, b) = (graph.tensorType(node.inputs[0]), graph.tensorType(node.inputs[1]))
    guard a.dtype == .f32, b.dtype == .f32 else { return "the operands are \(a.dtype) and \(b.dtype), not f32" }
    if MatmulForm(a, b) == nil {
      return "the batch dims \(a) and \(b) broadcast in both directions"
    }
    return nil
  }

  func readsInPlace(_ operand: Int, _ view: StridedView, in graph: Graph) -> Bool {
    operand == 1 && view.permutation == [1, 0] && graph[view.source].constant != nil
  }

  func layout(of operand: Int, of node: Node, _ view: StridedView?, in graph: Graph) -> PackedLayout? {
    guard operand == 1, graph[view?.source ?? node.inputs[1]].constant != nil,
      let form = MatmulForm(graph.tensorType(node.inputs[0]), graph.tensorType(node.inputs[1])),
      let n = form.columns.constantValue
    else { return nil }
    return layout(form, GemmBlock(cpu: cpu, columns: n), view)
  }

  private func layout(_ form: MatmulForm, _ block: GemmBlock, _ view: StridedView?) -> PackedLayout? {
    guard let n = form.columns.constantValue, let k = form.depth.constantValue,
      let batches = (form.bStride == 0 ? 1 : form.batches).constantValue
    else { return nil }
    let panels = PackedPanels(batches: batches, depth: k, columns: n, width: block.columns, isTransposed: view != nil)
    return panels.layout
  }

  func tactics(for region: AnchorRegion) -> [TacticCandidate] {
    guard let form = form(region) else { return [] }
    let sizes = ProductSizes(
      groups: Double(form.batches.estimate), rows: Double(form.rows.estimate), columns: form.columns.estimate,
      depth: Double(form.depth.estimate))
    let blocks = blocks(form, region).map { block in
      (name: tactic(form, block), work: { (grain: Grain) in block.work(sizes, grain) })
    }
    return Grain.tactics(
      blocks + splits(form, region).map { split in (split.name, { split.work($0) }) },
      activations: sizes.groups * sizes.rows * (sizes.depth + Double(sizes.columns)), cpu)
  }

  /// The blocks that can be used, the preferred one first: a constant that others read too has the layout of that one.
  private func blocks(_ form: MatmulForm, _ region: AnchorRegion) -> [GemmBlock] {
    let all = GemmBlock.all(cpu: cpu, columns: form.columns.constantValue)
    return region.layouts[region.source(of: region.node.inputs[1])] == nil ? all : Array(all.prefix(1))
  }

  /// The ways to compute sums in parts, where the right side is a constant that nobody else reads.
  private func splits(_ form: MatmulForm, _ region: AnchorRegion) -> [SplitProduct] {
    let source = region.source(of: region.node.inputs[1])
    if region.graph[source].constant == nil || region.layouts[source] != nil { return [] }
    return SplitProduct.all(form, blocks(form, region))
  }

  private func block(_ form: MatmulForm, _ region: AnchorRegion) -> GemmBlock {
    let blocks = blocks(form, region)
    return blocks.first { region.tactic.map(Grain.base) == tactic(form, $0) } ?? blocks[0]
  }

  private func form(_ region: AnchorRegion) -> MatmulForm? {
    let inputs = region.node.inputs
    return MatmulForm(region.graph.tensorType(inputs[0]), region.graph.tensorType(inputs[1]))
  }

  /// One row whatever the shapes are: a product of a vector, by the same panels.
  private func isVector(_ form: MatmulForm) -> Bool { form.rows == 1 && form.batches == 1 }

  private func tactic(_ form: MatmulForm, _ block: GemmBlock) -> String {
    isVector(form) ? "gemv \(block.columns)" : block.tactic
  }

  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) throws(BuildError) {
    let graph = region.graph
    let inputs = region.node.inputs
    guard let form = form(region) else { return }
    let source = region.source(of: inputs[1])
    if let weights = graph[source].constant,
      let split = splits(form, region).first(where: { $0.name == region.tactic.map(Grain.base) })
    {
      let isTransposed = region.views[inputs[1]] != nil
      return split.emit(region, weights, isTransposed: isTransposed, Grain(of: region), into: &builder)
    }
    let block = block(form, region)
    let packed: Int
    if let constant = graph[source].constant, let layout = layout(form, block, region.views[inputs[1]]) {
      packed = builder.addPacked(constant, layout, name: graph[source].name)
    } else {
      packed = pack(form, block, builder.slot(inputs[1]), region, &builder)
    }
    let isVector = isVector(form)
    let grain = Grain(of: region)
    let panel = form.columns.ceilDivided(by: Dim(block.columns)) * Dim(block.columns) * form.depth
    let call = TemplateCall(
      texts: [KernelText.gemm], macros: block.macros(columns: form.columns.constantValue),
      buffers: [builder.slot(inputs[0]), packed],
      parameters: [
        form.batches, form.rows, form.columns, form.depth, form.aStride, form.bStride == 0 ? 0 : panel,
      ],
      call: """
          const apus_matmul_args g = {.a = buffers[0], .b = buffers[1], .ctx = CTX, .batch = P(0), .inner = 1, .M = P(1),
            .N = P(2), .K = P(3), .aRow = P(3), .aK = 1, .aOuter = P(4), .bOuter = P(5)};
          KERNEL_NAME_\(isVector ? "gemv(&g, block, blockCount)" : "matmul(&g, block, blockCount, scratch)");

        """,
      batches: form.batches, rows: form.rows, columns: form.columns)
    call.emit(
      region,
      blocks: block.blocks(batches: form.batches, rows: form.rows, columns: form.columns, depth: form.depth, grain),
      scratchBytes: 0, tactic: grain.name(tactic(form, block)), into: &builder)
  }

  /// Packs a right side that is computed at run time.
  private func pack(
    _ form: MatmulForm, _ block: GemmBlock, _ source: Int, _ region: AnchorRegion, _ builder: inout StepBuilder
  ) -> Int {
    let batches = form.bStride == 0 ? 1 : form.batches
    let panels = form.columns.ceilDivided(by: Dim(block.columns))
    let target = builder.addTemporary(.f32, batches * panels * Dim(block.columns) * form.depth)
    let text = """
      \(KernelText.prelude)#define KERNEL KERNEL_NAME
      \(block.macros().map { "#define \($0)" }.joined(separator: "\n"))
      \(KernelText.gemm)void KERNEL_NAME(void *const *buffers, const i64 *params, i64 block, i64 blockCount, void *scratch) {
        const apus_pack_args g = {.src = buffers[0], .dst = buffers[1], .batch = params[0], .inner = 1, .K = params[1],
          .N = params[2], .sK = params[2], .sN = 1, .sOuter = params[3]};
        KERNEL_NAME_pack_b(&g, block, blockCount);
      }

      """
    let units = batches * panels * form.depth.ceilDivided(by: 256)
    let code = KernelCode(
      source: text, parameters: [batches, form.depth, form.columns, form.bStride],
      blocks: Dim.minimum(units, 16))
    builder.launch(
      code, buffers: [source, target], name: "pack", sources: [region.node.name], tactic: "pack", work: 0)
    return target
  }
}
