import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusPlan

/// How operations without an element form are computed by texts of their own, without an epilogue.
protocol OperationKernel: Sendable {
  /// Names of the operations in the catalogue.
  var operations: [String] { get }

  /// Why the texts cannot compute the node, or nil when they can.
  func refusal(_ node: Node, in graph: Graph) -> String?

  /// Emits the launches that compute the node's results.
  func emit(_ node: Node, into builder: inout StepBuilder) throws(BuildError)
}

/// Operations that neither products nor generated loops compute, each by its ``OperationKernel``.
struct OperationTemplate: KernelTemplate {
  let name = "operation"
  let takesEpilogue = false
  private let kernels: [String: any OperationKernel]

  /// - Parameters:
  ///   - product: computes products of matrices, which some operations begin with; nil to do with loops.
  ///   - loops: makes the code of generated loops, which some operations need beside their texts.
  init(
    _ architecture: CUDAArchitecture, product: (any KernelTemplate)?,
    loops: @escaping @Sendable (Kernel) -> KernelCode
  ) {
    let loops = GeneratedLoops(code: loops)
    let all: [any OperationKernel] = [
      OrderKernel(), ScatterKernel(loops: loops), ScanKernel(), SelectionKernel(loops: loops), BoxKernel(),
      RecurrentKernel(architecture: architecture, loops: loops, product: product), FourierKernel(),
      BitCastKernel(),
    ]
    var kernels: [String: any OperationKernel] = [:]
    for kernel in all {
      for operation in kernel.operations { kernels[operation] = kernel }
    }
    self.kernels = kernels
  }

  func refusal(_ node: Node, in graph: Graph) -> String? {
    guard let kernel = kernels[node.op.name] else { return "no text computes \(node.op.name)" }
    let operands = node.inputs.compactMap { graph.type($0).tensor }
    let results = node.outputs.compactMap { graph.type($0).tensor }
    guard operands.count == node.inputs.count, results.count == node.outputs.count,
      !(operands + results).contains(where: { $0.dtype == .string })
    else { return "not all operands and results are tensors of numbers" }
    if node.op.lower(operands.map { Operand(argument: 0, $0) }, results) != nil { return "generated loops compute it" }
    return kernel.refusal(node, in: graph)
  }

  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) throws(BuildError) {
    try kernels[region.node.op.name]?.emit(region.node, into: &builder)
  }
}

/// A launch of an operation's text.
struct OperationCall {
  /// Texts after the prelude, in order. They say what varies by template parameters, since several may meet in one program.
  var texts: [String]
  /// Statements of the kernel, where `b` are the buffers' addresses, `p` the parameters, and `block`, `blockCount` and
  /// `shared` what bodies take.
  var call: String
  var buffers: [Int]
  var parameters: [Dim]
  /// Units of work, of which each block, or each cluster of blocks, takes one and then others a stride apart.
  var units: Dim
  var threads = 256
  var sharedByteCount = 0
  /// Blocks that work together.
  var cluster = 1

  /// More blocks than run at once on any GPU.
  private static let mostBlocks = 4096

  func emit(_ node: Node, tactic: String, work: Dim = 0, into builder: inout StepBuilder) {
    let parameter = parameters.isEmpty ? "" : ", const __grid_constant__ apus_params<\(parameters.count)> P"
    let cluster = cluster == 1 ? "" : " __cluster_dims__(\(cluster))"
    let shared =
      sharedByteCount == 0 ? "  u8 *const shared = 0;\n" : "  extern __shared__ __align__(1024) u8 shared[];\n"
    let source = """
      \(CUDAText.prelude)\(texts.joined())APUS_INLINE void KERNEL_NAME_body(
          void *const *b, const i64 *p, i64 block, i64 blockCount, u8 *shared) {
      \(call)}
      extern "C" __global__ void __launch_bounds__(\(threads))\(cluster) KERNEL_NAME(
          const __grid_constant__ apus_buffers<\(buffers.count)> B\(parameter)) {
      \(shared)  LAUNCH_CONSTANTS(APUS_ASK_EARLY)
        apus_wait_prior();
        KERNEL_NAME_body(B.b, \(parameters.isEmpty ? "0" : "P.p"), blockIdx.x, gridDim.x, shared);
      }

      """
    let code = KernelCode(
      source: source, parameters: parameters,
      blocks: Dim.minimum(units, Dim(Self.mostBlocks / self.cluster)) * Dim(self.cluster),
      threads: threads,
      sharedByteCount: sharedByteCount, asksEarly: true)
    builder.launch(
      code, buffers: buffers, name: node.op.name, sources: node.name.isEmpty ? [] : [node.name], tactic: tactic,
      work: work)
  }
}
