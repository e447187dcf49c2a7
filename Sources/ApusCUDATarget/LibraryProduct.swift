import ApusCompiler
import ApusCore
import ApusGraph
import ApusPlan

/// A product of matrices by cuBLASLt. An epilogue that the library has is computed along; before any other the product is
/// stored as sums, which a launch of our own takes.
struct LibraryProduct {
  let problem: GemmProblem
  /// Slots of the matrices.
  let left: Int
  let right: Int
  /// Which of the library's suggestions to take.
  let rank: Int

  /// Suggestions that are tried.
  private static let rankCount = 6
  /// Working memory that the library is offered.
  private static let workspaceByteCount = 32 << 20

  /// The ways to have the library compute a product, in its own order; none where it might have to add up nothing.
  static func tactics(for problem: GemmProblem) -> [TacticCandidate] {
    if problem.form.depth.range.lower < 1 { return [] }
    return (0..<rankCount).map { TacticCandidate(name: "\(prefix)\($0)") }
  }

  static func rank(of tactic: String?) -> Int? {
    guard let tactic, tactic.hasPrefix(prefix) else { return nil }
    return Int(tactic.dropFirst(prefix.count))
  }

  private static let prefix = "cublaslt "

  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) {
    let form = problem.form
    if let epilogue = LibraryEpilogue(region, columns: form.columns) {
      let nodes = region.nodes.map { region.graph[$0] }
      let extra = [epilogue.addend, epilogue.bias].compactMap { $0.map { builder.slot($0) } }
      call(
        epilogue, problem.dtype, extra, result: builder.slot(region.result),
        name: nodes.map(\.op.name).joined(separator: "+"), sources: nodes.map(\.name).filter { !$0.isEmpty },
        work: nodes.reduce(0) { $0 + $1.op.work($1.inputs.map(region.graph.type), $1.outputs.map(region.graph.type)) },
        &builder)
      return
    }
    let sums: DType = problem.dtype == .f64 ? .f64 : .f32
    let partial = builder.addTemporary(sums, form.batches * form.rows * form.columns)
    call(
      LibraryEpilogue(), sums, [], result: partial, name: "matmul", sources: [],
      work: 2 * form.batches * form.rows * form.columns * form.depth, &builder)
    GemmSum(
      batches: form.batches, rows: form.rows, columns: form.columns, accumulator: sums == .f64 ? "double" : "float",
      partial: partial, split: 1, width: problem.epilogueWidth(8)
    ).emit(region, into: &builder)
  }

  private func call(
    _ epilogue: LibraryEpilogue, _ resultDType: DType, _ extra: [Int], result: Int, name: String, sources: [String],
    work: Dim, _ builder: inout StepBuilder
  ) {
    let form = problem.form
    let matmul = LibraryMatmul(
      dtype: problem.dtype, resultDType: resultDType, isTransposed: problem.isTransposed,
      hasAddend: epilogue.addend != nil, hasBias: epilogue.bias != nil, activation: epilogue.activation)
    let workspace = builder.addTemporary(.u8, Dim(Self.workspaceByteCount))
    builder.call(
      LibraryCall(
        .matmul(matmul), rank: rank, buffers: [left, right] + extra + [result, workspace],
        sizes: [form.batches, form.rows, form.columns, form.depth, form.aStride, form.bStride]),
      name: name, sources: sources, tactic: "\(Self.prefix)\(rank)", work: work)
  }
}

/// An epilogue that libraries compute along with products: a tensor added, a bias added, and one activation.
struct LibraryEpilogue {
  private(set) var addend: ValueID?
  private(set) var bias: ValueID?
  private(set) var activation = LibraryMatmul.Activation.none

  init() {}

  /// Nil for a region whose epilogue is any other.
  ///
  /// - Parameter columns: of the anchor's result, its innermost axis.
  init?(_ region: AnchorRegion, columns: Dim) {
    guard region.placement == nil else { return nil }
    let graph = region.graph
    var current = region.node.outputs[0]
    for node in region.nodes.dropFirst().map({ graph[$0] }) {
      guard node.outputs.count == 1, node.inputs.filter({ $0 == current }).count == 1 else { return nil }
      let others = node.inputs.filter { $0 != current }
      if !node.op.isView, activation != .none { return nil }
      switch node.op.name {
      case _ where node.op.isView: break
      case "relu": activation = .relu
      case "gelu_tanh": activation = .geluTanh
      case "add":
        guard graph.type(node.outputs[0]) == graph.type(current), let other = others.first,
          take(other, graph.tensorType(current), columns, region)
        else { return nil }
      default: return nil
      }
      current = node.outputs[0]
    }
    if current != region.result { return nil }
  }

  /// Takes a tensor in memory as what is added to a result; false where it cannot be.
  private mutating func take(_ value: ValueID, _ result: TensorType, _ columns: Dim, _ region: AnchorRegion) -> Bool {
    let type = region.graph.tensorType(value)
    guard region.operands.contains(value), region.layouts[value] == nil, type.dtype == result.dtype else {
      return false
    }
    if type.shape == result.shape, addend == nil {
      addend = value
    } else if bias == nil, type.shape.last == columns, result.shape.last == columns, type.elementCount == columns {
      bias = value
    } else {
      return false
    }
    return true
  }
}
