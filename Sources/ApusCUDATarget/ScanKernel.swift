import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import ApusPlan

/// Running sums and products along long axes.
struct ScanKernel: OperationKernel {
  let operations = ["cumsum", "cumprod"]

  func refusal(_ node: Node, in graph: Graph) -> String? { node.op is Cumulative ? nil : "it is no running sum" }

  func emit(_ node: Node, into builder: inout StepBuilder) {
    guard let op = node.op as? Cumulative else { return }
    let type = builder.graph.tensorType(node.inputs[0])
    let axis = op.axis < 0 ? op.axis + type.rank : op.axis
    let inner = Dim.product(type.shape[(axis + 1)...])
    let scan = Scan(
      dtype: type.dtype, reduction: op.isProduct ? .prod : .sum, isReverse: op.reverse, isExclusive: op.exclusive,
      lines: Dim.product(type.shape[..<axis]) * inner, length: type.shape[axis], inner: inner)
    scan.emit(node, from: builder.slot(node.inputs[0]), to: builder.allocate(node.outputs[0]), into: &builder)
  }
}

/// The launches of a running combination along lines.
struct Scan {
  var dtype: DType
  var reduction: Reduction
  var isReverse = false
  var isExclusive = false
  var lines: Dim
  var length: Dim
  /// Elements between neighbours of a line.
  var inner: Dim

  private static let part = 2048

  func emit(_ node: Node, from source: Int, to target: Int, into builder: inout StepBuilder) {
    let parts = length.ceilDivided(by: Dim(Self.part))
    let sums = builder.addTemporary(ExprArena.computeType(dtype), lines * parts)
    let op = CombiningText(name: "KERNEL_NAME_op", dtype: dtype, reduction: reduction)
    let (raw, value) = ("typename KERNEL_NAME_op::raw", "typename KERNEL_NAME_op::value")
    func emit(_ call: String, _ buffers: [Int], _ units: Dim) {
      OperationCall(
        texts: [op.text, CUDAText.scan], call: "  \(call), block, blockCount, shared);\n", buffers: buffers,
        parameters: [lines, length, inner], units: units, sharedByteCount: 256
      ).emit(node, tactic: "scan", work: lines * length, into: &builder)
    }
    let arguments = "({p[0], p[1], p[2]}"
    emit(
      "apus_scan_parts<KERNEL_NAME_op, \(isReverse)>\(arguments), (const \(raw) *)b[0], (\(value) *)b[1]",
      [source, sums], lines * parts)
    emit("apus_scan_sums<KERNEL_NAME_op>\(arguments), (\(value) *)b[0]", [sums], lines)
    emit(
      "apus_scan<KERNEL_NAME_op, \(isReverse), \(isExclusive)>\(arguments), (const \(raw) *)b[0], (const \(value) *)b[1], "
        + "(\(raw) *)b[2]", [source, sums, target], lines * parts)
  }
}
