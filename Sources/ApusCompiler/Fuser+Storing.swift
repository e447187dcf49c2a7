import ApusCore
import ApusGraph
import ApusKernel
import ApusPlan

/// What is stored, and the steps that do so.
extension Fuser {
  /// Makes sure a value is in memory, computing it when it is pending.
  mutating func store(_ value: ValueID, _ builder: inout StepBuilder) throws(BuildError) {
    guard var region = pending.removeValue(forKey: value) else { return }
    try settleStem(&region, &builder)
    let nodes = region.nodes.map { graph[$0] }
    let type = graph.tensorType(value)
    let others = try settle(&region, region.anchor == nil ? type.shape : nil, &builder)
    if let anchor = region.anchor {
      try emit(self.region(of: region, anchor, value), by: anchor.template, &builder)
      return
    }
    if nodes.count == 1, nodes[0].op.isView, let source = nodes[0].inputs.first {
      let sourceSlot = builder.slot(source)
      let slot = builder.addSlot(
        graph[value].name, graph.type(value), .view(of: sourceSlot, byteOffset: 0))
      builder.place(value, in: slot)
      return
    }
    let slot = allocate(value, &builder)
    emitLoops(
      region.element, region.leaves, type, slot, others: others, index: { $0 }, describe(region.nodes),
      nodes.map(\.name), of: others.isEmpty ? self.region(of: region, value) : nil,
      work: nodes.reduce(0) { $0 + $1.op.work($1.inputs.map(graph.type), $1.outputs.map(graph.type)) }, &builder)
  }

  /// A pending value that loops compute; nil where it cannot stand by itself.
  private func region(of region: Pending, _ value: ValueID) -> AnchorRegion? {
    // Elements of made-up integers are no places in tensors.
    guard let last = region.nodes.last, region.leaves.allSatisfy({ graph.tensorType($0).dtype.isFloat }) else {
      return nil
    }
    return AnchorRegion(
      graph: graph, node: graph[last], nodes: region.nodes, operands: region.leaves, result: value,
      element: { _, operands in region.element(operands) })
  }

  /// A pending value with an anchor as its template sees it.
  func region(of region: Pending, _ anchor: Anchor, _ value: ValueID) -> AnchorRegion {
    let inner = anchor.inside.compactMap { own in
      own.anchor.flatMap { first in own.nodes.last.map { self.region(of: own, first, graph[$0].outputs[0]) } }
    }
    let innerNodes = Set(anchor.inside.flatMap(\.nodes))
    var result = AnchorRegion(
      graph: graph, node: graph.producer(anchor.value).map { graph[$0] } ?? graph[region.nodes[0]],
      nodes: region.nodes.filter { !innerNodes.contains($0) }, operands: region.leaves.filter { $0 != anchor.value },
      result: value,
      element: { anchorOperand, operands in
        var all = operands
        all[anchor.value] = anchorOperand
        return region.element(all)
      }, views: anchor.views, layouts: layouts, placement: region.placement)
    result.tactic = tactic
    result.group = group(of: region, graph.tensorType(value)) ?? 1
    result.inside = inner
    return result
  }

  /// Emits a template's launches, with the other ways that it knows.
  mutating func emit(
    _ region: AnchorRegion, by template: any KernelTemplate, _ builder: inout StepBuilder
  ) throws(BuildError) {
    var tactics = template.tactics(for: region).map(\.name)
    if !region.inside.isEmpty, !tactics.contains(AnchorRegion.apart) { tactics.append(AnchorRegion.apart) }
    if let tactic, !tactics.contains(tactic) {
      throw BuildError("APUS-B-0054", "template '\(template.name)' computes nothing here by '\(tactic)'")
    }
    waiting.launch(target, into: &builder, &log)
    let first = builder.steps.count
    var region = region
    var alternatives = tactic == nil ? RegionGraph.alternatives(to: region, tactics) : nil
    if let wanted = choice(region, tactics, alternatives) {
      region.tactic = wanted
      alternatives?.chosen = wanted
    }
    if region.tactic == nil { region.tactic = tactics.first }
    if region.tactic == AnchorRegion.apart {
      try emitApart(region, &builder)
    } else {
      builder.beginRegion()
      _ = allocate(region.result, &builder)
      try template.emit(region, into: &builder)
    }
    if let alternatives {
      builder.offer(alternatives, from: first)
    }
  }

  /// The tactic of a region that is not the usual one, by the lock or by what was measured.
  private func choice(_ region: AnchorRegion, _ tactics: [String], _ alternatives: Alternatives?) -> String? {
    guard tactic == nil else { return nil }
    let chosen = alternatives.flatMap { control.chosen?.tactic(for: $0) }
    let wanted = control.locked?.next(for: region.names, among: tactics) ?? chosen
    return wanted.flatMap { tactics.dropFirst().contains($0) ? $0 : nil }
  }

  /// Emits a region and those inside of it one after the other, each by the way that its template prefers.
  private mutating func emitApart(_ region: AnchorRegion, _ builder: inout StepBuilder) throws(BuildError) {
    for inner in region.inside { try emitApart(inner, &builder) }
    guard let template = target.templates.first(where: { $0.refusal(region.node, in: graph) == nil }) else { return }
    var alone = region
    alone.inside = []
    alone.tactic = template.tactics(for: alone).first?.name
    builder.beginRegion()
    _ = allocate(region.result, &builder)
    try template.emit(alone, into: &builder)
  }

  /// Decides what becomes of values inside a region that are needed outside too: those that are in memory are read from
  /// there, those of the region's shape are given back, to be stored along with its result, and others are stored first.
  mutating func settle(
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
  mutating func emitLoops(
    _ element: ([ValueID: Operand]) -> Operand, _ leaves: [ValueID], _ type: TensorType, _ slot: Int,
    others: [ValueID: Pending] = [:], index: ([Dim]) -> [Dim], shape: Shape? = nil, _ name: String, _ sources: [String],
    of region: AnchorRegion? = nil, work: Dim,
    _ builder: inout StepBuilder
  ) {
    let arena = ExprArena()
    let operands = arguments(leaves, arena)
    let output = arena.addBuffer(type.dtype)
    var stored = [(element(operands), output)]
    var buffers = leaves.map { builder.slot($0) } + [slot]
    for (value, other) in others.sorted(by: { $0.key.index < $1.key.index }) {
      stored.append((other.element(operands), arena.addBuffer(graph.tensorType(value).dtype)))
      buffers.append(allocate(value, &builder))
    }
    let kernel = Kernel.storing(stored, type, shape: shape ?? type.shape, index: index, arena)
    var loops = LoopGroup.Loops(
      kernel: kernel, buffers: buffers, name: name, sources: sources, work: work, elements: type.elementCount.estimate)
    let tactics = region == nil ? [] : target.loopTactics(kernel)
    if let region, let usual = tactics.first {
      loops.tactic = tactic ?? usual
      var alternatives = tactic == nil ? RegionGraph.alternatives(to: region, tactics, packs: false) : nil
      if let wanted = choice(region, tactics, alternatives) {
        loops.tactic = wanted
        alternatives?.chosen = wanted
      }
      loops.alternatives = alternatives
    }
    if !waiting.takes(loops, target, builder) || !control.wishes.allows(waiting.sources + sources) {
      waiting.launch(target, into: &builder, &log)
    }
    waiting.add(loops, builder)
    if !fuses { waiting.launch(target, into: &builder, &log) }
  }

  func describe(_ nodes: [NodeID]) -> String {
    let names = nodes.map { graph[$0].op.name }
    if names.count <= 4 { return names.joined(separator: "+") }
    return names.prefix(2).joined(separator: "+") + "+…\(names.count - 3)…+" + (names.last ?? "")
  }

  // MARK: Special forms

  /// Concatenation writes each operand into its part of the result, so that operands are computed in place.
  mutating func visitConcat(_ id: NodeID, _ node: Node, _ builder: inout StepBuilder)
    throws(BuildError) -> Bool
  {
    guard let axis = axisOfParts(node), let result = node.outputs.first else { return false }
    let type = graph.tensorType(result)
    // Operands with anchors or needed elsewhere are stored first; the rest is computed straight into the result.
    for input in node.inputs {
      guard let own = pending[input] else { continue }
      if own.anchor != nil || !isUsedOnce(input) || !allows(own.nodes + [id]) { try store(input, &builder) }
    }
    let slot = allocate(result, &builder)
    var (offset, byteOffset): (Dim, Dim) = (0, 0)
    for input in node.inputs {
      let part = graph.tensorType(input)
      let start = offset
      let isAtHome = isAtHome(input, in: result, byteOffset: byteOffset, builder)
      (offset, byteOffset) = (offset + part.shape[axis], byteOffset + part.byteCount)
      if isAtHome {
        if isUsedOnce(input) { pending[input] = nil }
        continue
      }
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
    }
    return true
  }

  func emitHost(_ node: Node, _ builder: inout StepBuilder) throws(BuildError) {
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

extension AnchorRegion {
  /// Names of the model's nodes, as steps have them.
  fileprivate var names: [String] {
    var seen: Set<String> = []
    return allNodes.map { graph[$0].name }.filter { !$0.isEmpty && seen.insert($0).inserted }
  }
}
