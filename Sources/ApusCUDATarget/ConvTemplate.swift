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

  func tactics(for region: AnchorRegion) -> [TacticCandidate] {
    guard let problem = ConvProblem(region.node, in: region.graph) else { return [] }
    if region.graph[region.node.inputs[1]].constant != nil, StemConvolution(problem) != nil { return [] }
    let own = ConvTactic.candidates(problem, architecture).map { TacticCandidate(name: $0.name) }
    return own.prefix(1) + LibraryConvolutionCall.tactics(for: problem, region) + own.dropFirst()
  }

  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) throws(BuildError) {
    guard let problem = ConvProblem(region.node, in: region.graph) else { return }
    let inputs = region.node.inputs
    let constant = region.graph[inputs[1]].constant
    if let constant, let stem = StemConvolution(problem) {
      return stem.emit(region, image: builder.slot(inputs[0]), constant, into: &builder)
    }
    if let rank = LibraryConvolutionCall.rank(of: region.tactic) {
      let call = LibraryConvolutionCall(
        problem: problem, image: builder.slot(inputs[0]), weights: builder.slot(inputs[1]), rank: rank)
      return call.emit(region, into: &builder)
    }
    let tactic =
      region.tactic.flatMap { name in ConvTactic.candidates(problem, architecture).first { $0.name == name } }
      ?? ConvTactic.choose(problem, architecture)
    ConvCall(problem: problem, image: builder.slot(inputs[0]), weights: builder.slot(inputs[1]))
      .emit(region, tactic, isConstant: constant != nil, into: &builder)
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
  /// Whether elements are 16-bit floats, which tensor cores take.
  var isHalf: Bool { dtype == .f16 || dtype == .bf16 }

  /// How many tiles of `m` places and `n` channels the result has.
  func tiles(_ m: Int, _ n: Int) -> (estimate: Int, dim: Dim) {
    let columns = groups * ((groupOutputs + n - 1) / n)
    return ((max(places.estimate, 1) + m - 1) / m * columns, places.ceilDivided(by: Dim(m)) * Dim(columns))
  }

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
