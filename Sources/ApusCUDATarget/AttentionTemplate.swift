import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import ApusPlan

/// Attention with an online softmax: no matrix of scores is stored. Operands may be transposed views.
struct AttentionTemplate: KernelTemplate {
  let architecture: CUDAArchitecture
  let name = "attention"

  /// Rows must be whole, and begin where 16 bytes do.
  func readsInPlace(_ operand: Int, _ view: StridedView, in graph: Graph) -> Bool {
    guard operand < 3, view.strides.last == 1 else { return false }
    let unit = Dim(16 / graph.tensorType(view.source).dtype.byteCount)
    return view.offset == 0 || (view.strides.dropLast() + [view.offset]).allSatisfy { $0.split(by: unit).rest == 0 }
  }

  func refusal(_ node: Node, in graph: Graph) -> String? {
    guard let op = node.op as? Attention else { return "it is no attention" }
    let types = node.inputs.map { graph.tensorType($0) }
    guard [.f32, .f16, .bf16].contains(types[0].dtype) else { return "the operands are \(types[0].dtype)" }
    guard let sizes = try? op.geometry(types), let depth = sizes.depth.constantValue,
      let valueDepth = sizes.valueDepth.constantValue
    else { return "the head size is not known" }
    if depth == 0 || valueDepth == 0 { return "heads are empty" }
    guard types.count > 3 else { return nil }
    if Self.maskKind(types[3].dtype) == nil { return "the mask is \(types[3].dtype)" }
    let mask = types[3].shape
    let fits = mask.count <= 4 && zip(mask, sizes.scoreShape.suffix(mask.count)).allSatisfy { $0 == 1 || $0 == $1 }
    return fits ? nil : "the mask \(types[3]) may broadcast at run time"
  }

  private static func maskKind(_ dtype: DType) -> Int? {
    [.bool: 1, .f32: 2, .f16: 3, .bf16: 4, .f64: 5][dtype]
  }

  private func problem(_ region: AnchorRegion) -> AttentionProblem? {
    let types = region.node.inputs.map { region.graph.tensorType($0) }
    guard let op = region.node.op as? Attention, let sizes = try? op.geometry(types),
      let depth = sizes.depth.constantValue, let valueDepth = sizes.valueDepth.constantValue
    else { return nil }
    let strides = (0..<3).flatMap { region.strides(of: region.node.inputs[$0]).prefix(3) }
    return AttentionProblem(
      sizes: sizes, depth: depth, valueDepth: valueDepth, dtype: types[0].dtype, strides: strides)
  }

  func tactics(for region: AnchorRegion) -> [TacticCandidate] {
    guard let problem = problem(region) else { return [] }
    return AttentionTactic.candidates(problem, architecture).map { TacticCandidate(name: $0.name) }
  }

  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) throws(BuildError) {
    let (graph, node) = (region.graph, region.node)
    let types = node.inputs.map { graph.tensorType($0) }
    guard let op = node.op as? Attention, let problem = problem(region) else { return }
    let (sizes, strides, depth, valueDepth) = (problem.sizes, problem.strides, problem.depth, problem.valueDepth)
    let tactic =
      region.tactic.flatMap { name in AttentionTactic.candidates(problem, architecture).first { $0.name == name } }
      ?? AttentionTactic.choose(problem, architecture)
    var buffers = (0..<3).map { region.slot(of: node.inputs[$0], in: &builder) }
    var maskStrides: [Dim] = [0, 0, 0, 0]
    var macros: [(String, String)] = [
      ("ATTN_TYPE", types[0].dtype == .f32 ? "0" : types[0].dtype == .f16 ? "1" : "2"), ("ATTN_D", String(depth)),
      ("ATTN_DV", String(valueDepth)), ("ATTN_SCALE", "(\(CDialect.float(op.scale, .f32)))"),
      ("ATTN_SOFTCAP", "(\(CDialect.float(op.softcap, .f32)))"), ("ATTN_CAUSAL", op.causal ? "1" : "0"),
    ]
    if types.count > 3, let kind = Self.maskKind(types[3].dtype) {
      let shape = types[3].shape
      maskStrides = Array(repeating: 0, count: 4 - shape.count)
      for (axis, dim) in shape.enumerated() { maskStrides.append(dim == 1 ? 0 : Dim.product(shape[(axis + 1)...])) }
      buffers.append(builder.slot(node.inputs[3]))
      // Rows of a key head are its query heads' rows: they share a mask that depends on neither.
      let differs = maskStrides[2] != 0 || maskStrides[1] != 0 && sizes.heads != sizes.keyHeads
      let isPaired = maskStrides[3] == 1 && maskStrides.prefix(3).allSatisfy { $0.split(by: 2).rest == 0 }
      macros += [
        ("ATTN_MASK", String(kind)), ("ATTN_MASK_ROWS", differs ? "1" : "0"), ("ATTN_MASK_PAIR", isPaired ? "1" : "0"),
      ]
    }
    let mask = buffers.count > 3 ? "B.b[3]" : "0"
    let parameters: [Dim] =
      [sizes.batch, sizes.heads, sizes.keyHeads, sizes.queries, sizes.keys] + strides + maskStrides
      + [op.offset, 0, Dim(tactic.cluster), 0]
    let call = TemplateCall(
      texts: [CUDAText.attentionCommon, CUDAText.attentionFinish, tactic.text], macros: macros + tactic.macros(problem),
      buffers: buffers, parameters: parameters,
      call: "  const apus_attention_args g = {B.b[0], B.b[1], B.b[2], \(mask), 0, 0, 0, "
        + (0..<22).map { "P.p[\($0)]" }.joined(separator: ", ")
        + "};\n  \(tactic.body)(g, c, blockIdx.x, gridDim.x, shared);\n",
      batches: sizes.batch * sizes.heads, rows: sizes.queries, columns: Dim(valueDepth), width: problem.epilogueWidth,
      blocks: tactic.blocks(problem), threads: tactic.threads, cluster: tactic.cluster,
      sharedByteCount: tactic.sharedByteCount(problem))
    call.emit(region, tactic: tactic.name, into: &builder)
  }
}

/// An attention as the attention texts see it.
struct AttentionProblem {
  var sizes: Attention.Geometry
  var depth: Int
  var valueDepth: Int
  var dtype: DType
  /// Elements between neighbours of queries, keys and values along batch, head and position.
  var strides: [Dim]

  /// Rows of one key head: those of its query heads.
  var rows: Dim {
    sizes.heads.dividedExactly(by: sizes.keyHeads).map { $0 * sizes.queries } ?? sizes.heads * sizes.queries
  }
  var items: Int { max(sizes.batch.estimate, 1) * max(sizes.keyHeads.estimate, 1) }

  /// Elements of a load: rows of all operands begin at multiples of it.
  func vector(_ largest: Int) -> Int {
    var count = largest
    while count > 1, !(strides + [Dim(depth), Dim(valueDepth)]).allSatisfy({ $0.split(by: Dim(count)).rest == 0 }) {
      count /= 2
    }
    return count
  }
  var full: Int { 16 / dtype.byteCount }
  var isAligned: Bool { vector(full) == full }
  var epilogueWidth: Int {
    var width = dtype == .f32 ? 4 : 8
    while valueDepth % width != 0 { width /= 2 }
    return width
  }
}

/// How an attention is computed: a text with its parameters.
enum AttentionTactic: Hashable {
  /// Without tensor cores: rows of a thread.
  case simt(rows: Int)
  /// Warps along rows and along keys, tiles of 16 rows of a warp, keys of a step, steps in flight, and blocks that share
  /// the keys.
  case mma(warps: Int, keyWarps: Int, tiles: Int, keys: Int, stages: Int, cluster: Int)

  var text: String {
    switch self {
    case .simt: CUDAText.attentionSIMT
    case .mma: CUDAText.attentionMMA
    }
  }

  var body: String {
    switch self {
    case .simt: "apus_attention_simt"
    case .mma: "apus_attention_mma"
    }
  }

  var name: String {
    switch self {
    case .simt(let rows): "attention simt \(8 * rows)"
    case .mma(let warps, let keyWarps, let tiles, let keys, _, let cluster):
      "attention mma \(16 * tiles * warps)x\(keys)\(keyWarps > 1 ? " key warps \(keyWarps)" : "")"
        + (cluster > 1 ? " cluster \(cluster)" : "")
    }
  }

  var threads: Int {
    switch self {
    case .simt: 128
    case .mma(let warps, let keyWarps, _, _, _, _): 32 * warps * keyWarps
    }
  }

  var cluster: Int {
    switch self {
    case .simt: 1
    case .mma(_, _, _, _, _, let cluster): cluster
    }
  }

  private var blockRows: Int {
    switch self {
    case .simt(let rows): 8 * rows
    case .mma(let warps, _, let tiles, _, _, _): 16 * tiles * warps
    }
  }

  func macros(_ problem: AttentionProblem) -> [(String, String)] {
    switch self {
    case .simt(let rows):
      [("ATTN_TM", "\(rows)"), ("ATTN_TN", "4"), ("ATTN_VEC", "\(problem.vector(problem.full))")]
    case .mma(let warps, let keyWarps, let tiles, let keys, let stages, let cluster):
      [
        ("ATTN_WM", "\(warps)"), ("ATTN_KW", "\(keyWarps)"), ("ATTN_MT", "\(tiles)"), ("ATTN_BN", "\(keys)"),
        ("ATTN_STAGES", "\(stages)"),
      ] + (cluster > 1 ? [("ATTN_SPLIT", "1"), ("ATTN_CLUSTER", "\(cluster)")] : [])
    }
  }

  /// Columns of values that a block of the text without tensor cores makes.
  private static func chunk(_ valueDepth: Int) -> Int { min((valueDepth + 15) / 16 * 16, 128) }

  func blocks(_ problem: AttentionProblem) -> Dim {
    let items = problem.sizes.batch * problem.sizes.keyHeads * problem.rows.ceilDivided(by: Dim(blockRows))
    switch self {
    case .simt:
      let chunk = Self.chunk(problem.valueDepth)
      return items * Dim((problem.valueDepth + chunk - 1) / chunk)
    case .mma: return items * Dim(cluster)
    }
  }

  func sharedByteCount(_ problem: AttentionProblem) -> Int {
    func rounded(_ size: Int, _ unit: Int) -> Int { (size + unit - 1) / unit * unit }
    let rows = blockRows
    switch self {
    case .simt:
      let held = min(rounded(problem.depth, 4), 128)
      let pitch = 4 * (held / 4 | 1)
      let values = Self.chunk(problem.valueDepth)
      return 4 * max((rows + 64) * pitch + 64 * values + rows * 68, rows * (values + 7) + 4)
    case .mma(_, let keyWarps, _, let keys, let stages, _):
      let (size, pad) = (problem.dtype.byteCount, problem.full)
      let (depth, values) = (rounded(problem.depth, 16), rounded(problem.valueDepth, 16))
      return max(
        size * (rows * (depth + pad) + stages * keys * (depth + values + 2 * pad)),
        4 * (keyWarps * rows * (values + 11) + 4))
    }
  }

  /// The tactic that the problem's sizes suggest: the first that fits the memory of a block.
  static func choose(_ problem: AttentionProblem, _ architecture: CUDAArchitecture) -> AttentionTactic {
    var candidates: [AttentionTactic] = []
    // Products of fewer keys and columns than a tensor core takes are as quick without, and exact to f32.
    let isTiny = problem.sizes.keys.estimate < 16 && problem.depth < 32
    if problem.isAligned, !isTiny { candidates = matrixUnits(problem, architecture) }
    let rows = problem.rows.estimate
    let simt: AttentionTactic = .simt(rows: rows <= 8 ? 1 : rows * problem.items >= 132 * 64 ? 8 : 2)
    return (candidates + [simt]).first { $0.sharedByteCount(problem) <= architecture.sharedByteCount } ?? .simt(rows: 1)
  }

  /// The ways to compute the problem, the one that ``choose(_:_:)`` takes first.
  static func candidates(_ problem: AttentionProblem, _ architecture: CUDAArchitecture) -> [AttentionTactic] {
    var tactics = [choose(problem, architecture)]
    if problem.isAligned {
      let rows = max(problem.rows.estimate, 1)
      tactics += matrixUnits(problem, architecture)
      let clusters = architecture.capability < 90 ? [1] : [1, 2, 4, 8]
      for keys in [64, 32] {
        if rows <= 64 {
          tactics += (rows <= 16 ? clusters : [1]).map {
            .mma(warps: 1, keyWarps: keys / 16, tiles: 1, keys: keys, stages: 2, cluster: $0)
          }
        }
        if rows > 16 {
          tactics += [1, 2, 4, 8].map {
            .mma(warps: $0, keyWarps: 1, tiles: 1, keys: keys, stages: 2, cluster: 1)
          }
          tactics.append(.mma(warps: 1, keyWarps: keys / 16, tiles: 1, keys: keys, stages: 2, cluster: 1))
        }
      }
    }
    tactics += [1, 2, 8].map { .simt(rows: $0) }
    var names: Set<String> = []
    return tactics.filter {
      $0.sharedByteCount(problem) <= architecture.sharedByteCount && names.insert($0.name).inserted
    }
  }

  private static func matrixUnits(_ problem: AttentionProblem, _ architecture: CUDAArchitecture) -> [AttentionTactic] {
    let rows = max(problem.rows.estimate, 1)
    let isSmall = (rows + 63) / 64 * problem.items < 132
    if rows <= 16 {
      let keys = problem.sizes.keys.estimate
      // Blocks of a cluster share the keys of one head where there are fewer heads than multiprocessors.
      let isAlone = architecture.capability < 90 || problem.items >= 120 || keys <= 64
      let cluster = isAlone ? 1 : keys <= 384 ? 4 : 8
      return [64, 32].flatMap { count in
        [3, 2].map { .mma(warps: 1, keyWarps: count / 16, tiles: 1, keys: count, stages: $0, cluster: cluster) }
      }
    }
    if isSmall, problem.depth <= 256 {
      return [64, 32].map { .mma(warps: 1, keyWarps: $0 / 16, tiles: 1, keys: $0, stages: 2, cluster: 1) }
    }
    let keys = problem.dtype == .f32 ? [32, 16] : [64, 32, 16]
    return keys.map { .mma(warps: 4, keyWarps: 1, tiles: 1, keys: $0, stages: 2, cluster: 1) }
  }
}
