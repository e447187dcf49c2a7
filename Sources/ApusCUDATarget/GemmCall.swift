import ApusCompiler
import ApusCore
import ApusPlan

/// The launches of a product of matrices by a tactic.
struct GemmCall {
  let problem: GemmProblem
  let tactic: GemmTactic
  /// Slots of the matrices.
  let left: Int
  let right: Int

  private var form: MatmulForm { problem.form }

  private func parameters(split: Int) -> [Dim] {
    [
      form.batches, form.rows, form.columns, form.depth, form.depth, form.aStride,
      problem.isTransposed ? form.depth : form.columns, form.bStride, Dim(split),
    ]
  }

  private var accumulator: String { problem.dtype == .f64 ? "double" : "float" }

  private func arguments(partial: String) -> String {
    "  const apus_gemm_args g = {B.b[0], B.b[1], \(partial), "
      + (0..<9).map { "P.p[\($0)]" }.joined(separator: ", ") + "};\n"
  }

  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) {
    switch tactic {
    case .simt(let m, let n, let k, let threadM, let threadN, let residentBlocks, let split):
      emit(
        region, text: CUDAText.gemmSIMT, body: "apus_gemm_simt", tile: (m, n),
        macros: [
          ("SIMT_BM", m), ("SIMT_BN", n), ("SIMT_BK", k), ("SIMT_TM", threadM), ("SIMT_TN", threadN),
          ("GEMM_A", problem.kind), ("GEMM_B", problem.kind), ("GEMM_VEC_A", problem.vectorA),
          ("GEMM_VEC_B", problem.vectorB),
        ], width: problem.epilogueWidth(4), threads: m / threadM * (n / threadN), residentBlocks: residentBlocks,
        shared: 2 * k * (m + n + 8) * (problem.dtype == .f64 ? 8 : 4), split: split, into: &builder)
    case .mma(let m, let n, let kBytes, let warpsM, let warpsN, let stages, let residentBlocks, let split):
      emit(
        region, text: CUDAText.gemmMMA, body: "apus_gemm_mma", tile: (m, n),
        macros: [
          ("MMA_KIND", problem.kind), ("MMA_BM", m), ("MMA_BN", n), ("MMA_BK", kBytes / problem.elementBytes),
          ("MMA_WARPS_M", warpsM), ("MMA_WARPS_N", warpsN), ("MMA_STAGES", stages),
          ("GEMM_VEC_A", problem.vectorA), ("GEMM_VEC_B", problem.vectorB),
        ], width: problem.epilogueWidth(8), threads: 32 * warpsM * warpsN, residentBlocks: residentBlocks,
        shared: max(stages * (m + n) * kBytes, warpsM * warpsN * 4096), split: split, into: &builder)
    case .wgmma(let tile): emit(region, tile, into: &builder)
    case .gemv(let rows, let warps, let columns, let split, let unroll, let mma):
      emitVector(region, rows, warps, columns, split, unroll, mma, into: &builder)
    case .ring(let ring): emit(region, ring, into: &builder)
    }
  }

  /// Tiles of the result, in parts of the sum that a second launch adds up where there is more than one.
  private func emit(
    _ region: AnchorRegion, text: String, body: String, tile: (m: Int, n: Int), macros: [(String, Int)], width: Int,
    threads: Int, residentBlocks: Int, shared: Int, split: Int, into builder: inout StepBuilder
  ) {
    let tiles =
      form.rows.ceilDivided(by: Dim(tile.m)) * form.columns.ceilDivided(by: Dim(tile.n)) * form.batches
    var call = TemplateCall(
      texts: [CUDAText.gemm, text],
      macros: [("GEMM_B_NK", problem.isTransposed ? "1" : "0"), ("GEMM_ACC", accumulator)]
        + macros.map { ($0.0, String($0.1)) },
      buffers: [left, right], parameters: parameters(split: split),
      call: arguments(partial: "0") + "  \(body)(g, c, blockIdx.x, gridDim.x, shared);\n",
      batches: form.batches, rows: form.rows, columns: form.columns, width: width,
      blocks: Dim.minimum(tiles * Dim(split), Dim(1 << 20)), threads: threads, residentBlocks: residentBlocks,
      sharedByteCount: shared)
    if split == 1 { return call.emit(region, tactic: tactic.name, into: &builder) }
    let partial = builder.addTemporary(
      problem.dtype == .f64 ? .f64 : .f32, Dim(split) * form.batches * form.rows * form.columns)
    call.macros.append(("GEMM_PARTIAL", "1"))
    call.buffers.append(partial)
    call.call = arguments(partial: "(\(accumulator) *)B.b[2]") + "  \(body)(g, c, blockIdx.x, gridDim.x, shared);\n"
    call.emitPart(
      name: "matmul", tactic: tactic.name, work: 2 * form.batches * form.rows * form.columns * form.depth,
      into: &builder)
    GemmSum(
      batches: form.batches, rows: form.rows, columns: form.columns, accumulator: accumulator, partial: partial,
      split: split, width: width
    ).emit(region, into: &builder)
  }

  private func emit(_ region: AnchorRegion, _ tile: WarpgroupTile, into builder: inout StepBuilder) {
    let size = Dim(problem.elementBytes)
    let inner = 128 / problem.elementBytes
    // A single matrix has no stride between batches, but a description needs one.
    func strides(_ row: Dim, _ batch: Dim) -> [Dim] { [row * size, batch == 0 ? row * size : batch * size] }
    let left = TensorMap(
      buffer: 0, dtype: problem.dtype, sizes: [form.depth, form.rows, form.aStride == 0 ? 1 : form.batches],
      strides: strides(form.depth, form.aStride), box: [inner, tile.blockRows, 1])
    let batches = form.bStride == 0 ? 1 : form.batches
    let right =
      problem.isTransposed
      ? TensorMap(
        buffer: 1, dtype: problem.dtype, sizes: [form.depth, form.columns, batches],
        strides: strides(form.depth, form.bStride), box: [inner, tile.n / tile.cluster, 1])
      : TensorMap(
        buffer: 1, dtype: problem.dtype, sizes: [form.columns, form.depth, batches],
        strides: strides(form.columns, form.bStride), box: [64, 64, 1])
    let units =
      form.rows.ceilDivided(by: Dim(tile.blockRows * tile.cluster)) * form.columns.ceilDivided(by: Dim(tile.n))
      * form.batches
    var parameters = parameters(split: 1)
    parameters[5] = form.aStride == 0 ? 0 : 1
    parameters[7] = form.bStride == 0 ? 0 : 1
    let call = TemplateCall(
      texts: [CUDAText.gemm, CUDAText.wgmma, CUDAText.gemmWGMMA],
      macros: [
        ("WG_KIND", problem.kind), ("WG_M", tile.m), ("WG_N", tile.n), ("WG_CONSUMERS", tile.consumers),
        ("WG_PINGPONG", tile.isPingPong ? 1 : 0), ("WG_STAGES", tile.stages), ("WG_CLUSTER", tile.cluster),
        ("WG_SHARE_A", 0), ("WG_SPLIT", tile.split), ("GEMM_B_NK", problem.isTransposed ? 1 : 0),
        ("GEMM_B_EARLY", problem.isConstant ? 1 : 0), ("GEMM_SLAB", tile.slab),
      ].map { ($0.0, String($0.1)) },
      buffers: [self.left, self.right], parameters: parameters, maps: [left, right],
      call: arguments(partial: "0")
        + "  apus_gemm_wgmma(g, c, blockIdx.x, gridDim.x, shared, T.m[0], T.m[1]);\n",
      batches: form.batches, rows: form.rows, columns: form.columns, width: problem.epilogueWidth(8),
      blocks: Dim.minimum(units, Dim(WarpgroupTile.resident(tile.clusterSize))) * Dim(tile.clusterSize),
      threads: tile.threads, cluster: tile.clusterSize, sharedByteCount: tile.sharedByteCount)
    call.emit(region, tactic: tactic.name, into: &builder)
  }

  private func emitVector(
    _ region: AnchorRegion, _ rows: Int, _ warps: Int, _ columns: Int, _ split: Int, _ unroll: Int, _ mma: Bool,
    into builder: inout StepBuilder
  ) {
    var rounded = 1
    while rounded < rows { rounded *= 2 }
    let perBlock = columns * warps / split
    let units = form.columns.ceilDivided(by: Dim(perBlock)) * form.batches
    let call = TemplateCall(
      texts: [CUDAText.gemm, CUDAText.gemv],
      macros: [
        ("GEMM_A", problem.kind), ("GEMM_B", problem.kind),
        ("GEMM_B_EARLY", problem.isConstant ? 1 : 0), ("GEMV_ROWS", rows), ("GEMV_WARPS", warps),
        ("GEMV_UNROLL", unroll), ("GEMM_VEC_A", problem.vectorA), ("GEMM_VEC_B", problem.vectorB),
        ("GEMV_NR", columns), ("GEMV_SPLIT", split), ("GEMV_MMA", mma ? 1 : 0),
      ].map { ($0.0, String($0.1)) },
      buffers: [left, right], parameters: parameters(split: 1),
      call: arguments(partial: "0") + "  apus_gemv(g, c, blockIdx.x, gridDim.x, shared);\n",
      batches: form.batches, rows: form.rows, columns: form.columns,
      width: problem.epilogueWidth(min(columns, mma ? 2 : problem.group)),
      blocks: Dim.minimum(units, Dim(1 << 12)), threads: 32 * warps, sharedByteCount: 8 * warps * columns * rounded)
    call.emit(region, tactic: tactic.name, into: &builder)
  }
}

extension GemmCall {
  private func emit(_ region: AnchorRegion, _ ring: WeightRing, into builder: inout StepBuilder) {
    let units = form.columns.ceilDivided(by: Dim(ring.columnsOfBlock)) * form.batches
    let call = TemplateCall(
      texts: [CUDAText.gemm, CUDAText.gemvRing],
      macros: [
        ("GEMM_A", problem.kind), ("GEMM_B", problem.kind), ("GEMM_VEC_A", problem.vectorA), ("GEMV_ROWS", ring.rows),
        ("GEMV_WARPS", WeightRing.warps), ("GEMV_NR", ring.columns), ("GEMV_SPLIT", ring.split), ("RING_K", ring.depth),
        ("RING_STAGES", ring.stages),
      ].map { ($0.0, String($0.1)) },
      buffers: [left, right], parameters: parameters(split: 1),
      call: arguments(partial: "0") + "  apus_gemv_ring(g, c, blockIdx.x, gridDim.x, shared);\n",
      batches: form.batches, rows: form.rows, columns: form.columns, width: problem.epilogueWidth(ring.columns),
      blocks: Dim.minimum(units, Dim(WeightRing.blocks)), threads: 32 * WeightRing.warps,
      sharedByteCount: ring.sharedByteCount)
    call.emit(region, tactic: tactic.name, into: &builder)
  }
}

/// Adds up the parts of a product whose sum was split, and computes the region's epilogue.
struct GemmSum {
  var batches: Dim
  var rows: Dim
  var columns: Dim
  /// The C type of the parts.
  var accumulator: String
  /// Slot of the parts, one after the other.
  var partial: Int
  var split: Int
  var width: Int

  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) {
    let strips = (batches * rows * columns).ceilDivided(by: Dim(256 * width))
    let call = TemplateCall(
      texts: [CUDAText.gemm], macros: [("GEMM_ACC", accumulator)], buffers: [partial],
      parameters: [batches, rows, columns, Dim(split)],
      call:
        "  const apus_gemm_args g = {0, 0, (\(accumulator) *)B.b[0], P.p[0], P.p[1], P.p[2], 0, 0, 0, 0, 0, P.p[3]};\n"
        + "  apus_gemm_reduce(g, c, blockIdx.x, gridDim.x, shared);\n",
      batches: batches, rows: rows, columns: columns, width: width, blocks: Dim.minimum(strips, 1056), threads: 256,
      sharedByteCount: 0)
    call.emit(region, tactic: split == 1 ? "epilogue" : "sum of \(split)", into: &builder)
  }
}
