import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusPlan

/// A product by constant weights whose sums are computed in parts, all of them beside one another, and then added up: for results
/// that are too small to be shared among cores.
struct SplitProduct {
  let form: MatmulForm
  let block: GemmBlock
  /// Parts of each sum, and how long they are.
  let parts: Int
  let depth: Int
  let columns: Int

  /// Blocks of registers in a result that is large enough for all cores.
  private static let mostTiles = 16
  private static let leastDepth = 128

  static func all(_ form: MatmulForm, _ blocks: [GemmBlock]) -> [SplitProduct] {
    guard form.batches == 1, let whole = form.depth.constantValue, let columns = form.columns.constantValue else {
      return []
    }
    return blocks.flatMap { block in
      let tiles = form.rows.ceilDivided(by: Dim(block.rows)).estimate * ((columns + block.columns - 1) / block.columns)
      if tiles > mostTiles { return [SplitProduct]() }
      return [2, 4, 8].filter { whole % $0 == 0 && whole / $0 >= leastDepth }.map {
        SplitProduct(form: form, block: block, parts: $0, depth: whole / $0, columns: columns)
      }
    }
  }

  var name: String { "\(block.tactic) split \(parts)" }

  private var panels: Int { (columns + block.columns - 1) / block.columns }

  func work(_ grain: Grain) -> KernelWork {
    let rows = Double(form.rows.estimate)
    var work = block.work(
      ProductSizes(groups: Double(parts), rows: rows, columns: columns, depth: Double(depth)), grain)
    work.stores += Double(parts) * rows * Double((columns + block.lanes - 1) / block.lanes)
    work.launches = 2
    return work
  }

  /// - Parameter isTransposed: whether the weights are `[columns, depth]`.
  func emit(
    _ region: AnchorRegion, _ weights: HostTensor, isTransposed: Bool, _ grain: Grain, into builder: inout StepBuilder
  ) {
    let (parts, depth, columns, whole) = (parts, depth, columns, parts * depth)
    let layout = PackedLayout(
      name: "panels of \(block.columns) in \(parts) parts\(isTransposed ? ", transposed" : "")",
      pack: { [block] source in
        block.pack(source, batches: parts, depth: depth, columns: columns) { part, k, column in
          isTransposed ? column * whole + part * depth + k : (part * depth + k) * columns + column
        }
      }, index: { coordinates, _ in coordinates[0] })
    let packed = builder.addPacked(
      weights, layout, name: region.graph[region.source(of: region.node.inputs[1])].name)
    let partial = builder.addTemporary(.f32, Dim(parts) * form.rows * Dim(columns))
    let code = KernelCode(
      source: text,
      parameters: [Dim(parts), form.rows, Dim(columns), Dim(depth), Dim(whole), Dim(panels * block.columns * depth)],
      blocks: block.blocks(batches: Dim(parts), rows: form.rows, columns: Dim(columns), depth: Dim(depth), grain))
    builder.launch(
      code, buffers: [builder.slot(region.node.inputs[0]), packed, partial], name: "matmul",
      sources: [region.node.name].filter { !$0.isEmpty }, tactic: grain.name(name),
      work: 2 * form.rows * Dim(columns * whole))
    let (kernel, values) = region.epilogue(batches: 1, rows: form.rows, columns: Dim(columns), parts: parts)
    let emitted = LoopEmitter(kernel).function()
    let sum = KernelCode(
      source: KernelText.prelude + emitted.text, parameters: emitted.parameters, blocks: emitted.blocks)
    let nodes = region.nodes.map { region.graph[$0] }
    builder.launch(
      sum, buffers: values.map { builder.slot($0) } + [partial], writes: [values.count - 1],
      name: nodes.map(\.op.name).joined(separator: "+"), sources: nodes.map(\.name).filter { !$0.isEmpty },
      tactic: grain.name(name), work: Dim(parts) * form.rows * Dim(columns))
  }

  private var text: String {
    """
    \(KernelText.prelude)#define KERNEL KERNEL_NAME
    #define EPILOGUE KERNEL_NAME_epilogue
    APUS_INLINE void KERNEL_NAME_epilogue(const void *ctx, const float *tile, i64 ts, i64 batch, i64 row, i64 rows, i64 col,
                                          i64 cols) {
      const apus_ctx *c = (const apus_ctx *)ctx;
      float *y = (float *)c->buffers[2] + (batch * c->params[1] + row) * c->params[2] + col;
      for (i64 i = 0; i < rows; i++) {
        APUS_LANES for (i64 j = 0; j < cols; j++) y[i * c->params[2] + j] = tile[i * ts + j];
      }
    }
    \(block.macros().map { "#define \($0)" }.joined(separator: "\n"))
    \(KernelText.gemm)void KERNEL_NAME(void *const *buffers, const i64 *params, i64 block, i64 blockCount, void *scratch) {
      const apus_ctx ctx = {buffers, params};
      const apus_matmul_args g = {.a = buffers[0], .b = buffers[1], .ctx = &ctx, .batch = params[0], .inner = 1, .M = params[1],
        .N = params[2], .K = params[3], .aRow = params[4], .aK = 1, .aOuter = params[3], .bOuter = params[5]};
      KERNEL_NAME_matmul(&g, block, blockCount, scratch);
    }

    """
  }
}
