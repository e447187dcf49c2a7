import ApusCore
import ApusGraph
import ApusKernel
import ApusPlan

/// Cuts a graph into steps.
///
/// Nodes are visited in order. A node that lowers to an expression stays pending, so that its one consumer can take it
/// in; it is stored when something needs it in memory. A node that a template computes stays pending too, and takes
/// element-wise consumers in as its epilogue.
struct Fuser {
  /// A node that a template computes.
  struct Anchor {
    let template: any KernelTemplate
    let value: ValueID
    var views: [ValueID: StridedView] = [:]
    /// What computes the first operand along with the anchor, where the template takes that inside.
    var inside: [Pending] = []
  }

  /// A value not stored yet: an expression over values that are.
  struct Pending {
    var nodes: [NodeID]
    /// Values in memory that the expression loads from.
    var leaves: [ValueID]
    var element: ([ValueID: Operand]) -> Operand
    /// Set when a template computes the first node.
    var anchor: Anchor?
    var cost: ExpressionCost
    /// Values computed inside that have other uses too: what is used outside is stored along with the result.
    var shared: Set<ValueID> = []
    /// Set when the result is stored with its axes permuted.
    var placement: Placement?
    /// Set when several nodes compute from an anchor's result, or from parts of it: they stay with it for as long as all of them
    /// may meet.
    var stem: Stem?
  }

  /// A pending value with an anchor of which several pending ones are computed.
  struct Stem {
    let value: ValueID
    let nodes: [NodeID]
  }

  /// Limits that keep compile times and register use sane.
  static let largestExpression = 400
  static let mostBuffers = 24
  static let longestWayToMeet = 16
  /// Values with fewer elements cost nothing to recompute.
  static let smallCount = 64

  let target: any Target
  let graph: Graph
  var users: [ValueID: [NodeID]]
  /// Where nodes are in the graph's order.
  let position: [NodeID: Int]
  let outputs: Set<ValueID>
  var pending: [ValueID: Pending] = [:]
  let fuses: Bool
  let control: ControlLowering
  /// The tactic that templates must use, for a graph of one region.
  let tactic: String?
  /// Constants that are in memory only as a template keeps them.
  var layouts: [ValueID: PackedLayout] = [:]
  /// Values that lie in a concatenation's result.
  var homes: [ValueID: Home] = [:]
  /// Loops that are not launched yet, so that others that need nothing of them can go along.
  var waiting = LoopGroup()
  var log: FusionLog

  init(
    _ graph: Graph, target: any Target, fuses: Bool, control: ControlLowering, log: FusionLog, tactic: String? = nil
  ) {
    self.graph = graph
    self.tactic = tactic
    self.target = target
    self.fuses = fuses
    self.control = control
    self.log = log
    users = graph.uses()
    position = Dictionary(uniqueKeysWithValues: graph.order.enumerated().map { ($1, $0) })
    outputs = Set(graph.outputs)
    if fuses { layouts = sharedLayouts() }
  }

  mutating func run(into builder: inout StepBuilder) throws(BuildError) {
    if fuses { homes = findHomes(builder) }
    for (value, layout) in layouts.sorted(by: { $0.key.index < $1.key.index }) {
      guard let constant = graph[value].constant else { continue }
      builder.place(value, in: builder.addPacked(constant, layout, name: graph[value].name))
    }
    for id in graph.order { try visit(id, &builder) }
    for output in graph.outputs { try store(output, &builder) }
    waiting.launch(target, into: &builder, &log)
  }

  // MARK: Visiting

  mutating func visit(_ id: NodeID, _ builder: inout StepBuilder) throws(BuildError) {
    let node = graph[id]
    let template = target.templates.first { $0.refusal(node, in: graph) == nil }
    if node.outputs.count == 1, let result = node.outputs.first, let type = graph.type(result).tensor,
      type.dtype != .string
    {
      if let template, template.takesEpilogue {
        let inside = takenInside(id, node, template)
        let views = try storeOperands(id, node, template, &builder)
        pending[result] = Pending(
          nodes: inside.flatMap(\.nodes) + [id], leaves: [],
          element: { operands in operands[result] ?? Operand(argument: 0, type) },
          anchor: Anchor(template: template, value: result, views: views, inside: inside), cost: ExpressionCost())
        if !fuses { try store(result, &builder) }
        return
      }
      if template == nil {
        if fuses, let own = part(id, node, type) ?? place(id, node) {
          pending[result] = own
          return
        }
        if try visitConcat(id, node, &builder) { return }
        if let fused = try fuse(id, node, type, &builder) {
          pending[result] = fused
          if !fuses { try store(result, &builder) }
          return
        }
      }
    }
    recordStores(
      before: id, node.inputs, template.map { "\($0.name) computes it, from memory" } ?? "it is computed as a whole")
    for input in node.inputs { try store(input, &builder) }
    waiting.launch(target, into: &builder, &log)
    if let template, let result = node.outputs.first {
      builder.beginRegion()
      try template.emit(AnchorRegion(id, of: graph, result: result), into: &builder)
      return
    }
    if try control.emit(node, graph, &builder, &log) { return }
    try emitHost(node, &builder)
  }

  /// Layouts of constants that a template packs and that are looked up row by row beside, as tied embeddings are: the
  /// lookup reads the packed form, so that it alone is kept.
  func sharedLayouts() -> [ValueID: PackedLayout] {
    var layouts: [ValueID: PackedLayout] = [:]
    for gather in graph.order.map({ graph[$0] }) where gather.op.name == "gather" {
      let value = gather.inputs[0]
      guard layouts[value] == nil, graph[value].constant != nil, !outputs.contains(value) else { continue }
      var found: [PackedLayout?] = []
      for user in (users[value] ?? []).map({ graph[$0] }) {
        if user.op.name == "gather", user.inputs[1] != value { continue }
        guard user.op.name == "transpose", let permutation = try? user.op.attributes.ints("perm") else {
          found.append(layout(of: value, in: user, nil))
          continue
        }
        let view = StridedView(value, graph.tensorType(value), permutation: permutation)
        found += (users[user.outputs[0]] ?? []).map { layout(of: user.outputs[0], in: graph[$0], view) }
        if outputs.contains(user.outputs[0]) { found.append(nil) }
      }
      guard let layout = found.first ?? nil, found.allSatisfy({ $0?.name == layout.name }) else { continue }
      layouts[value] = layout
    }
    return layouts
  }

  func layout(of value: ValueID, in node: Node, _ view: StridedView?) -> PackedLayout? {
    guard node.outputs.count == 1, node.inputs.filter({ $0 == value }).count == 1,
      let operand = node.inputs.firstIndex(of: value),
      let template = target.templates.first(where: { $0.refusal(node, in: graph) == nil })
    else { return nil }
    return template.layout(of: operand, of: node, view, in: graph)
  }

  /// What computes a node's first operand and is better computed along with it.
  private mutating func takenInside(_ id: NodeID, _ node: Node, _ template: any KernelTemplate) -> [Pending] {
    guard fuses, let input = node.inputs.first, isUsedOnce(input), let own = pending[input],
      let anchor = own.anchor, own.stem == nil, own.placement == nil, own.shared.isEmpty, allows(own.nodes + [id])
    else { return [] }
    var region = AnchorRegion(id, of: graph, result: node.outputs[0])
    region.inside = [self.region(of: own, anchor, input)]
    guard template.takesInside(region) else { return [] }
    record(own, into: id, input, taken: true, "computed along, saves storing \(graph.type(input))", nil)
    pending[input] = nil
    return [own]
  }

  /// Brings a template's operands into memory, but for those that it reads in place.
  mutating func storeOperands(
    _ id: NodeID, _ node: Node, _ template: any KernelTemplate, _ builder: inout StepBuilder
  ) throws(BuildError) -> [ValueID: StridedView] {
    var views: [ValueID: StridedView] = [:]
    for (operand, input) in node.inputs.enumerated() {
      if let view = view(input), template.readsInPlace(operand, view, in: graph),
        allows((pending[input]?.nodes ?? []) + [id])
      {
        if isUsedOnce(input) { pending[input] = nil }
        try store(view.source, &builder)
        views[input] = view
      } else {
        recordStores(before: id, [input], "\(template.name) reads its operands from memory")
        try store(input, &builder)
      }
    }
    return views
  }

  /// What a pending value is a part or the transpose of.
  func view(_ value: ValueID) -> StridedView? {
    guard let region = pending[value], region.anchor == nil, region.cost.isTrivial, region.leaves.count == 1,
      let source = region.leaves.first
    else { return nil }
    if region.nodes.count == 1, let transpose = graph.producer(value).map({ graph[$0] }),
      let permutation = try? transpose.op.attributes.ints("perm"), transpose.op.name == "transpose"
    {
      return StridedView(source, graph.tensorType(source), permutation: permutation)
    }
    let type = graph.tensorType(value)
    guard layouts[source] == nil, graph.tensorType(source).dtype == type.dtype else { return nil }
    return StridedView(source, graph.tensorType(source), type.shape) { region.element([source: $0]) }
  }

  /// Whether one node and nobody else needs a value.
  func isUsedOnce(_ value: ValueID) -> Bool { users[value]?.count == 1 && !outputs.contains(value) }
}
