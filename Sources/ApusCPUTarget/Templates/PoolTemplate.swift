import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusPlan

/// NHWC max, average and Lp pooling in f32, vectorised over channels.
struct PoolTemplate: KernelTemplate {
  let cpu: CPUTarget
  let name = "pool"

  private static let kinds = ["max_pool": "POOL_MAX", "average_pool": "POOL_AVERAGE", "lp_pool": "POOL_LP"]

  func refusal(_ node: Node, in graph: Graph) -> String? {
    guard Self.kinds[node.op.name] != nil, let kernel = try? node.op.attributes.ints("kernel") else {
      return "it is no pooling"
    }
    return WindowForm(node, in: graph, kernel: kernel) == nil
      ? "it is not f32 NHWC pooling of one or two dimensions" : nil
  }

  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) throws(BuildError) {
    let (graph, node) = (region.graph, region.node)
    guard let kind = Self.kinds[node.op.name], let kernel = try? node.op.attributes.ints("kernel"),
      let form = WindowForm(node, in: graph, kernel: kernel)
    else { return }
    let counts = (try? node.op.attributes.bool("count_include_pad")) ?? false
    let power = (try? node.op.attributes.int("p")) ?? 2
    let call = TemplateCall(
      texts: [KernelText.pool], macros: ["POOL \(kind)"], buffers: [builder.slot(node.inputs[0])],
      parameters: form.parameters,
      call: """
          const apus_pool_args g = {.x = buffers[0], .ctx = CTX, \(form.fields), .PB = \(form.padsEnd.0),
            .PR = \(form.padsEnd.1), .countIncludePad = \(counts ? 1 : 0), .p = \(power)};
          KERNEL_NAME_pool(&g, block, blockCount);

        """,
      batches: 1, rows: form.pixels, columns: Dim(form.channels))
    let work = form.pixels * Dim(form.channels * (form.taps + 4))
    let units = form.batch * form.outHeight * Dim((form.channels + 127) / 128)
    call.emit(
      region, blocks: Dim.minimum(Dim.minimum(Dim.maximum(work.ceilDivided(by: 100_000), 1), units), 64),
      scratchBytes: 0, tactic: "pool", into: &builder)
  }
}
