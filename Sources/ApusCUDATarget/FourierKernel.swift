import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import ApusPlan

/// Discrete Fourier transforms of lines and of windowed frames; a block transforms a line.
struct FourierKernel: OperationKernel {
  let operations = ["dft", "stft"]

  private static let threads = 256
  /// Bytes of points that a block keeps in shared memory, twice.
  private static let sharedByteCount = 32 << 10

  func refusal(_ node: Node, in graph: Graph) -> String? {
    let x = graph.tensorType(node.inputs[0])
    guard [.f64, .f32, .f16, .bf16].contains(x.dtype) else { return "elements are \(x.dtype)" }
    guard x.shape.last?.constantValue != nil else { return "whether elements are complex is not known" }
    return transform(node, graph) == nil ? "it is no transform" : nil
  }

  /// A transform as the text sees it.
  private struct Transform {
    var lines: Dim
    var length: Dim
    var given: Dim
    var kept: Dim
    /// Of lines in memory: period, outer and inner distance, distance of elements.
    var from: [Dim]
    var to: [Dim]
    var isInverse = false
    var isHalf = false
  }

  private func transform(_ node: Node, _ graph: Graph) -> Transform? {
    let (x, y) = (graph.tensorType(node.inputs[0]), graph.tensorType(node.outputs[0]))
    guard let parts = x.shape.last, let resultParts = y.shape.last else { return nil }
    if let op = node.op as? DFT {
      let inner = Dim.product(x.shape[(op.axis + 1)..<(x.rank - 1)])
      let kept = y.shape[op.axis]
      return Transform(
        lines: Dim.product(x.shape[..<op.axis]) * inner, length: op.length, given: x.shape[op.axis], kept: kept,
        from: [inner, x.shape[op.axis] * inner * parts, parts, inner * parts],
        to: [inner, kept * inner * resultParts, resultParts, inner * resultParts], isInverse: op.inverse,
        isHalf: op.onesided)
    }
    guard let op = node.op as? STFT else { return nil }
    let window = graph.tensorType(node.inputs[1]).shape[0]
    let (frames, kept) = (y.shape[1], y.shape[2])
    return Transform(
      lines: x.shape[0] * frames, length: window, given: window, kept: kept,
      from: [frames, x.shape[1] * parts, op.step * parts, parts], to: [frames, frames * kept * 2, kept * 2, 2])
  }

  /// Points that butterflies work on, at most.
  private static func size(_ length: Int) -> Int {
    var size = 1
    while size < length { size *= 2 }
    if size == length || length <= 64 { return size }
    while size < 2 * length - 1 { size *= 2 }
    return size
  }

  func emit(_ node: Node, into builder: inout StepBuilder) {
    let x = builder.graph.tensorType(node.inputs[0])
    guard let transform = transform(node, builder.graph), let parts = x.shape.last else { return }
    let work: DType = x.dtype == .f64 ? .f64 : .f32
    let longest = transform.length.range.upper
    let mostShared = Self.sharedByteCount / (2 * work.byteCount)
    let isShared = longest <= mostShared && Self.size(longest) <= mostShared
    var buffers = [builder.slot(node.inputs[0]), builder.allocate(node.outputs[0])]
    if node.inputs.count > 1 { buffers.append(builder.slot(node.inputs[1])) }
    let window = node.inputs.count > 1 ? "(const R *)b[2]" : "0"
    var units = transform.lines
    var memory = ["(point *)shared", "(point *)shared + \(mostShared)"]
    if !isShared {
      // Sizes that are not known are at most doubled twice.
      let size = transform.length.constantValue.map { Dim(Self.size($0)) } ?? 4 * transform.length
      units = Dim.minimum(units, 16)
      memory = [
        "(point *)b[\(buffers.count)] + 2 * block * p[13]", "(point *)b[\(buffers.count)] + (2 * block + 1) * p[13]",
      ]
      buffers.append(builder.addTemporary(work, 4 * units * size))
      emit(node, x.dtype, transform, parts, size, buffers, window, memory, units, 0, &builder)
    } else {
      emit(node, x.dtype, transform, parts, 0, buffers, window, memory, units, 2 * Self.sharedByteCount, &builder)
    }
  }

  private func emit(
    _ node: Node, _ dtype: DType, _ transform: Transform, _ parts: Dim, _ size: Dim, _ buffers: [Int], _ window: String,
    _ memory: [String], _ units: Dim, _ shared: Int, _ builder: inout StepBuilder
  ) {
    let value = CDialect.scalar(dtype == .f64 ? .f64 : .f32)
    OperationCall(
      texts: [CombiningText(name: "KERNEL_NAME_op", dtype: dtype).text, CUDAText.fourier],
      call: """
          typedef typename KERNEL_NAME_op::raw R;
          typedef apus_complex<\(value)> point;
          const apus_fourier_args g = {p[0], p[1], p[2], p[3], {p[4], p[5], p[6], p[7]}, {p[8], p[9], p[10], p[11]}, p[12]};
          const apus_fourier<\(value), KERNEL_NAME_op, \(transform.isInverse), \(transform.isHalf), \(Self.threads)> f = \
        {g, (const R *)b[0], \(window), (R *)b[1]};
          f.run(\(memory[0]), \(memory[1]), block, blockCount);

        """,
      buffers: buffers,
      parameters: [transform.lines, transform.length, transform.given, transform.kept] + transform.from + transform.to
        + [parts, size],
      units: units, threads: Self.threads, sharedByteCount: shared
    ).emit(
      node, tactic: "fourier",
      work: node.op.work(node.inputs.map(builder.graph.type), node.outputs.map(builder.graph.type)),
      into: &builder)
  }
}
