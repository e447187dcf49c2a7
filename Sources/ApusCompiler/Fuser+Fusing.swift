import ApusCore
import ApusGraph
import ApusKernel

/// What is computed together.
extension Fuser {
  /// The node's result as a pending expression that takes in those operands that are worth it; nil when the node has no
  /// expression form.
  mutating func fuse(_ id: NodeID, _ node: Node, _ type: TensorType, _ builder: inout StepBuilder)
    throws(BuildError) -> Pending?
  {
    let types = node.inputs.compactMap { graph.type($0).tensor }
    guard types.count == node.inputs.count, !types.contains(where: { $0.dtype == .string }) else { return nil }
    let probe = node.op.lower(types.map { Operand(argument: 0, $0) }, [type])
    guard let probe, probe.count == 1 else { return nil }

    var taken: [ValueID: Pending] = [:]
    for input in node.distinctInputs {
      guard let producer = pending[input] else { continue }
      var refusal = refusal(input, producer, id, node, type, taken)
      let cost = refusal
      if refusal?.isByCost == true, control.wishes.forces(names(producer.nodes), into: node.name) {
        refusal = self.refusal(input, producer, id, node, type, taken, ignoringCost: true)
      }
      if let refusal {
        record(producer, into: id, input, taken: false, refusal.reason, refusal)
        try store(input, &builder)
      } else {
        let reason = cost.map { "it is asked for, though \($0.reason)" } ?? "saves storing \(graph.type(input))"
        record(producer, into: id, input, taken: true, reason, cost)
        taken[input] = producer
        if isUsedOnce(input) { pending[input] = nil }
      }
    }
    return combine(id, node, type, taken)
  }

  func combine(_ id: NodeID, _ node: Node, _ type: TensorType, _ taken: [ValueID: Pending]) -> Pending {
    var leaves: [ValueID] = []
    for input in node.inputs {
      for leaf in taken[input]?.leaves ?? [input] where !leaves.contains(leaf) { leaves.append(leaf) }
    }
    let anchor = taken.values.compactMap(\.anchor).first
    let inside = node.distinctInputs.compactMap { taken[$0] }
    let inner = (inside.filter { $0.anchor != nil } + inside.filter { $0.anchor == nil }).flatMap(\.nodes)
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
    let root = taken.first { $0.value.anchor != nil && !isUsedOnce($0.key) }
    return Pending(
      nodes: nodes, leaves: leaves, element: element, anchor: anchor,
      cost: ExpressionCost(of: element, leaves: leaves, anchor: anchor?.value, type, graph),
      shared: taken.values.reduce(Set(shared)) { $0.union($1.shared) },
      stem: taken.values.compactMap(\.stem).first ?? root.map { Stem(value: $0.key, nodes: $0.value.nodes) })
  }

  /// Whether all that is computed from a value comes together in one node of its shape before anything else needs a part of it, as
  /// x·sigmoid(x) and what else is written of several nodes does.
  func usersMeet(_ value: ValueID) -> Bool {
    let type = graph.type(value)
    var open: [ValueID: Set<NodeID>] = [value: Set(users[value] ?? [])]
    for _ in 0..<Self.longestWayToMeet {
      guard let next = open.values.joined().min(by: { (position[$0] ?? 0) < (position[$1] ?? 0) }) else { return false }
      let node = graph[next]
      guard node.outputs.count == 1, let result = node.outputs.first, graph.type(result) == type,
        target.templates.allSatisfy({ $0.refusal(node, in: graph) != nil })
      else { return false }
      for input in Set(node.inputs) { open[input]?.remove(next) }
      open = open.filter { !$0.value.isEmpty }
      if open.isEmpty { return true }
      if outputs.contains(result) { return false }
      open[result] = Set(users[result] ?? [])
    }
    return false
  }

  /// A part of an anchor's result, each element of which is among neighbours of which all other parts have one too.
  func part(_ id: NodeID, _ node: Node, _ type: TensorType) -> Pending? {
    guard node.op.name == "slice", let input = node.inputs.first, let whole = pending[input], whole.anchor != nil,
      whole.placement == nil, whole.stem == nil, !outputs.contains(input),
      (users[input] ?? []).allSatisfy({ graph[$0].op.name == "slice" && isUsedOnce(graph[$0].outputs[0]) })
    else { return nil }
    guard allows(whole.nodes + [id]) else { return nil }
    var region = combine(id, node, type, [input: whole])
    region.stem = Stem(value: input, nodes: whole.nodes)
    return (group(of: region, type) ?? 1) > 1 ? region : nil
  }

  /// Makes a region with a stem one that computes the stem, when all its parts are inside, or one that reads it from memory.
  mutating func settleStem(_ region: inout Pending, _ builder: inout StepBuilder) throws(BuildError) {
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
  mutating func place(_ id: NodeID, _ node: Node) -> Pending? {
    guard node.inputs.count == 1, let input = node.inputs.first, var region = pending[input], region.anchor != nil,
      region.stem == nil, isUsedOnce(input), allows(region.nodes + [id])
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
  ///
  /// - Parameter ignoringCost: whether only what is not possible counts.
  func refusal(
    _ value: ValueID, _ producer: Pending, _ id: NodeID, _ node: Node, _ type: TensorType,
    _ taken: [ValueID: Pending], ignoringCost: Bool = false
  ) -> Refusal? {
    if !allows(producer.nodes + taken.values.flatMap(\.nodes) + [id]) { return Refusal("it is to stay apart") }
    if outputs.contains(value) { return Refusal("it is an output of the model") }
    if producer.placement != nil { return Refusal("it is stored in another order than it is computed in") }
    let uses = users[value]?.count ?? 0
    let isTrivial = producer.cost.isTrivial && producer.anchor == nil
    if uses > 1 && !(isTrivial && (producer.cost.loads <= 1 && producer.cost.isPlain || isSmall(value))) {
      // Where a launch takes longer than computing it again, the kernel that takes it in stores it too if need be.
      let isQuick = graph.tensorType(value).elementCount.estimate <= target.launchElements
      if producer.anchor != nil {
        if producer.stem != nil || !usersMeet(value) {
          return Refusal("\(uses) nodes use it, and what a template computes is computed once")
        }
      } else if !isQuick, !ignoringCost {
        return Refusal("\(uses) nodes use it", repeats: 2)
      }
    }
    let root = producer.stem?.value ?? value
    if producer.anchor != nil, taken.contains(where: { $1.anchor != nil && ($1.stem?.value ?? $0) != root }) {
      return Refusal("another anchor is already inside", isRival: true)
    }
    var trial = taken
    trial[value] = producer
    let combined = combine(id, node, type, trial)
    if combined.cost.size > Self.largestExpression {
      return Refusal("the expression would have \(combined.cost.size) parts")
    }
    if combined.leaves.count > Self.mostBuffers {
      return Refusal("the kernel would read \(combined.leaves.count) tensors")
    }
    if producer.anchor != nil || combined.anchor != nil {
      if combined.cost.hasReduction { return Refusal("a reduction does not fit an epilogue") }
      if group(of: combined, type) == nil {
        return Refusal("the epilogue would not keep the anchor's element order")
      }
    }
    if ignoringCost { return nil }
    let apart = producer.cost.heavyWork + combine(id, node, type, taken).cost.heavyWork
    if combined.cost.heavyWork > 1.01 * apart {
      let times = min((combined.cost.heavyWork / max(1, apart)).rounded(.up), 1e15)
      return Refusal(
        "reductions and calls would be repeated \(Int(exactly: times) ?? 1) times",
        heavyWork: combined.cost.heavyWork - apart)
    }
    return recomputation(value, producer, combined, type, isTrivial: isTrivial)
  }

  func isSmall(_ value: ValueID) -> Bool {
    (graph.type(value).tensor?.elementCount.estimate ?? .max) <= Self.smallCount
  }

  /// How many neighbouring elements of a row of the anchor's result make one element of the region's, at the place that follows from
  /// theirs; nil where elements elsewhere do.
  func group(of combined: Pending, _ type: TensorType) -> Int? {
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

  func arguments(_ leaves: [ValueID], _ arena: ExprArena) -> [ValueID: Operand] {
    var operands: [ValueID: Operand] = [:]
    for leaf in leaves { operands[leaf] = arena.argument(graph.tensorType(leaf), layouts[leaf]) }
    return operands
  }

  /// Refuses when an element of `value` would be computed much more often inside than when stored once.
  func recomputation(
    _ value: ValueID, _ producer: Pending, _ combined: Pending, _ type: TensorType, isTrivial: Bool
  ) -> Refusal? {
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
    guard let result = node.op.lower(inputs, [type])?.first else {
      return Refusal("it has no expression form")
    }
    let variables = Kernel.variables(for: type.shape, arena)
    let root = result.at(.coordinates(variables.coordinates), arena)
    if producer.cost.hasReduction, type.shape.last != 1, let inner = variables.variables.last,
      reducesAlongInnermost(combined, type)
    {
      for case .load(_, let index) in evaluated.map({ arena[$0] }) {
        if ExprArena.locals(of: index).contains(inner.name), !index.unitStride(in: inner.name) {
          return Refusal("its reductions would run across their rows", repeats: 1)
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
    if ratio > limit {
      return Refusal("each element would be computed \(Int(ratio.rounded(.up))) times", repeats: ratio)
    }
    return nil
  }

  /// Whether a reduction of the region is another one for each element of the innermost axis.
  func reducesAlongInnermost(_ region: Pending, _ type: TensorType) -> Bool {
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
}

extension Node {
  /// The operands, each once, in order.
  fileprivate var distinctInputs: [ValueID] {
    var seen: Set<ValueID> = []
    return inputs.filter { seen.insert($0).inserted }
  }
}
