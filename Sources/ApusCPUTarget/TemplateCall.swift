import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusPlan

/// A launch of a C template with its epilogue, put together from parts.
///
/// Buffers are the template's own first, then the epilogue's; so are the parameters.
struct TemplateCall {
  /// Texts included after the epilogue, in order.
  var texts: [String]
  /// Macros set before them, such as `NV 2`.
  var macros: [String] = []
  /// The template's own buffers.
  var buffers: [Int]
  /// Sizes that the call text names `P(0)`, `P(1)`, ….
  var parameters: [Dim]
  /// Statements of the wrapper, where `CTX` is the epilogue's context.
  var call: String
  /// Shape of the result matrix that the epilogue sees.
  var batches: Dim
  var rows: Dim
  var columns: Dim

  func emit(
    _ region: AnchorRegion, blocks: Dim, scratchBytes: Dim, tactic: String, into builder: inout StepBuilder
  ) {
    let epilogue = EpilogueText(
      region, named: "KERNEL_NAME_epilogue", batches: batches, rows: rows, columns: columns, firstBuffer: buffers.count,
      parameters: parameters)
    var source = KernelText.prelude + epilogue.source
    source += "#define KERNEL KERNEL_NAME\n#define EPILOGUE KERNEL_NAME_epilogue\n"
    source += (macros + epilogue.macros).map { "#define \($0)\n" }.joined() + texts.joined()
    source += "#define P(i) params[i]\n#define CTX (&ctx)\n"
    source += "void KERNEL_NAME(void *const *buffers, const i64 *params, i64 block, i64 blockCount, void *scratch) {\n"
    source += "  const apus_ctx ctx = {buffers, params};\n\(call)}\n"

    let graph = region.graph
    let nodes = region.nodes.map { graph[$0] }
    let code = KernelCode(
      source: source, parameters: epilogue.parameters, blocks: blocks, scratchBytes: scratchBytes)
    builder.launch(
      code, buffers: buffers + epilogue.values.map { builder.slot($0) },
      name: nodes.map(\.op.name).joined(separator: "+"),
      sources: nodes.map(\.name).filter { !$0.isEmpty }, tactic: tactic,
      work: nodes.reduce(0) { $0 + $1.op.work($1.inputs.map(graph.type), $1.outputs.map(graph.type)) })
  }
}

/// A region's epilogue as a C function of a template's tile.
struct EpilogueText {
  let source: String
  /// Tensors that it reads, and last the one that it writes, in the order of their buffers.
  let values: [ValueID]
  let parameters: [Dim]
  /// What templates read of its kind.
  let macros: [String]

  /// - Parameters:
  ///   - batches, rows, columns: Shape of the result matrix that it sees.
  ///   - firstBuffer: Where its buffers begin among those of the context.
  ///   - parameters: What its own follow on.
  ///   - offsetsRows: Whether rows are counted from the context's.
  init(
    _ region: AnchorRegion, named name: String, batches: Dim = 1, rows: Dim, columns: Dim, firstBuffer: Int,
    parameters: [Dim], offsetsRows: Bool = false
  ) {
    let (kernel, values) = region.epilogue(batches: batches, rows: rows, columns: columns)
    let tile = kernel.arena.buffers.count - 1
    let emitter = LoopEmitter(
      kernel, parameters: parameters, tileBuffer: (tile, "tile[i * ts + j]"), bufferText: { "b\($0 + firstBuffer)" })
    let body = emitter.epilogueBody()
    var source = "APUS_INLINE void \(name)(const void *ctx, const float *tile, i64 ts, i64 batch, i64 row, "
    source += "i64 rows, i64 col, i64 cols) {\n  const apus_ctx *c = (const apus_ctx *)ctx;\n"
    if offsetsRows { source += "  row += c->row;\n" }
    for index in values.indices {
      let written = index == values.count - 1
      let type = (written ? "" : "const ") + CDialect.storage(kernel.arena.buffers[index])
      source += "  \(type) *const b\(index + firstBuffer) = (\(type) *)c->buffers[\(index + firstBuffer)];\n"
    }
    self.source = source + emitter.parameterText("c->params") + body + "}\n"
    self.values = values
    self.parameters = emitter.parameters
    macros = Self.isLight(kernel, tile: tile) ? ["APUS_LIGHT_EPILOGUE"] : []
  }

  /// Operations that are written out for each vector of a block of registers.
  private static let mostOperations = 12

  /// Whether templates may write it out for each vector, whose sums it takes from a register: few and cheap operations, on elements
  /// that lie as those of the result do.
  private static func isLight(_ kernel: Kernel, tile: Int) -> Bool {
    guard let column = kernel.variables.last?.name else { return false }
    func isAlong(_ index: Dim) -> Bool {
      let locals = ExprArena.locals(of: index)
      return locals.allSatisfy { ExprArena.dynamicExpr($0) == nil }
        && (!locals.contains(column) || index.unitStride(in: column))
    }
    guard kernel.stores.allSatisfy({ isAlong($0.index) }) else { return false }
    var operations = 0
    for expr in kernel.arena.reachable(kernel.stores.map(\.value)) {
      switch kernel.arena[expr] {
      case .load(let buffer, let index): if buffer != tile, !isAlong(index) { return false }
      case .index(let index): if ExprArena.locals(of: index).contains(column) { return false }
      case .unary(let function, _), .binary(let function, _, _):
        if function.isExpensive { return false }
        operations += 1
      case .select, .cast, .rounded: operations += 1
      case .reduce: return false
      case .float, .integer: break
      }
    }
    return operations <= mostOperations
  }
}

/// How much of a product a block is.
enum Grain: String, CaseIterable {
  case usual, fine, coarse, coarser

  /// Arithmetic operations that pay for scheduling a block.
  var operations: Int {
    switch self {
    case .usual: 400_000
    case .fine: 100_000
    case .coarse: 2_000_000
    case .coarser: 10_000_000
    }
  }

  /// Of the tactic of a region, by its ending.
  init(of region: AnchorRegion) {
    self = Self.allCases.first { $0 != .usual && region.tactic?.hasSuffix(" \($0.rawValue)") == true } ?? .usual
  }

  /// A tactic's name with the grain, which goes without saying when it is the usual one.
  func name(_ tactic: String) -> String { self == .usual ? tactic : "\(tactic) \(rawValue)" }

  /// A tactic's name without its grain.
  static func base(_ tactic: String) -> String {
    for grain in allCases where grain != .usual && tactic.hasSuffix(" \(grain.rawValue)") {
      return String(tactic.dropLast(grain.rawValue.count + 1))
    }
    return tactic
  }

  /// Ways to compute a region in all grains, by what they should take. Of grains that divide it alike the first is enough.
  ///
  /// - Parameter activations: elements that are read and written, whichever way it is.
  static func tactics(
    _ ways: [(name: String, work: (Grain) -> KernelWork)], activations: Double = 0, _ cpu: CPUTarget
  ) -> [TacticCandidate] {
    let costs = CPUCosts(cpu)
    var found: [TacticCandidate] = []
    for way in ways {
      var seen: Set<Int> = []
      for grain in allCases {
        var work = way.work(grain)
        guard seen.insert(work.blocks).inserted else { continue }
        work.activations = activations / Double(cpu.vectorBytes / 4)
        found.append(TacticCandidate(name: grain.name(way.name), microseconds: work.microseconds(costs)))
      }
    }
    return found.cheapestFirst
  }
}

extension [TacticCandidate] {
  /// By what they should take; those that take the same stay in their order.
  var cheapestFirst: [TacticCandidate] {
    enumerated().sorted {
      let (a, b) = ($0.element.microseconds ?? 0, $1.element.microseconds ?? 0)
      return a == b ? $0.offset < $1.offset : a < b
    }.map(\.element)
  }
}

/// Sizes of the register block of the matrix-product core, as `gemm.h` derives them.
struct GemmBlock {
  let rows: Int
  let vectors: Int
  /// f32 lanes of a vector.
  let lanes: Int

  /// A panel is one vector wide where the result has no more columns.
  init(cpu: CPUTarget, columns: Int?) {
    lanes = cpu.vectorBytes / 4
    rows = cpu.vectorBytes == 64 ? 12 : 6
    #if arch(arm64)
      vectors = 4
    #else
      vectors = (columns ?? .max) <= lanes ? 1 : 2
    #endif
  }

  private init(_ block: GemmBlock, rows: Int, vectors: Int) {
    lanes = block.lanes
    self.rows = rows
    self.vectors = vectors
  }

  /// Blocks that fit the registers, the usual one first.
  static func all(cpu: CPUTarget, columns: Int?) -> [GemmBlock] {
    let usual = GemmBlock(cpu: cpu, columns: columns)
    #if arch(arm64)
      return [usual]
    #else
      let others = cpu.vectorBytes == 64 ? [(12, 1), (12, 2), (6, 4)] : [(6, 1), (6, 2)]
      // No panel is wider than what the columns need.
      let fitting = others.filter { other in
        other != (usual.rows, usual.vectors) && (other.1 == 1 || (columns ?? .max) > usual.lanes * (other.1 - 1))
      }
      return [usual] + fitting.map { GemmBlock(usual, rows: $0.0, vectors: $0.1) }
    #endif
  }

  var columns: Int { lanes * vectors }
  /// What `gemm.h` is told; with the columns of the products, where they are known.
  func macros(columns: Int? = nil) -> [String] {
    let tail = columns.map { $0 % self.columns } ?? 0
    return ["NV \(vectors)", "APUS_MR \(rows)"] + (tail == 0 ? [] : ["APUS_TAIL \(tail)"])
  }

  var tactic: String { "gemm \(rows)x\(columns)" }

  /// Micro-tiles of rows that are worked on while panels stream past, for sums of length `depth`.
  func chunk(_ depth: Int) -> Int { max(1, 262_144 / (max(depth, 1) * rows * 4)) }

  /// Blocks for a product: none smaller than what pays for its scheduling, at most a few per core of a large machine.
  func blocks(batches: Dim, rows m: Dim, columns n: Dim, depth: Dim, _ grain: Grain = .usual) -> Dim {
    let tiles = batches * m.ceilDivided(by: Dim(rows)) * n.ceilDivided(by: Dim(columns))
    let wanted = (2 * batches * m * n * depth).ceilDivided(by: Dim(grain.operations))
    return Dim.minimum(Dim.minimum(Dim.maximum(wanted, 1), tiles), 64)
  }

  /// `[batch][depth, n]` matrices packed into panels, zero beyond `n`.
  ///
  /// - Parameter element: the matrix element's index in `source`, from batch, row of the sum and column.
  func pack(
    _ source: HostTensor, batches: Int, depth: Int, columns n: Int, element: (Int, Int, Int) -> Int
  ) -> HostTensor {
    let panels = (n + columns - 1) / columns
    return source.withUnsafeBytes { bytes in
      let from = bytes.bindMemory(to: Float.self)
      return HostTensor(.f32, [batches * panels * depth * columns]) { target in
        let to = target.bindMemory(to: Float.self)
        var at = 0
        for batch in 0..<batches {
          for panel in 0..<panels {
            let width = min(columns, n - panel * columns)
            for k in 0..<depth {
              for j in 0..<width { to[at + j] = from[element(batch, k, panel * columns + j)] }
              at += columns
            }
          }
        }
      }
    }
  }
}

/// Constant `[K, N]` matrices packed into panels of `width` columns, as `gemm.h` reads them.
struct PackedPanels {
  let batches: Int
  let depth: Int
  let columns: Int
  let width: Int
  /// Whether the constant is `[N, K]`.
  let isTransposed: Bool

  private var panels: Int { (columns + width - 1) / width }

  var layout: PackedLayout {
    let (depth, width, panels) = (Dim(depth), Dim(width), Dim(panels))
    return PackedLayout(
      name: "panels of \(self.width)\(isTransposed ? ", transposed" : "")", pack: pack,
      index: { [isTransposed] coordinates, arena in
        let (k, n) =
          isTransposed
          ? (coordinates[1], coordinates[0]) : (coordinates[coordinates.count - 2], coordinates[coordinates.count - 1])
        let batch = coordinates.dropLast(2).first ?? 0
        let panel = batch * panels + arena.quotient(n, width)
        return (panel * depth + k) * width + arena.remainder(n, width)
      })
  }

  private func pack(_ source: HostTensor) -> HostTensor {
    let count = batches * panels * depth * width
    let storage = HostStorage(byteCount: 4 * count)
    let to = storage.base.bindMemory(to: Float.self, capacity: count)
    let (kStep, nStep) = isTransposed ? (1, depth) : (columns, 1)
    source.withUnsafeBytes { bytes in
      guard let from = bytes.bindMemory(to: Float.self).baseAddress else { return }
      for panel in 0..<batches * panels {
        let first = panel % panels * width
        let own = min(width, columns - first)
        let matrix = from + panel / panels * depth * columns + first * nStep
        let target = to + panel * depth * width
        for k in 0..<depth {
          let row = target + k * width
          for j in 0..<own { row[j] = matrix[k * kStep + j * nStep] }
          for j in own..<width { row[j] = 0 }
        }
      }
    }
    return HostTensor(dtype: .f32, shape: [count], storage: storage)
  }
}
