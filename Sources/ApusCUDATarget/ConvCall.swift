import ApusCompiler
import ApusCore
import ApusPlan

/// The launches of a convolution.
struct ConvCall {
  let problem: ConvProblem
  /// Slots of the image and of the weights.
  let image: Int
  let weights: Int

  func emit(_ region: AnchorRegion, _ tactic: ConvTactic, isConstant: Bool, into builder: inout StepBuilder) {
    switch tactic {
    case .wgmma(let tile): emit(region, tile, isConstant: isConstant, into: &builder)
    case .simt(let m, let n, let k, let thread, let residentBlocks, let split):
      let isDouble = problem.dtype == .f64
      let vector = problem.vector(isDouble ? 1 : 4)
      let kind = isDouble ? 3 : 0
      emit(
        region, texts: [CUDAText.gemmSIMT, CUDAText.conv, CUDAText.convSIMT], body: "apus_conv_simt", tile: (m, n),
        macros: [
          ("SIMT_BM", m), ("SIMT_BN", n), ("SIMT_BK", k), ("SIMT_TM", thread), ("SIMT_TN", thread), ("GEMM_A", kind),
          ("GEMM_B", kind), ("GEMM_VEC_A", vector.image), ("GEMM_VEC_B", vector.weights), ("CONV_PIXELS", 0),
        ], width: problem.epilogueWidth(4), threads: m / thread * (n / thread), residentBlocks: residentBlocks,
        shared: 2 * k * (m + n + 8) * (isDouble ? 8 : 4) + (m + 2 * k) * 20, split: split, tactic: tactic.name,
        into: &builder)
    case .mma(let m, let n, let kBytes, let warpsM, let warpsN, let split):
      let vector = problem.vector(8)
      let stages = 4
      emit(
        region, texts: [CUDAText.gemmMMA, CUDAText.conv, CUDAText.convMMA], body: "apus_conv_mma", tile: (m, n),
        macros: [
          ("MMA_KIND", problem.dtype == .f16 ? 1 : 2), ("MMA_BM", m), ("MMA_BN", n), ("MMA_BK", kBytes / 2),
          ("MMA_WARPS_M", warpsM), ("MMA_WARPS_N", warpsN), ("MMA_STAGES", stages), ("GEMM_VEC_A", vector.image),
          ("GEMM_VEC_B", vector.weights),
        ], width: problem.epilogueWidth(8), threads: 32 * warpsM * warpsN, residentBlocks: 1,
        shared: max(stages * (m + n) * kBytes, warpsM * warpsN * 4096) + m * 20, split: split, tactic: tactic.name,
        into: &builder)
    }
  }

  private func emit(
    _ region: AnchorRegion, _ tile: WarpgroupConvolution, isConstant: Bool, into builder: inout StepBuilder
  ) {
    let columns = problem.groups * ((problem.groupOutputs + tile.n - 1) / tile.n)
    let units = problem.places.ceilDivided(by: Dim(tile.blockRows)) * Dim(columns)
    let call = TemplateCall(
      texts: [CUDAText.gemm, CUDAText.wgmma, CUDAText.conv, CUDAText.convWGMMA],
      macros: [
        ("WG_KIND", problem.dtype == .f16 ? 1 : 2), ("WG_M", tile.m), ("WG_N", tile.n),
        ("WG_CONSUMERS", tile.consumers), ("WG_PINGPONG", tile.isPingPong ? 1 : 0), ("WG_STAGES", tile.stages),
        ("WG_SPLIT", tile.split), ("GEMM_B_NK", 1), ("GEMM_B_EARLY", isConstant ? 1 : 0),
        ("CONV_TILED", problem.isPlain ? 1 : 0), ("CONV_RANK", problem.rank == 3 ? 3 : 2),
      ].map { ($0.0, String($0.1)) },
      buffers: [image, weights], parameters: problem.parameters(split: 1), maps: problem.maps(tile),
      call:
        "  apus_conv_wgmma(\n      apus_conv_read(B.b[0], B.b[1], 0, P.p), c, blockIdx.x, gridDim.x, shared, T.m[0], T.m[1]);\n",
      batches: 1, rows: problem.places, columns: Dim(problem.outputs), width: problem.epilogueWidth(8),
      blocks: Dim.minimum(units, Dim(tile.resident)) * Dim(tile.split), threads: tile.threads,
      residentBlocks: tile.residentBlocks, cluster: tile.split, sharedByteCount: tile.sharedByteCount)
    call.emit(region, tactic: tile.name, into: &builder)
  }

  private func emit(
    _ region: AnchorRegion, texts: [String], body: String, tile: (m: Int, n: Int), macros: [(String, Int)], width: Int,
    threads: Int, residentBlocks: Int, shared: Int, split: Int, tactic: String, into builder: inout StepBuilder
  ) {
    let accumulator = problem.dtype == .f64 ? "double" : "float"
    var call = TemplateCall(
      texts: [CUDAText.gemm] + texts,
      macros: [("GEMM_B_NK", "1"), ("GEMM_ACC", accumulator), ("CONV_RANK", problem.rank == 3 ? "3" : "2")]
        + macros.map { ($0.0, String($0.1)) },
      buffers: [image, weights], parameters: problem.parameters(split: split),
      call: "  \(body)(apus_conv_read(B.b[0], B.b[1], 0, P.p), c, blockIdx.x, gridDim.x, shared);\n",
      batches: 1, rows: problem.places, columns: Dim(problem.outputs), width: width,
      blocks: Dim.minimum(problem.tiles(tile.m, tile.n).dim * Dim(split), Dim(1 << 20)), threads: threads,
      residentBlocks: residentBlocks, sharedByteCount: shared)
    if split == 1 { return call.emit(region, tactic: tactic, into: &builder) }
    let partial = builder.addTemporary(
      problem.dtype == .f64 ? .f64 : .f32, Dim(split) * problem.places * Dim(problem.outputs))
    call.macros.append(("GEMM_PARTIAL", "1"))
    call.buffers.append(partial)
    call.call = "  \(body)(apus_conv_read(B.b[0], B.b[1], B.b[2], P.p), c, blockIdx.x, gridDim.x, shared);\n"
    call.emitPart(
      name: "conv", tactic: tactic, work: 2 * problem.places * Dim(problem.outputs * problem.depth),
      into: &builder)
    GemmSum(
      batches: 1, rows: problem.places, columns: Dim(problem.outputs), accumulator: accumulator, partial: partial,
      split: split, width: width
    ).emit(region, into: &builder)
  }
}
