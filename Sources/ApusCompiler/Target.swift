package import ApusCore
package import ApusGraph
package import ApusKernel
package import ApusPlan

/// Source text of one kernel with what its launch must supply.
package struct KernelCode: Sendable {
  /// Complete source; `KERNEL_NAME` stands for the function's name, and where `asksEarly`, `LAUNCH_CONSTANTS(F)` for
  /// `F(buffer, bytes)` of each buffer that is a small constant.
  package var source: String
  package var asksEarly: Bool
  package var parameters: [Dim]
  package var blocks: Dim
  package var scratchBytes: Dim
  /// Threads of a block, and bytes that they share, where a block is more than a unit of work for one thread.
  package var threads: Int
  package var sharedByteCount: Int
  package var maps: [TensorMap]

  package init(
    source: String, parameters: [Dim], blocks: Dim, scratchBytes: Dim = 0, threads: Int = 1, sharedByteCount: Int = 0,
    maps: [TensorMap] = [], asksEarly: Bool = false
  ) {
    self.asksEarly = asksEarly
    self.maps = maps
    self.source = source
    self.parameters = parameters
    self.blocks = blocks
    self.scratchBytes = scratchBytes
    self.threads = threads
    self.sharedByteCount = sharedByteCount
  }
}

/// What turns kernels into code for one kind of device: a dialect, a compiler and a list of templates.
package protocol Target: Sendable {
  /// What an engine for this target needs of the machine.
  var fingerprint: Fingerprint { get }

  /// Templates in order of preference; the loop generator computes what none accepts.
  var templates: [any KernelTemplate] { get }

  /// Whether what only the host can compute runs elsewhere than the rest, so that a model is cut there.
  var hostIsElsewhere: Bool { get }

  /// Name and version of what compiles sources to images, as they change what kernels take.
  ///
  /// - Throws: ``BuildError`` when the compiler is not there.
  func compilerVersion() throws(BuildError) -> String

  /// Elements that are moved in the time that a launch takes. Work on fewer is joined with what is around it.
  var launchElements: Int { get }

  /// Whether products of one matrix with several constants are joined however large the constants are: what reads parts reads them
  /// in place, and threads come together once.
  var joinsLargeProducts: Bool { get }

  /// What steps take where some run beside others; nil where all run one after the other.
  var laneModel: (any LaneModel)? { get }

  /// How fast a usual machine is.
  var rates: MachineRates { get }

  /// Generated loops for a kernel.
  func loops(_ kernel: Kernel) -> KernelCode

  /// The ways to write a kernel's loops, the usual one first; none where it takes too little for others to matter.
  func loopTactics(_ kernel: Kernel) -> [String]

  /// Generated loops for a kernel by one of these.
  func loops(_ kernel: Kernel, by tactic: String) -> KernelCode

  /// Generated loops for kernels of which none needs what another stores, in one launch; nil where each is to have its own.
  func loops(beside kernels: [Kernel]) -> KernelCode?

  /// Compiles sources, in which `KERNEL_NAME` has been replaced, to one image for all, or one for each.
  func compile(_ sources: [String], progress: (Int, Int) -> Void) throws(BuildError) -> [KernelImage]
}

extension Target {
  package func compilerVersion() throws(BuildError) -> String { "none" }

  package var laneModel: (any LaneModel)? { nil }

  /// Two cores with a memory of their own.
  package var rates: MachineRates { MachineRates(bytes: 30_000, operations: 8_000, launch: 2) }

  package func loops(beside kernels: [Kernel]) -> KernelCode? { nil }

  package func loopTactics(_ kernel: Kernel) -> [String] { [] }

  package func loops(_ kernel: Kernel, by tactic: String) -> KernelCode { loops(kernel) }

  /// Whether neither a template nor generated loops can compute a node, so that the host does.
  package func leavesToHost(_ node: Node, in graph: Graph) -> Bool {
    if node.op.isView || !node.op.bodies.isEmpty || !node.op.boundSymbols.isEmpty && node.outputs.isEmpty {
      return false
    }
    if templates.contains(where: { $0.refusal(node, in: graph) == nil }) { return false }
    let results = node.outputs.compactMap { graph.type($0).tensor }
    let operands = node.inputs.compactMap { graph.type($0).tensor }
    guard results.count == node.outputs.count, operands.count == node.inputs.count,
      !(results + operands).contains(where: { $0.dtype == .string })
    else { return true }
    return node.op.lower(operands.map { Operand(argument: 0, $0) }, results) == nil
  }
}

/// A hand-written way to compute an anchor operation with an element-wise epilogue.
package protocol KernelTemplate: Sendable {
  var name: String { get }

  /// Whether element-wise consumers can be computed along; a template without an epilogue computes whole nodes.
  var takesEpilogue: Bool { get }

  /// Most neighbouring columns of a row of the result that an epilogue can make one element of.
  var largestGroup: Int { get }

  /// Why this template cannot compute the node, or nil when it can.
  func refusal(_ node: Node, in graph: Graph) -> String?

  /// Whether an operand may be read in place when it is part of a tensor in memory or has its axes permuted.
  func readsInPlace(_ operand: Int, _ view: StridedView, in graph: Graph) -> Bool

  /// Whether what computes the anchor's first operand, which is the region's only inner one, is worth computing along.
  func takesInside(_ region: AnchorRegion) -> Bool

  /// How the constant behind an operand is kept in memory; nil for row-major or where no constant is expected.
  func layout(of operand: Int, of node: Node, _ view: StridedView?, in graph: Graph) -> PackedLayout?

  /// The ways to compute the region, the one that the cost model prefers first; none where there is only one.
  func tactics(for region: AnchorRegion) -> [TacticCandidate]

  /// Emits the launches that compute the region, by the tactic that it asks for or else the preferred one.
  func emit(_ region: AnchorRegion, into builder: inout StepBuilder) throws(BuildError)
}

extension KernelTemplate {
  package var takesEpilogue: Bool { true }

  package var largestGroup: Int { 1 }

  package func readsInPlace(_ operand: Int, _ view: StridedView, in graph: Graph) -> Bool { false }

  package func takesInside(_ region: AnchorRegion) -> Bool { false }

  package func layout(of operand: Int, of node: Node, _ view: StridedView?, in graph: Graph) -> PackedLayout? { nil }

  package func tactics(for region: AnchorRegion) -> [TacticCandidate] { [] }
}

/// A way in which a template can compute a region.
package struct TacticCandidate: Sendable, Hashable {
  /// Tells the ways of one region apart, and names the step.
  package let name: String
  /// What the cost model says it takes; nil where it only has an order.
  package let microseconds: Double?

  package init(name: String, microseconds: Double? = nil) {
    self.name = name
    self.microseconds = microseconds
  }
}

/// How a template keeps a constant in memory: its elements in another order, each in one place.
package struct PackedLayout {
  /// Equal for equal layouts of one constant.
  package let name: String
  /// The elements in their order, with what fills gaps.
  package let pack: (HostTensor) -> HostTensor
  /// The place of the element at coordinates of the constant.
  package let index: ([Dim], ExprArena) -> Dim

  package init(
    name: String, pack: @escaping (HostTensor) -> HostTensor, index: @escaping ([Dim], ExprArena) -> Dim
  ) {
    self.name = name
    self.pack = pack
    self.index = index
  }
}

/// A tensor whose elements are some of those of a tensor in memory, at even distances along each axis.
package struct StridedView {
  package let source: ValueID
  /// The axes of the source in their order here, where the view is all of it with its axes permuted.
  package let permutation: [Int]?
  /// Elements of the source between neighbours along each axis; 0 along axes of one element.
  package let strides: [Dim]
  /// Where in the source the first element is, in elements.
  package let offset: Dim

  /// A transposed tensor.
  package init(_ source: ValueID, _ type: TensorType, permutation: [Int]) {
    self.source = source
    self.permutation = permutation
    let own = type.shape.indices.map { Dim.product(type.shape[($0 + 1)...]) }
    strides = permutation.map { own[$0] }
    offset = 0
  }

  /// What an expression without arithmetic moves from one tensor; nil where elements are at no even distances.
  init?(_ source: ValueID, _ sourceType: TensorType, _ shape: Shape, element: (Operand) -> Operand) {
    let arena = ExprArena()
    let buffer = arena.addBuffer(sourceType.dtype)
    let (variables, coordinates) = Kernel.variables(for: shape, arena)
    let root = element(Operand(argument: buffer, sourceType)).at(.coordinates(coordinates), arena)
    guard case .load(buffer, let index) = arena[root] else { return nil }
    func at(_ chosen: String?) -> Dim {
      index.substituting { symbol in
        variables.contains { $0.name == symbol.name } ? (symbol.name == chosen ? 1 : 0) : nil
      }
    }
    let first = at(nil)
    var sum = first
    var left = variables[...]
    var strides: [Dim] = []
    for dim in shape {
      guard dim != 1, let variable = left.popFirst() else {
        strides.append(0)
        continue
      }
      let stride = at(variable.name) - first
      // No element is at two places, so that the view is no longer than its source.
      if stride.range.lower < 1 { return nil }
      strides.append(stride)
      sum = sum + stride * variable.dim
    }
    guard sum == index, first.range.lower >= 0, ExprArena.locals(of: first).isEmpty else { return nil }
    (self.source, self.strides, offset, permutation) = (source, strides, first, nil)
  }
}

/// How elements are stored in another order: a tensor of a shape with its axes permuted.
package struct Placement {
  package let shape: Shape
  package let permutation: [Int]
}

/// A node that a template computes, with what is applied to each element before it is stored.
package struct AnchorRegion {
  package let graph: Graph
  /// The anchor.
  package let node: Node
  /// All nodes computed, the anchor first.
  package var nodes: [NodeID]
  /// Tensors in memory that the epilogue reads.
  package var operands: [ValueID]
  /// What is stored.
  package var result: ValueID
  /// The stored element from the anchor's and the operands' elements.
  package var element: (_ anchor: Operand, _ operands: [ValueID: Operand]) -> Operand
  /// Operands of the anchor that are read in place of a copy.
  package var views: [ValueID: StridedView] = [:]
  /// Constants that are in memory in another order than row-major.
  package var layouts: [ValueID: PackedLayout] = [:]
  /// Name of the tactic to compute it by; nil for the preferred one.
  package var tactic: String?
  /// Set when the result is stored with its axes permuted.
  package var placement: Placement?
  /// Neighbouring columns of the anchor's result that make one element of the region's.
  package var group = 1
  /// The region whose result is the anchor's first operand and is in memory nowhere; empty where that operand is.
  package var inside: [AnchorRegion] = []

  /// The tactic that computes what is inside by steps of its own.
  package static let apart = "apart"

  /// Its nodes behind those of the regions inside.
  var allNodes: [NodeID] { inside.flatMap(\.allNodes) + nodes }

  /// The regions that an anchor is the beginning of: those inside, and this one.
  var stages: [AnchorRegion] { inside.flatMap(\.stages) + [self] }

  /// The tensor in memory that holds an operand's elements.
  package func source(of input: ValueID) -> ValueID { views[input]?.source ?? input }

  /// Elements between neighbours along each axis of an operand.
  package func strides(of input: ValueID) -> [Dim] {
    if let view = views[input] { return view.strides }
    let shape = graph.tensorType(input).shape
    return shape.indices.map { Dim.product(shape[($0 + 1)...]) }
  }

  /// The slot that an operand's first element begins.
  package func slot(of input: ValueID, in builder: inout StepBuilder) -> Int {
    let slot = builder.slot(source(of: input))
    guard let view = views[input], view.offset != 0 else { return slot }
    let type = graph.tensorType(input)
    return builder.addSlot("", .tensor(type), .view(of: slot, byteOffset: view.offset * Dim(type.dtype.byteCount)))
  }

  /// A number that is written into kernels: a constant of one element with few digits, such as the bounds of a clip. Others differ
  /// from layer to layer, as scales of quantisation do, whose layers would each need a kernel of their own.
  private func literal(_ value: ValueID) -> Double? {
    guard layouts[value] == nil, let constant = graph[value].constant, constant.dtype == .f32,
      constant.elementCount == 1, let number = constant.elements(as: Float.self).first, number.isFinite,
      number.bitPattern & 0xffff == 0
    else { return nil }
    return Double(number)
  }

  /// The epilogue as a kernel over `[batches, rows, columns / group]`, where the anchor's result has `columns`, with the buffers it
  /// names in order: the operands that are no literals, the result, and last the anchor's tile, which is no buffer in memory.
  ///
  /// - Parameter parts: how many summands each element of the anchor's result has, one result after the other in a buffer in memory
  ///   that takes the place of the tile.
  package func epilogue(
    batches: Dim, rows: Dim, columns: Dim, parts: Int = 1
  ) -> (kernel: Kernel, buffers: [ValueID]) {
    let arena = ExprArena()
    var arguments: [ValueID: Operand] = [:]
    var inMemory: [ValueID] = []
    for value in operands {
      let type = graph.tensorType(value)
      if let number = literal(value) {
        arguments[value] = Operand(type) { (_: Position, arena) in arena.constant(number, type.dtype) }
      } else {
        arguments[value] = arena.argument(type, layouts[value])
        inMemory.append(value)
      }
    }
    let resultType = graph.tensorType(result)
    let output = arena.addBuffer(resultType.dtype)
    let anchorType = graph.tensorType(node.outputs[0])
    let tile = arena.addBuffer(ExprArena.computeType(anchorType.dtype))
    let columns = columns.dividedExactly(by: Dim(group)) ?? columns
    let variables = [batches, rows, columns].map { arena.makeVariable($0) }
    let flat = variables[0].dim * rows * columns + variables[1].dim * columns + variables[2].dim
    let anchor = Operand(anchorType) { position, arena in
      let index = arena.flat(position, in: anchorType.shape)
      let first = arena.load(tile, index)
      let sum = (1..<max(1, parts)).reduce(first) { sum, part in
        arena.binary(.add, sum, arena.load(tile, Dim(part) * anchorType.elementCount + index))
      }
      return arena.result(sum, of: anchorType.dtype)
    }
    let value = element(anchor, arguments).at(.flat(flat), arena)
    var index = flat
    if let placement {
      let own = arena.coordinates(.flat(flat), in: placement.shape)
      index = arena.flat(
        .coordinates(placement.permutation.map { own[$0] }), in: placement.permutation.map { placement.shape[$0] })
    }
    let kernel = Kernel(
      arena: arena, variables: variables, stores: [.init(buffer: output, index: index, value: value)])
    return (kernel, inMemory + [result])
  }
}

extension AnchorRegion {
  /// A node by itself, of whose operands some may be read through transposes.
  package init(_ id: NodeID, of graph: Graph, result: ValueID, views: [ValueID: StridedView] = [:]) {
    self.init(
      graph: graph, node: graph[id], nodes: [id], operands: [], result: result, element: { anchor, _ in anchor },
      views: views)
  }
}

extension ExprArena {
  /// A new buffer of the kernel as an operand.
  func argument(_ type: TensorType, _ layout: PackedLayout?) -> Operand {
    let buffer = addBuffer(type.dtype)
    guard let layout else { return Operand(argument: buffer, type) }
    return Operand(type, at: { coordinates, arena in arena.load(buffer, layout.index(coordinates, arena)) })
  }
}
