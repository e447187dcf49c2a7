import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import ApusPlan

/// Matrix products of floats by the matrix-product texts. A constant right matrix is kept with its rows along the sum.
struct MatmulTemplate: KernelTemplate {
  let architecture: CUDAArchitecture
  let name = "matmul"
  let largestGroup = 2

  func refusal(_ node: Node, in graph: Graph) -> String? {
    guard node.op.name == "matmul" else { return "it is no matmul" }
    let (a, b) = (graph.tensorType(node.inputs[0]), graph.tensorType(node.inputs[1]))
    guard a.dtype == b.dtype, [.f64, .f32, .f16, .bf16].contains(a.dtype) else {
      return "the operands are \(a.dtype) and \(b.dtype), not floats of one type"
    }
    if MatmulForm(a, b) == nil { return "the batch dims \(a) and \(b) broadcast in both directions" }
    return nil
  }

  func readsInPlace(_ operand: Int, _ view: StridedView, in graph: Graph) -> Bool {
    operand == 1 && Self.swapsMatrices(view)
  }

  /// Whether a view exchanges the last two axes and no others.
  private static func swapsMatrices(_ view: StridedView) -> Bool {
    guard let permutation = view.permutation, permutation.count >= 2 else { return false }
    let rank = permutation.count
    return permutation == Array(0..<rank - 2) + [rank - 1, rank - 2]
  }

  func layout(of operand: Int, of node: Node, _ view: StridedView?, in graph: Graph) -> PackedLayout? {
    guard operand == 1, view == nil, let constant = graph[node.inputs[1]].constant, constant.shape.count == 2 else {
      return nil
    }
    return TransposedMatrix(rows: constant.shape[0], columns: constant.shape[1]).layout
  }

  private func problem(_ region: AnchorRegion) -> GemmProblem? {
    let (graph, inputs) = (region.graph, region.node.inputs)
    guard let form = MatmulForm(graph.tensorType(inputs[0]), graph.tensorType(inputs[1])) else { return nil }
    let view = region.views[inputs[1]]
    let isConstant = graph[region.source(of: inputs[1])].constant != nil
    let isPacked = isConstant && layout(of: 1, of: region.node, view, in: graph) != nil
    return GemmProblem(
      form: form, dtype: graph.tensorType(inputs[0]).dtype, isTransposed: view != nil || isPacked,
      isConstant: isConstant, group: region.group)
  }

  func tactics(for region: AnchorRegion) -> [TacticCandidate] {
    guard let problem = problem(region) else { return [] }
    let own = GemmTactic.candidates(problem, architecture).map {
      TacticCandidate(name: $0.tactic.name, microseconds: $0.microseconds)
    }
    return own.prefix(1) + LibraryProduct.tactics(for: problem) + own.dropFirst()
  }

  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) throws(BuildError) {
    guard let problem = problem(region) else { return }
    let (graph, inputs) = (region.graph, region.node.inputs)
    let source = region.source(of: inputs[1])
    var right = 0
    if let constant = graph[source].constant,
      let layout = layout(of: 1, of: region.node, region.views[inputs[1]], in: graph)
    {
      right = builder.addPacked(constant, layout, name: graph[source].name)
    } else {
      right = builder.slot(source)
    }
    if let rank = LibraryProduct.rank(of: region.tactic) {
      let product = LibraryProduct(problem: problem, left: builder.slot(inputs[0]), right: right, rank: rank)
      return product.emit(region, into: &builder)
    }
    let tactic =
      region.tactic.flatMap { name in
        GemmTactic.candidates(problem, architecture).first { $0.tactic.name == name }?.tactic
      } ?? GemmTactic.choose(problem, architecture)
    GemmCall(problem: problem, tactic: tactic, left: builder.slot(inputs[0]), right: right).emit(region, into: &builder)
  }
}

/// A constant `[K, N]` matrix kept as `[N, K]`.
private struct TransposedMatrix {
  let rows: Int
  let columns: Int

  var layout: PackedLayout {
    PackedLayout(
      name: "transposed", pack: pack, index: { [rows] coordinates, _ in coordinates[1] * Dim(rows) + coordinates[0] })
  }

  private func pack(_ source: HostTensor) -> HostTensor {
    let size = source.dtype.byteCount
    let storage = HostStorage(byteCount: source.byteCount)
    source.withUnsafeBytes { bytes in
      guard let from = bytes.baseAddress else { return }
      // In squares, so that both sides are near.
      let square = 32
      for row in stride(from: 0, to: rows, by: square) {
        for column in stride(from: 0, to: columns, by: square) {
          for i in row..<min(row + square, rows) {
            for j in column..<min(column + square, columns) {
              (storage.base + (j * rows + i) * size).copyMemory(from: from + (i * columns + j) * size, byteCount: size)
            }
          }
        }
      }
    }
    return HostTensor(dtype: source.dtype, shape: [columns, rows], storage: storage)
  }
}
