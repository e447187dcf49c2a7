import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusPlan

/// NHWC transposed convolution in f32 with constant weights: each output phase modulo the strides is a dense product.
struct ConvTransposeTemplate: KernelTemplate {
  let cpu: CPUTarget
  let name = "conv_transpose"

  func refusal(_ node: Node, in graph: Graph) -> String? {
    guard node.op.name == "conv_transpose" else { return "it is no transposed convolution" }
    guard let weights = graph[node.inputs[1]].constant else { return "the weights are not constant" }
    if WindowForm(node, in: graph, kernel: Array(weights.shape.dropFirst().dropLast())) == nil {
      return "it is not an f32 NHWC transposed convolution of one or two dimensions"
    }
    return nil
  }

  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) throws(BuildError) {
    let (graph, node) = (region.graph, region.node)
    guard let weights = graph[node.inputs[1]].constant, let groups = try? node.op.attributes.int("groups"),
      let form = WindowForm(node, in: graph, kernel: Array(weights.shape.dropFirst().dropLast()))
    else { return }
    let outPerGroup = weights.shape[weights.rank - 1]
    let perGroup = form.channels / groups
    let block = GemmBlock(cpu: cpu, columns: outPerGroup)
    let taps = tapOrder(form)
    let depth = form.taps * perGroup
    let packed = block.pack(weights, batches: groups, depth: depth, columns: outPerGroup) { group, k, column in
      ((group * perGroup + k % perGroup) * form.taps + taps[k / perGroup]) * outPerGroup + column
    }
    let phaseRows = (form.kernel.0 + form.strides.0 - 1) / form.strides.0
    let chunk = min(block.chunk(perGroup * phaseRows), 64)
    let zeros = builder.addConstant(HostTensor(.f32, [perGroup]), name: "zeros")
    let outputs = outPerGroup * groups
    let call = TemplateCall(
      texts: [KernelText.gemm, KernelText.convTranspose], macros: block.macros(),
      buffers: [builder.slot(node.inputs[0]), builder.addConstant(packed, name: graph[node.inputs[1]].name), zeros],
      parameters: form.parameters,
      call: """
          const apus_conv_transpose_args g = {.x = buffers[0], .w = buffers[1], .zero = buffers[2], .ctx = CTX,
            \(form.fields), .O = \(outputs), .groups = \(groups)};
          KERNEL_NAME_conv_transpose(&g, block, blockCount, scratch);

        """,
      batches: 1, rows: form.pixels, columns: Dim(outputs))
    call.emit(
      region,
      blocks: block.blocks(
        batches: Dim(groups), rows: form.pixels, columns: Dim(outPerGroup),
        depth: Dim(depth).ceilDivided(by: Dim(form.strides.0 * form.strides.1))),
      scratchBytes: Dim(chunk * block.rows * (form.taps + 1) * 8),
      tactic: "conv_transpose \(block.rows)x\(block.columns)",
      into: &builder)
  }

  /// Taps ordered by the output phase they serve, as `conv_transpose.h` reads them.
  private func tapOrder(_ form: WindowForm) -> [Int] {
    var order: [Int] = []
    for phaseRow in 0..<form.strides.0 {
      for phaseColumn in 0..<form.strides.1 {
        for kh in 0..<form.kernel.0 where kh * form.dilations.0 % form.strides.0 == phaseRow {
          for kw in 0..<form.kernel.1 where kw * form.dilations.1 % form.strides.1 == phaseColumn {
            order.append(kh * form.kernel.1 + kw)
          }
        }
      }
    }
    return order
  }
}
