import ApusCompiler
import ApusCore
import ApusGraph
import ApusPlan

/// A convolution by cuDNN, for regions whose epilogue it computes along.
struct LibraryConvolutionCall {
  let problem: ConvProblem
  /// Slots of the image and of the weights.
  let image: Int
  let weights: Int
  /// Which of the library's suggestions to take.
  let rank: Int

  /// Suggestions that are tried.
  private static let rankCount = 4
  /// Working memory that the library is offered.
  private static let workspaceByteCount = 32 << 20
  private static let prefix = "cudnn "

  /// The ways to have the library compute a region, in its own order; none where it cannot.
  static func tactics(for problem: ConvProblem, _ region: AnchorRegion) -> [TacticCandidate] {
    guard let epilogue = LibraryEpilogue(region, columns: Dim(problem.outputs)),
      epilogue.activation != .geluTanh, operation(problem, epilogue).isPossible
    else { return [] }
    return (0..<rankCount).map { TacticCandidate(name: "\(prefix)\($0)") }
  }

  static func rank(of tactic: String?) -> Int? {
    guard let tactic, tactic.hasPrefix(prefix) else { return nil }
    return Int(tactic.dropFirst(prefix.count))
  }

  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) {
    guard let epilogue = LibraryEpilogue(region, columns: Dim(problem.outputs)) else { return }
    let operation = Self.operation(problem, epilogue)
    let nodes = region.nodes.map { region.graph[$0] }
    let extra = [epilogue.addend, epilogue.bias].compactMap { $0.map { builder.slot($0) } }
    let result = builder.slot(region.result)
    let workspace = builder.addTemporary(.u8, Dim(Self.workspaceByteCount))
    builder.call(
      LibraryCall(
        .convolution(operation), rank: rank, buffers: [image, weights] + extra + [result, workspace],
        sizes: [problem.images] + problem.input.suffix(operation.rank) + problem.output.suffix(operation.rank)),
      name: nodes.map(\.op.name).joined(separator: "+"), sources: nodes.map(\.name).filter { !$0.isEmpty },
      tactic: "\(Self.prefix)\(rank)",
      work: nodes.reduce(0) { $0 + $1.op.work($1.inputs.map(region.graph.type), $1.outputs.map(region.graph.type)) })
  }

  /// The problem's axes but the first of three, which images and lines do not have.
  private static func operation(_ problem: ConvProblem, _ epilogue: LibraryEpilogue) -> LibraryConvolution {
    let rank = max(problem.rank, 2)
    return LibraryConvolution(
      dtype: problem.dtype, channels: problem.channels, outputs: problem.outputs, groups: problem.groups,
      kernel: problem.kernel.suffix(rank), strides: problem.strides.suffix(rank),
      dilations: problem.dilations.suffix(rank), pads: problem.pads.suffix(rank), hasAddend: epilogue.addend != nil,
      hasBias: epilogue.bias != nil, isRectified: epilogue.activation == .relu)
  }
}
