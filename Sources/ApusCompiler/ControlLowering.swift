import ApusCore
import ApusGraph
import ApusPlan

/// Lowers operations with sub-graphs to steps with nested step lists.
struct ControlLowering {
  let target: any Target
  let fuses: Bool
  /// The tactics that a lock names.
  let locked: LockedTactics?
  /// The tactics that measuring chose.
  var chosen: RegionTactics?
  /// What is to be computed together or apart.
  var wishes = Wishes()

  /// Emits the node's steps; false when the node is no control flow that has a compiled form.
  ///
  /// Operands are in memory already.
  func emit(_ node: Node, _ graph: Graph, _ builder: inout StepBuilder, _ log: inout FusionLog) throws(BuildError)
    -> Bool
  {
    guard node.op.name == "if", node.op.bodies.count == 2,
      node.outputs.allSatisfy({ graph.type($0).tensor.map { $0.dtype != .string } ?? false })
    else { return false }
    let condition = builder.slot(node.inputs[0])
    let captured = node.inputs.dropFirst().map { builder.slot($0) }
    let results = node.outputs.map { builder.allocate($0) }
    var branches: [[Step]] = []
    for body in node.op.bodies {
      guard body.inputs.count == captured.count else {
        throw BuildError(
          "APUS-B-0030", "a branch of '\(node.name)' takes \(body.inputs.count) values, not \(captured.count)")
      }
      branches.append(try branch(body, Array(captured), results, node, graph, &builder, &log))
    }
    let action = Step.Action.branch(condition: condition, then: branches[0], else: branches[1])
    builder.add(Step(action, name: "if", sources: [node.name], tactic: "branch"))
    return true
  }

  private func branch(
    _ body: Graph, _ captured: [Int], _ results: [Int], _ node: Node, _ graph: Graph, _ builder: inout StepBuilder,
    _ log: inout FusionLog
  ) throws(BuildError) -> [Step] {
    let bound = Set(node.op.boundSymbols.map(\.name))
    var nestedLog = log
    let steps = try builder.nested { (builder) throws(BuildError) in
      try builder.entering(body) { (builder) throws(BuildError) in
        for (input, slot) in zip(body.inputs, captured) { builder.place(input, in: slot) }
        var fuser = Fuser(body, target: target, fuses: fuses, control: self, log: nestedLog)
        try fuser.run(into: &builder)
        nestedLog = fuser.log
        var definitions: [Definition] = []
        for (output, result) in zip(body.outputs, node.outputs) {
          guard let inner = body.type(output).tensor, let outer = graph.type(result).tensor else { continue }
          for (size, dim) in zip(inner.shape, outer.shape) {
            if let symbol = dim.asSymbol, bound.contains(symbol.name) {
              definitions.append(Definition(symbol: symbol.name, size: size))
            }
          }
        }
        if !definitions.isEmpty {
          builder.add(Step(.define(definitions), name: "sizes", sources: [node.name], tactic: "bind"))
        }
        for (output, slot) in zip(body.outputs, results) {
          let from = builder.slot(output)
          builder.add(Step(.copy(from: from, to: slot), name: "copy", sources: [node.name], tactic: "copy"))
        }
      }
    }
    log = nestedLog
    return steps
  }
}
