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
  private struct Anchor {
    let template: any KernelTemplate
    let value: ValueID
    var views: [ValueID: StridedView] = [:]
  }

  /// A value not stored yet: an expression over values that are.
  private struct Pending {
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
    /// Set when parts of an anchor's result are computed from: they stay with it for as long as all of them may meet.
    var stem: Stem?
  }

  /// A pending value with an anchor whose parts are pending too.
  private struct Stem {
    let value: ValueID
    let nodes: [NodeID]
  }

  /// Limits that keep compile times and register use sane.
  private static let largestExpression = 400
  private static let mostBuffers = 24
  /// Values with fewer elements cost nothing to recompute.
  private static let smallCount = 64

  private let target: any Target
  private let graph: Graph
  private var users: [ValueID: [NodeID]]
  private let outputs: Set<ValueID>
  private var pending: [ValueID: Pending] = [:]
  private let fuses: Bool
  private let control: ControlLowering
  /// The tactic that templates must use, for a graph of one region.
  private let tactic: String?
  /// Constants that are in memory only as a template keeps them.
  private var layouts: [ValueID: PackedLayout] = [:]
  /// Loops that are not launched yet, so that others that need nothing of them can go along.
  private var waiting = LoopGroup()
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
    outputs = Set(graph.outputs)
    if fuses { layouts = sharedLayouts() }
  }

  mutating func run(into builder: inout StepBuilder) throws(BuildError) {
    for (value, layout) in layouts.sorted(by: { $0.key.index < $1.key.index }) {
      guard let constant = graph[value].constant else { continue }
      builder.place(value, in: builder.addPacked(constant, layout, name: graph[value].name))
    }
    for id in graph.order { try visit(id, &builder) }
    for output in graph.outputs { try store(output, &builder) }
    waiting.launch(target, into: &builder, &log)
  }

  // MARK: Visiting

  private mutating func visit(_ id: NodeID, _ builder: inout StepBuilder) throws(BuildError) {
    let node = graph[id]
    let template = target.templates.first { $0.refusal(node, in: graph) == nil }
    if node.outputs.count == 1, let result = node.outputs.first, let type = graph.type(result).tensor,
      type.dtype != .string
    {
      if let template, template.takesEpilogue {
        let views = try storeOperands(node, template, &builder)
        pending[result] = Pending(
          nodes: [id], leaves: [], element: { operands in operands[result] ?? Operand(argument: 0, type) },
          anchor: Anchor(template: template, value: result, views: views), cost: ExpressionCost())
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
    for input in node.inputs { try store(input, &builder) }
    waiting.launch(target, into: &builder, &log)
    if let template, let result = node.outputs.first {
      try template.emit(AnchorRegion(id, of: graph, result: result), into: &builder)
      return
    }
    if try control.emit(node, graph, &builder, &log) { return }
    try emitHost(node, &builder)
  }

  /// Layouts of constants that a template packs and that are looked up row by row beside, as tied embeddings are: the
  /// lookup reads the packed form, so that it alone is kept.
  private func sharedLayouts() -> [ValueID: PackedLayout] {
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

  private func layout(of value: ValueID, in node: Node, _ view: StridedView?) -> PackedLayout? {
    guard node.outputs.count == 1, node.inputs.filter({ $0 == value }).count == 1,
      let operand = node.inputs.firstIndex(of: value),
      let template = target.templates.first(where: { $0.refusal(node, in: graph) == nil })
    else { return nil }
    return template.layout(of: operand, of: node, view, in: graph)
  }

  /// Brings a template's operands into memory, but for those that it reads in place.
  private mutating func storeOperands(
    _ node: Node, _ template: any KernelTemplate, _ builder: inout StepBuilder
  ) throws(BuildError) -> [ValueID: StridedView] {
    var views: [ValueID: StridedView] = [:]
    for (operand, input) in node.inputs.enumerated() {
      if let view = view(input), template.readsInPlace(operand, view, in: graph) {
        if isUsedOnce(input) { pending[input] = nil }
        try store(view.source, &builder)
        views[input] = view
      } else {
        try store(input, &builder)
      }
    }
    return views
  }

  /// What a pending value is a part or the transpose of.
  private func view(_ value: ValueID) -> StridedView? {
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
  private func isUsedOnce(_ value: ValueID) -> Bool { users[value]?.count == 1 && !outputs.contains(value) }

  // MARK: Fusing

  /// The node's result as a pending expression that takes in those operands that are worth it; nil when the node has no
  /// expression form.
  private mutating func fuse(_ id: NodeID, _ node: Node, _ type: TensorType, _ builder: inout StepBuilder)
    throws(BuildError) -> Pending?
  {
    let types = node.inputs.compactMap { graph.type($0).tensor }
    guard types.count == node.inputs.count, !types.contains(where: { $0.dtype == .string }) else { return nil }
    let probe = node.op.lower(types.map { Operand(argument: 0, $0) }, [type])
    guard let probe, probe.count == 1 else { return nil }

    var taken: [ValueID: Pending] = [:]
    for input in Set(node.inputs) {
      guard let producer = pending[input] else { continue }
      if let reason = refusal(input, producer, id, node, type, taken) {
        log.record(describe(producer.nodes), into: describe([id]), taken: false, reason)
        try store(input, &builder)
      } else {
        log.record(describe(producer.nodes), into: describe([id]), taken: true, "saves storing \(graph.type(input))")
        taken[input] = producer
        if producer.anchor != nil || isUsedOnce(input) { pending[input] = nil }
      }
    }
    return combine(id, node, type, taken)
  }

  private func combine(_ id: NodeID, _ node: Node, _ type: TensorType, _ taken: [ValueID: Pending]) -> Pending {
    var leaves: [ValueID] = []
    for input in node.inputs {
      for leaf in taken[input]?.leaves ?? [input] where !leaves.contains(leaf) { leaves.append(leaf) }
    }
    let anchor = taken.values.compactMap(\.anchor).first
    let inner = taken.values.sorted { $0.anchor != nil && $1.anchor == nil }.flatMap(\.nodes)
    let graph = graph
    let element: ([ValueID: Operand]) -> Operand = { operands in
      let inputs = node.inputs.map { input in
        if let stored = operands[input] { return stored }
        guard let inside = taken[input]?.element(operands) else { return Operand(argument: 0, graph.tensorType(input)) }
        return Operand(inside.type) { position, arena in
          arena.element(of: input.index, position) { inside.at(position, arena) }
        }
      }
      return node.op.lower(inputs, [type])?.first ?? inputs[0]
    }
    var nodes: [NodeID] = []
    for node in inner where node != id && !nodes.contains(node) { nodes.append(node) }
    nodes.append(id)
    let shared = taken.keys.filter { taken[$0]?.anchor == nil && !isUsedOnce($0) }
    return Pending(
      nodes: nodes, leaves: leaves, element: element, anchor: anchor,
      cost: ExpressionCost(of: element, leaves: leaves, anchor: anchor?.value, type, graph),
      shared: taken.values.reduce(Set(shared)) { $0.union($1.shared) }, stem: taken.values.compactMap(\.stem).first)
  }

  /// A part of an anchor's result, each element of which is among neighbours of which all other parts have one too.
  private func part(_ id: NodeID, _ node: Node, _ type: TensorType) -> Pending? {
    guard node.op.name == "slice", let input = node.inputs.first, let whole = pending[input], whole.anchor != nil,
      whole.placement == nil, whole.stem == nil, !outputs.contains(input),
      (users[input] ?? []).allSatisfy({ graph[$0].op.name == "slice" && isUsedOnce(graph[$0].outputs[0]) })
    else { return nil }
    var region = combine(id, node, type, [input: whole])
    region.stem = Stem(value: input, nodes: whole.nodes)
    return (group(of: region, type) ?? 1) > 1 ? region : nil
  }

  /// Makes a region with a stem one that computes the stem, when all its parts are inside, or one that reads it from memory.
  private mutating func settleStem(_ region: inout Pending, _ builder: inout StepBuilder) throws(BuildError) {
    guard let stem = region.stem else { return }
    region.stem = nil
    if pending[stem.value] != nil, (users[stem.value] ?? []).allSatisfy(region.nodes.contains) {
      pending[stem.value] = nil
      return
    }
    try store(stem.value, &builder)
    region.anchor = nil
    region.nodes.removeAll { stem.nodes.contains($0) }
    region.leaves.append(stem.value)
  }

  /// An anchor's result whose rows are stored in another order, where the node does nothing else or reshapes that.
  private mutating func place(_ id: NodeID, _ node: Node) -> Pending? {
    guard node.inputs.count == 1, let input = node.inputs.first, var region = pending[input], region.anchor != nil,
      region.stem == nil, isUsedOnce(input)
    else { return nil }
    let shape = graph.tensorType(input).shape
    if node.op.name == "transpose", region.placement == nil, let axes = try? node.op.attributes.ints("perm"),
      axes.last == shape.count - 1, shape.allSatisfy(\.isConstant)
    {
      region.placement = Placement(shape: shape, permutation: axes)
    } else if region.placement == nil || !node.op.isView {
      return nil
    }
    log.record(describe(region.nodes), into: describe([id]), taken: true, "rows are stored where they go")
    region.nodes.append(id)
    pending[input] = nil
    return region
  }

  /// Why `producer` must be stored before `node` uses it; nil when it can be computed inside.
  private func refusal(
    _ value: ValueID, _ producer: Pending, _ id: NodeID, _ node: Node, _ type: TensorType,
    _ taken: [ValueID: Pending]
  ) -> String? {
    if outputs.contains(value) { return "it is an output of the model" }
    if producer.placement != nil { return "it is stored in another order than it is computed in" }
    let uses = users[value]?.count ?? 0
    let isTrivial = producer.cost.isTrivial && producer.anchor == nil
    if uses > 1 && !(isTrivial && (producer.cost.loads <= 1 && producer.cost.isPlain || isSmall(value))) {
      // Where a launch takes longer than computing it again, the kernel that takes it in stores it too if need be.
      let isQuick = graph.tensorType(value).elementCount.estimate <= target.launchElements
      if producer.anchor != nil || !isQuick { return "\(uses) nodes use it" }
    }
    if producer.anchor != nil,
      taken.values.contains(where: { $0.anchor != nil && ($0.stem == nil || $0.stem?.value != producer.stem?.value) })
    {
      return "another anchor is already inside"
    }
    var trial = taken
    trial[value] = producer
    let combined = combine(id, node, type, trial)
    if combined.cost.size > Self.largestExpression { return "the expression would have \(combined.cost.size) parts" }
    if combined.leaves.count > Self.mostBuffers { return "the kernel would read \(combined.leaves.count) tensors" }
    if producer.anchor != nil || combined.anchor != nil {
      if combined.cost.hasReduction { return "a reduction does not fit an epilogue" }
      if group(of: combined, type) == nil { return "the epilogue would not keep the anchor's element order" }
    }
    let apart = producer.cost.heavyWork + combine(id, node, type, taken).cost.heavyWork
    if combined.cost.heavyWork > 1.01 * apart {
      let times = min((combined.cost.heavyWork / max(1, apart)).rounded(.up), 1e15)
      return "reductions and calls would be repeated \(Int(exactly: times) ?? 1) times"
    }
    return recomputation(value, producer, combined, type, isTrivial: isTrivial)
  }

  private func isSmall(_ value: ValueID) -> Bool {
    (graph.type(value).tensor?.elementCount.estimate ?? .max) <= Self.smallCount
  }

  /// How many neighbouring elements of a row of the anchor's result make one element of the region's, at the place that follows from
  /// theirs; nil where elements elsewhere do.
  private func group(of combined: Pending, _ type: TensorType) -> Int? {
    guard let anchor = combined.anchor else { return 1 }
    let anchorType = graph.tensorType(anchor.value)
    let group = (1...anchor.template.largestGroup).first { anchorType.elementCount == Dim($0) * type.elementCount }
    guard let group else { return nil }
    let arena = ExprArena()
    var index = arena.makeVariable(type.elementCount).dim
    if group > 1 {
      guard let columns = type.shape.last, anchorType.shape.last == Dim(group) * columns else { return nil }
      let rows = Dim.product(type.shape.dropLast())
      index = arena.makeVariable(rows).dim * columns + arena.makeVariable(columns).dim
    }
    var isSame = true
    var operands = arguments(combined.leaves, arena)
    let buffer = arena.addBuffer(anchorType.dtype)
    operands[anchor.value] = Operand(anchorType) { position, arena in
      let flat = arena.flat(position, in: anchorType.shape)
      let place = flat.split(by: Dim(group))
      if place.whole != index || !place.rest.isConstant { isSame = false }
      return arena.load(buffer, flat)
    }
    _ = combined.element(operands).at(.flat(index), arena)
    return isSame ? group : nil
  }

  private func arguments(_ leaves: [ValueID], _ arena: ExprArena) -> [ValueID: Operand] {
    var operands: [ValueID: Operand] = [:]
    for leaf in leaves { operands[leaf] = arena.argument(graph.tensorType(leaf), layouts[leaf]) }
    return operands
  }

  /// Refuses when an element of `value` would be computed much more often inside than when stored once.
  private func recomputation(
    _ value: ValueID, _ producer: Pending, _ combined: Pending, _ type: TensorType, isTrivial: Bool
  ) -> String? {
    if producer.anchor != nil || isTrivial && isSmall(value) { return nil }
    let arena = ExprArena()
    var operands = arguments(combined.leaves, arena)
    var evaluated: Set<Expr> = []
    // The producer's expression is replaced by one that records where it is asked for.
    let valueType = graph.tensorType(value)
    let marker = arena.addBuffer(valueType.dtype)
    operands[value] = Operand(valueType) { position, arena in
      let expr = arena.load(marker, arena.flat(position, in: valueType.shape))
      evaluated.insert(expr)
      return expr
    }
    guard let last = combined.nodes.last else { return nil }
    let node = graph[last]
    // Other operands are arguments here, since only where elements are asked for matters.
    let inputs = node.inputs.map { input in
      let type = graph.tensorType(input)
      return operands[input] ?? Operand(argument: arena.addBuffer(type.dtype), type)
    }
    guard let result = node.op.lower(inputs, [type])?.first else { return "it has no expression form" }
    let variables = Kernel.variables(for: type.shape, arena)
    let root = result.at(.coordinates(variables.coordinates), arena)
    if producer.cost.hasReduction, type.shape.last != 1, let inner = variables.variables.last,
      reducesAlongInnermost(combined, type)
    {
      for case .load(_, let index) in evaluated.map({ arena[$0] }) {
        if ExprArena.locals(of: index).contains(inner.name), !index.unitStride(in: inner.name) {
          return "its reductions would run across their rows"
        }
      }
    }
    var memo: [Expr: Set<String>] = [:]
    let around = arena.loopsAround([root], &memo)
    var evaluations = 0.0
    for expr in evaluated {
      evaluations += variables.variables.evaluations(arena.freeVariables(expr, &memo), around, arena)
    }
    let ratio = evaluations / Double(max(1, valueType.elementCount.estimate))
    // Reductions and calls are not repeated, or this was refused before.
    let isQuick = valueType.elementCount.estimate <= target.launchElements
    let isHeavy = (producer.cost.hasReduction || producer.cost.isExpensive) && !isQuick
    let limit = isHeavy ? 1.001 : isTrivial ? 8.0 : 4.0
    if ratio > limit { return "each element would be computed \(Int(ratio.rounded(.up))) times" }
    return nil
  }

  /// Whether a reduction of the region is another one for each element of the innermost axis.
  private func reducesAlongInnermost(_ region: Pending, _ type: TensorType) -> Bool {
    let arena = ExprArena()
    let operands = arguments(region.leaves, arena)
    let (own, coordinates) = Kernel.variables(for: type.shape, arena)
    guard let last = own.last else { return false }
    let root = region.element(operands).at(.coordinates(coordinates), arena)
    var memo: [Expr: Set<String>] = [:]
    return arena.reachable([root]).contains { expr in
      guard case .reduce = arena[expr] else { return false }
      return arena.freeVariables(expr, &memo).contains(last.name)
    }
  }

  // MARK: Storing

  /// Makes sure a value is in memory, computing it when it is pending.
  private mutating func store(_ value: ValueID, _ builder: inout StepBuilder) throws(BuildError) {
    guard var region = pending.removeValue(forKey: value) else { return }
    try settleStem(&region, &builder)
    let nodes = region.nodes.map { graph[$0] }
    let type = graph.tensorType(value)
    let others = try settle(&region, region.anchor == nil ? type.shape : nil, &builder)
    if let anchor = region.anchor, let first = graph.producer(anchor.value) {
      var anchorRegion = AnchorRegion(
        graph: graph, node: graph[first], nodes: region.nodes, operands: region.leaves.filter { $0 != anchor.value },
        result: value,
        element: { anchorOperand, operands in
          var all = operands
          all[anchor.value] = anchorOperand
          return region.element(all)
        }, views: anchor.views, layouts: layouts, placement: region.placement)
      anchorRegion.tactic = tactic
      anchorRegion.group = group(of: region, type) ?? 1
      _ = builder.allocate(value)
      try emit(anchorRegion, by: anchor.template, &builder)
      return
    }
    if nodes.count == 1, nodes[0].op.isView, let source = nodes[0].inputs.first {
      let sourceSlot = builder.slot(source)
      let slot = builder.addSlot(
        graph[value].name, graph.type(value), .view(of: sourceSlot, byteOffset: 0))
      builder.place(value, in: slot)
      return
    }
    let slot = builder.allocate(value)
    emitLoops(
      region.element, region.leaves, type, slot, others: others, index: { $0 }, describe(region.nodes),
      nodes.map(\.name),
      work: nodes.reduce(0) { $0 + $1.op.work($1.inputs.map(graph.type), $1.outputs.map(graph.type)) }, &builder)
  }

  /// Emits a template's launches, with the other ways that it knows.
  private mutating func emit(
    _ region: AnchorRegion, by template: any KernelTemplate, _ builder: inout StepBuilder
  ) throws(BuildError) {
    let tactics = template.tactics(for: region).map(\.name)
    if let tactic, !tactics.contains(tactic) {
      throw BuildError("APUS-B-0054", "template '\(template.name)' computes nothing here by '\(tactic)'")
    }
    waiting.launch(target, into: &builder, &log)
    let first = builder.steps.count
    try template.emit(region, into: &builder)
    if tactic == nil, let alternatives = RegionGraph.alternatives(to: region, tactics) {
      builder.offer(alternatives, from: first)
    }
  }

  /// Decides what becomes of values inside a region that are needed outside too: those that are in memory are read from
  /// there, those of the region's shape are given back, to be stored along with its result, and others are stored first.
  private mutating func settle(
    _ region: inout Pending, _ shape: Shape?, _ builder: inout StepBuilder
  ) throws(BuildError) -> [ValueID: Pending] {
    var others: [ValueID: Pending] = [:]
    let inside = Set(region.nodes)
    for value in region.shared.sorted(by: { $0.index < $1.index }) {
      guard !(users[value] ?? []).allSatisfy(inside.contains) || outputs.contains(value) else { continue }
      if let own = pending[value], own.cost.isTrivial { continue }
      if let own = pending[value], graph.tensorType(value).shape == shape {
        others[value] = own
        pending[value] = nil
      } else {
        try store(value, &builder)
        if !region.leaves.contains(value) { region.leaves.append(value) }
      }
    }
    return others
  }

  /// Emits generated loops over `type`'s elements that store at `index` of the element's linear index, and other values of
  /// the same shape beside.
  private mutating func emitLoops(
    _ element: ([ValueID: Operand]) -> Operand, _ leaves: [ValueID], _ type: TensorType, _ slot: Int,
    others: [ValueID: Pending] = [:], index: ([Dim]) -> [Dim], shape: Shape? = nil, _ name: String, _ sources: [String],
    work: Dim,
    _ builder: inout StepBuilder
  ) {
    let arena = ExprArena()
    let operands = arguments(leaves, arena)
    let output = arena.addBuffer(type.dtype)
    var stored = [(element(operands), output)]
    var buffers = leaves.map { builder.slot($0) } + [slot]
    for (value, other) in others.sorted(by: { $0.key.index < $1.key.index }) {
      stored.append((other.element(operands), arena.addBuffer(graph.tensorType(value).dtype)))
      buffers.append(builder.allocate(value))
    }
    let kernel = Kernel.storing(stored, type, shape: shape ?? type.shape, index: index, arena)
    let loops = LoopGroup.Loops(
      kernel: kernel, buffers: buffers, name: name, sources: sources, work: work, elements: type.elementCount.estimate)
    if !waiting.takes(loops, target, builder) { waiting.launch(target, into: &builder, &log) }
    waiting.add(loops, builder)
    if !fuses { waiting.launch(target, into: &builder, &log) }
  }

  private func describe(_ nodes: [NodeID]) -> String {
    let names = nodes.map { graph[$0].op.name }
    if names.count <= 4 { return names.joined(separator: "+") }
    return names.prefix(2).joined(separator: "+") + "+…\(names.count - 3)…+" + (names.last ?? "")
  }

  // MARK: Special forms

  /// Concatenation writes each operand into its part of the result, so that operands are computed in place.
  private mutating func visitConcat(_ id: NodeID, _ node: Node, _ builder: inout StepBuilder)
    throws(BuildError) -> Bool
  {
    guard node.op.name == "concat", let result = node.outputs.first, let given = try? node.op.attributes.int("axis"),
      node.inputs.count > 1, graph.tensorType(result).elementCount.estimate > target.launchElements
    else { return false }
    let type = graph.tensorType(result)
    let axis = given < 0 ? given + type.rank : given
    // Operands with anchors or needed elsewhere are stored first; the rest is computed straight into the result.
    for input in node.inputs where pending[input]?.anchor != nil || !isUsedOnce(input) { try store(input, &builder) }
    let slot = builder.allocate(result)
    var offset: Dim = 0
    for input in node.inputs {
      let part = graph.tensorType(input)
      let start = offset
      var region = pending.removeValue(forKey: input)
      if var own = region {
        _ = try settle(&own, nil, &builder)
        region = own
      }
      let nodes = (region?.nodes ?? []) + [id]
      emitLoops(
        region?.element ?? { operands in operands[input] ?? Operand(argument: 0, part) }, region?.leaves ?? [input],
        part, slot,
        index: { coordinates in
          var shifted = coordinates
          shifted[axis] = shifted[axis] + start
          return shifted
        }, shape: type.shape, describe(nodes), nodes.map { graph[$0].name }, work: part.elementCount, &builder)
      offset = offset + part.shape[axis]
    }
    return true
  }

  private func emitHost(_ node: Node, _ builder: inout StepBuilder) throws(BuildError) {
    if node.op.name == "bind_dims" {
      let symbols = node.op.boundSymbols.map(\.name)
      let step = Step(
        .bind(slot: builder.slot(node.inputs[0]), symbols: symbols), name: "bind_dims", sources: [node.name],
        tactic: "bind")
      builder.add(step)
      return
    }
    let call = HostCall(
      operation: node.op.name, attributes: GraphText.details(of: node.op), inputs: node.inputs.map { builder.slot($0) },
      outputs: node.outputs.map { builder.allocate($0) }, boundSymbols: node.op.boundSymbols.map(\.name))
    builder.add(
      Step(
        .host(call), name: node.op.name, sources: [node.name], tactic: "host",
        work: node.op.work(node.inputs.map(graph.type), node.outputs.map(graph.type))))
  }
}
