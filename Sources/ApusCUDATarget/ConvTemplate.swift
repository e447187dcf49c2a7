import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusPlan

/// NHWC convolutions of floats over one to three spatial axes, as implicit products of matrices: rows are places of the result,
/// columns its channels.
struct ConvTemplate: KernelTemplate {
  let architecture: CUDAArchitecture
  let name = "conv"

  func refusal(_ node: Node, in graph: Graph) -> String? {
    guard node.op.name == "conv" else { return "it is no convolution" }
    guard let problem = ConvProblem(node, in: graph) else {
      return "it is not an NHWC convolution of floats with known channels and kernel"
    }
    if problem.groups > 1, problem.groupOutputs < 8 || problem.groupChannels < 8 {
      return "groups of \(problem.groupChannels) channels make products too small"
    }
    return nil
  }

  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) throws(BuildError) {
    guard let problem = ConvProblem(region.node, in: region.graph) else { return }
    let inputs = region.node.inputs
    ConvCall(problem: problem, image: builder.slot(inputs[0]), weights: builder.slot(inputs[1]))
      .emit(region, into: &builder)
  }
}

/// A convolution as the convolution texts see it; axes are depth, height and width.
struct ConvProblem {
  var dtype: DType
  var images: Dim
  var input: [Dim]
  var output: [Dim]
  var kernel: [Int]
  var strides: [Int]
  var dilations: [Int]
  var pads: [Int]
  var channels: Int
  var outputs: Int
  var groups: Int
  var rank: Int

  var groupChannels: Int { channels / groups }
  var groupOutputs: Int { outputs / groups }
  var places: Dim { images * Dim.product(output) }
  var depth: Int { kernel.reduce(groupChannels, *) }

  init?(_ node: Node, in graph: Graph) {
    guard node.op.name == "conv", node.op.attributes["layout"] == .string("nhwc") else { return nil }
    let (x, w) = (graph.tensorType(node.inputs[0]), graph.tensorType(node.inputs[1]))
    let y = graph.tensorType(node.outputs[0])
    guard [.f64, .f32, .f16, .bf16].contains(x.dtype), (3...5).contains(x.rank), let weights = w.constantShape,
      let channels = x.shape[x.rank - 1].constantValue, channels > 0, weights.allSatisfy({ $0 > 0 }),
      let strides = try? node.op.attributes.ints("strides"), let pads = try? node.op.attributes.ints("pads_begin"),
      let dilations = try? node.op.attributes.ints("dilations"), let groups = try? node.op.attributes.int("groups")
    else { return nil }
    dtype = x.dtype
    images = x.shape[0]
    rank = x.rank - 2
    let missing = 3 - rank
    func filled<Value>(_ values: [Value], _ filler: Value) -> [Value] {
      [Value](repeating: filler, count: missing) + values
    }
    input = filled(Array(x.shape[1..<x.rank - 1]), 1)
    output = filled(Array(y.shape[1..<y.rank - 1]), 1)
    kernel = filled(Array(weights[1..<weights.count - 1]), 1)
    self.strides = filled(strides, 1)
    self.dilations = filled(dilations, 1)
    self.pads = filled(pads, 0)
    self.channels = channels
    self.groups = groups
    outputs = weights[0]
  }

  /// In the order that `apus_conv_read` takes them.
  func parameters(split: Int) -> [Dim] {
    let row = input[2] * Dim(channels)
    let plane = input[1] * row
    let scalars: [Dim] = [1, places, Dim(outputs), Dim(depth), Dim(split), Dim(groups), Dim(groupChannels), images]
    return scalars + input + output + (kernel + strides + dilations + pads).map { Dim($0) }
      + [input[0] * plane, 1, plane, row, Dim(channels)]
  }

  /// Elements of a load of channels, and of weights.
  func vector(_ largest: Int) -> (image: Int, weights: Int) {
    func fitting(_ size: Int) -> Int {
      var count = largest
      while size % count != 0 { count /= 2 }
      return count
    }
    return (fitting(groupChannels), fitting(depth))
  }

  func epilogueWidth(_ limit: Int) -> Int {
    var width = limit
    while groupOutputs % width != 0 { width /= 2 }
    return width
  }
}

/// The launches of a convolution.
private struct ConvCall {
  let problem: ConvProblem
  /// Slots of the image and of the weights.
  let image: Int
  let weights: Int

  private func tiles(_ m: Int, _ n: Int) -> (estimate: Int, dim: Dim) {
    let columns = problem.groups * ((problem.groupOutputs + n - 1) / n)
    return (
      (max(problem.places.estimate, 1) + m - 1) / m * columns, problem.places.ceilDivided(by: Dim(m)) * Dim(columns)
    )
  }

  /// Parts of the sum, so that there is work for every multiprocessor.
  private func split(_ tiles: Int) -> Int { problem.depth >= 512 && tiles < 66 ? min(8, max(1, 132 / tiles)) : 1 }

  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) {
    let isHalf = problem.dtype == .f16 || problem.dtype == .bf16
    isHalf ? emitMatrixUnits(region, into: &builder) : emitScalar(region, into: &builder)
  }

  private func emitScalar(_ region: AnchorRegion, into builder: inout StepBuilder) {
    let isDouble = problem.dtype == .f64
    let vector = problem.vector(isDouble ? 1 : 4)
    let isLarge = !isDouble && vector.image > 1 && problem.groupOutputs > 32
    let isHuge = isLarge && tiles(128, 64).estimate >= 256
    let (m, n, k, thread) = isHuge ? (128, 64, 16, 8) : isLarge ? (64, 64, 16, 4) : (32, 32, isDouble ? 8 : 16, 4)
    let split = isHuge ? 1 : split(tiles(m, n).estimate)
    let kind = isDouble ? 3 : 0
    emit(
      region, texts: [CUDAText.gemmSIMT, CUDAText.conv, CUDAText.convSIMT], body: "apus_conv_simt", tile: (m, n),
      macros: [
        ("SIMT_BM", m), ("SIMT_BN", n), ("SIMT_BK", k), ("SIMT_TM", thread), ("SIMT_TN", thread), ("GEMM_A", kind),
        ("GEMM_B", kind), ("GEMM_VEC_A", vector.image), ("GEMM_VEC_B", vector.weights), ("CONV_PIXELS", 0),
      ], width: problem.epilogueWidth(4), threads: m / thread * (n / thread), residentBlocks: isHuge ? 2 : 1,
      shared: 2 * k * (m + n + 8) * (isDouble ? 8 : 4) + (m + 2 * k) * 20, split: split,
      tactic: "conv simt \(m)x\(n)", into: &builder)
  }

  private func emitMatrixUnits(_ region: AnchorRegion, into builder: inout StepBuilder) {
    let vector = problem.vector(8)
    let isLarge = tiles(128, 128).estimate >= 132 && problem.groupOutputs > 64
    let isSmall = tiles(64, 64).estimate < 66
    let (m, n, kBytes, warpsM, warpsN) =
      isLarge ? (128, 128, 64, 2, 4) : isSmall ? (32, 64, 128, 1, 4) : (64, 64, 128, 2, 2)
    let stages = 4
    emit(
      region, texts: [CUDAText.gemmMMA, CUDAText.conv, CUDAText.convMMA], body: "apus_conv_mma", tile: (m, n),
      macros: [
        ("MMA_KIND", problem.dtype == .f16 ? 1 : 2), ("MMA_BM", m), ("MMA_BN", n), ("MMA_BK", kBytes / 2),
        ("MMA_WARPS_M", warpsM), ("MMA_WARPS_N", warpsN), ("MMA_STAGES", stages), ("GEMM_VEC_A", vector.image),
        ("GEMM_VEC_B", vector.weights),
      ], width: problem.epilogueWidth(8), threads: 32 * warpsM * warpsN, residentBlocks: 1,
      shared: max(stages * (m + n) * kBytes, warpsM * warpsN * 4096) + m * 20,
      split: isLarge ? 1 : split(tiles(m, n).estimate), tactic: "conv mma \(m)x\(n)", into: &builder)
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
      blocks: Dim.minimum(tiles(tile.m, tile.n).dim * Dim(split), Dim(1 << 20)), threads: threads,
      residentBlocks: residentBlocks, sharedByteCount: shared)
    if split == 1 { return call.emit(region, tactic: tactic, into: &builder) }
    let partial = builder.addTemporary(
      problem.dtype == .f64 ? .f64 : .f32, Dim(split) * problem.places * Dim(problem.outputs))
    call.macros.append(("GEMM_PARTIAL", "1"))
    call.buffers.append(partial)
    call.call = "  \(body)(apus_conv_read(B.b[0], B.b[1], B.b[2], P.p), c, blockIdx.x, gridDim.x, shared);\n"
    call.emitPart(
      name: "conv", tactic: "\(tactic) split \(split)", work: 2 * problem.places * Dim(problem.outputs * problem.depth),
      into: &builder)
    GemmSum(
      batches: 1, rows: problem.places, columns: Dim(problem.outputs), accumulator: accumulator, partial: partial,
      split: split, width: width
    ).emit(region, into: &builder)
  }
}
