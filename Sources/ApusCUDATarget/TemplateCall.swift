import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusPlan

/// A launch of a CUDA template with its epilogue, put together from parts.
///
/// Buffers are the template's own first, then the epilogue's; so are the parameters.
struct TemplateCall {
  /// Texts after the epilogue, in order.
  var texts: [String]
  /// Macros set before them, by name.
  var macros: [(name: String, value: String)]
  /// The template's own buffers.
  var buffers: [Int]
  /// Sizes that the call text names `P.p[0]`, `P.p[1]`, ….
  var parameters: [Dim]
  var maps: [TensorMap] = []
  /// Statements of the kernel, where `c` is what the epilogue is given and `shared` the memory of the block.
  var call: String
  /// Shape of the result matrix that the epilogue sees, and how many neighbouring columns it takes at once.
  var batches: Dim
  var rows: Dim
  var columns: Dim
  var width: Int
  var blocks: Dim
  var threads: Int
  /// Blocks that a multiprocessor must hold at once, which limits registers.
  var residentBlocks = 1
  /// Blocks that work together.
  var cluster = 1
  var sharedByteCount: Int

  func emit(_ region: AnchorRegion, tactic: String, into builder: inout StepBuilder) {
    let (kernel, values) = region.epilogue(batches: batches, rows: rows, columns: columns)
    let epilogue = EpilogueText(
      kernel, parameters: parameters, firstBuffer: buffers.count, width: width, group: region.group)
    let nodes = region.nodes.map { region.graph[$0] }
    let all = buffers + values.map { builder.slot($0) }
    let code = code(epilogue.text, of: kernel, parameters: epilogue.parameters, bufferCount: all.count)
    builder.launch(
      code, buffers: all, name: nodes.map(\.op.name).joined(separator: "+"),
      sources: nodes.map(\.name).filter { !$0.isEmpty }, tactic: tactic,
      work: nodes.reduce(0) { $0 + $1.op.work($1.inputs.map(region.graph.type), $1.outputs.map(region.graph.type)) })
  }

  /// A launch that leaves its results in memory of its own for one that comes after it.
  func emitPart(name: String, tactic: String, work: Dim, into builder: inout StepBuilder) {
    let code = code("", of: nil, parameters: parameters, bufferCount: buffers.count)
    builder.launch(code, buffers: buffers, name: name, sources: [], tactic: tactic, work: work)
  }

  private func code(_ epilogue: String, of kernel: Kernel?, parameters: [Dim], bufferCount: Int) -> KernelCode {
    var source = CUDAText.prelude(for: kernel.map { [$0] } ?? [])
    for name in ["", "_HELD", "_FETCH_COLUMNS", "_FETCH_ROWS", "_FINISH"] {
      source += "#define EPILOGUE\(name) KERNEL_NAME_epilogue\(name.lowercased())\n"
    }
    source += "#define EPILOGUE_W \(width)\n"
    source += macros.map { "#define \($0.name) \($0.value)\n" }.joined()
    source += epilogue + texts.joined()
    let maps = maps.isEmpty ? "" : ",\n    const __grid_constant__ apus_maps<\(self.maps.count)> T"
    let cluster = cluster == 1 ? "" : " __cluster_dims__(\(cluster))"
    source += """
      extern "C" __global__ void __launch_bounds__(\(threads), \(residentBlocks))\(cluster) KERNEL_NAME(
          const __grid_constant__ apus_buffers<\(bufferCount)> B, const __grid_constant__ apus_params<\(parameters.count)> P\(maps)) {
        extern __shared__ __align__(1024) u8 shared[];
        LAUNCH_CONSTANTS(APUS_ASK_EARLY)
        const apus_ctx c = {B.b, P.p};
      \(call)}

      """
    return KernelCode(
      source: source, parameters: parameters, blocks: blocks, threads: threads, sharedByteCount: sharedByteCount,
      maps: self.maps, asksEarly: true)
  }
}

/// The function that takes neighbouring columns of one row of a template's result, computes what is to be stored, and stores it.
///
/// It is printed in parts, so that a template can ask early for what the epilogue reads: `EPILOGUE_FETCH_COLUMNS` and
/// `EPILOGUE_FETCH_ROWS` fill an `EPILOGUE_HELD`, `EPILOGUE_FINISH` takes it.
struct EpilogueText {
  private(set) var text: String
  private(set) var parameters: [Dim]

  /// - Parameters:
  ///   - kernel: over batches, rows and columns; its last buffer is the template's result.
  ///   - parameters: the template's own, which come first.
  ///   - width: columns of the template's result that it takes, a multiple of `group`.
  ///   - group: how many of them make one of the kernel's.
  init(_ kernel: Kernel, parameters: [Dim], firstBuffer: Int, width: Int, group: Int = 1) {
    let isNarrow = IndexWidth.isNarrow(kernel)
    let index = isNarrow ? "i32" : "i64"
    let tile = kernel.arena.buffers.count - 1
    let scalars = ScalarEmitter(kernel, parameters: parameters, bufferText: { "b\($0 + firstBuffer)" })
    scalars.hasNarrowIndices = isNarrow
    let names = kernel.variables
    let columns = ScalarEmitter.Scope(parent: nil, adding: [names[2].name])
    let rows = ScalarEmitter.Scope(parent: nil, adding: names.map(\.name))
    let strips = Strips(scalars, index: index, enough: 0, tile: (tile, "acc", group))
    let root = ScalarEmitter.Scope(parent: nil, adding: [])
    let batch = ScalarEmitter.Scope(parent: root, adding: [names[0].name])
    let row = ScalarEmitter.Scope(parent: batch, adding: [names[1].name])
    let strip = strips.open(names[2], width: width / group, in: row, fetches: (columns, rows))
    let column = group == 1 ? "col" : "(col / \(group))"
    scalars.emitStores(strip.inside)
    let body = """
      \(root.text)    const \(index) \(scalars.name(names[0])) = (\(index))batch;
      \(batch.text)    const \(index) \(scalars.name(names[1])) = (\(index))row;
      \(row.text)    const \(index) \(scalars.name(names[2])) = (\(index))\(column);
      \(strips.text(strip))
      """
    self.parameters = scalars.parameters
    var declarations = ""
    for (buffer, dtype) in kernel.arena.buffers.dropLast().enumerated() {
      let isWritten = kernel.stores.contains { $0.buffer == buffer }
      let type = (isWritten ? "" : "const ") + CDialect.storage(dtype)
      declarations += "  \(type) *const b\(buffer + firstBuffer) = (\(type) *)c.buffers[\(buffer + firstBuffer)];\n"
    }
    let accumulator = CDialect.scalar(kernel.arena.buffers[tile])
    declarations += scalars.parameterText("c.params", type: index)
    let places = zip(names, ["batch", "row", column]).map { name, source in
      "    const \(index) \(scalars.name(name)) = (\(index))\(source);\n"
    }
    text = """
      struct EPILOGUE_HELD {
      \(strips.members)};
      APUS_INLINE void EPILOGUE_FETCH_COLUMNS(const apus_ctx &c, i64 col, EPILOGUE_HELD &held) {
      \(columns.text.isEmpty ? "" : declarations + places[2] + columns.text)}
      APUS_INLINE void EPILOGUE_FETCH_ROWS(const apus_ctx &c, i64 batch, i64 row, i64 col, EPILOGUE_HELD &held) {
      \(rows.text.isEmpty ? "" : declarations + places.joined() + rows.text)}
      template <int W>
      APUS_INLINE void EPILOGUE_FINISH(
          const apus_ctx &c, i64 batch, i64 row, i64 col, const \(accumulator) (&acc)[W], const EPILOGUE_HELD &held) {
        static_assert(W == \(width), "columns");
      \(declarations)\(body)}
      template <int W>
      APUS_INLINE void EPILOGUE(const apus_ctx &c, i64 batch, i64 row, i64 col, const \(accumulator) (&acc)[W]) {
        EPILOGUE_HELD held;
        EPILOGUE_FETCH_COLUMNS(c, col, held);
        EPILOGUE_FETCH_ROWS(c, batch, row, col, held);
        EPILOGUE_FINISH<W>(c, batch, row, col, acc, held);
      }

      """
  }
}
