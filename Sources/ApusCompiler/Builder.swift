package import ApusCore
package import ApusGraph
package import ApusPlan

/// What a build is asked for beside the model.
package struct BuildOptions: Sendable {
  /// Passes run on the graph before it is cut into steps; empty compiles each node by itself.
  package var passes: [Pass]
  /// Whether neighbouring nodes are computed in one kernel.
  package var fuses: Bool
  package var profiles: [Profile]
  package var progress: @Sendable (BuildPhase, Int, Int) -> Void

  package init(
    passes: [Pass] = Pass.standard, fuses: Bool = true, profiles: [Profile] = [],
    progress: @escaping @Sendable (BuildPhase, Int, Int) -> Void = { _, _, _ in }
  ) {
    self.passes = passes
    self.fuses = fuses
    self.profiles = profiles
    self.progress = progress
  }
}

/// The parts of a build, as shown while it runs.
package enum BuildPhase: String, Sendable {
  case optimise, lower, compile
}

/// A plan with the account of how it came about.
package struct BuildResult: Sendable {
  package var plan: Plan
  package var log: FusionLog
}

/// Compiles a graph to a plan.
package enum Builder {
  /// - Throws: ``BuildError``; every problem of a phase at once.
  package static func build(
    _ source: Graph, name: String, metadata: [String: String] = [:], target: any Target, options: BuildOptions
  ) throws(BuildError) -> BuildResult {
    var graph = source
    var log = FusionLog()
    for (index, pass) in options.passes.enumerated() {
      options.progress(.optimise, index, options.passes.count)
      try pass.apply(&graph, &log)
    }
    options.progress(.lower, 0, 1)
    var builder = StepBuilder(graph)
    builder.runSymbols = runSymbols(graph)
    for (index, input) in graph.inputs.enumerated() {
      let isObject = graph.type(input).tensor.map { $0.dtype == .string } ?? true
      let slot = builder.addSlot(graph[input].name, graph.type(input), isObject ? .object : .input(index))
      builder.place(input, in: slot)
    }
    let control = ControlLowering(target: target, fuses: options.fuses)
    var fuser = Fuser(graph, target: target, fuses: options.fuses, control: control, log: log)
    try fuser.run(into: &builder)
    let outputs = placeOutputs(graph, &builder)

    var plan = Plan(name: name, fingerprint: target.fingerprint)
    plan.metadata = metadata
    plan.inputs = graph.inputs.map { Binding(name: graph[$0].name, type: graph.type($0), slot: builder.slot($0)) }
    plan.outputs = outputs
    plan.runSymbols = runSymbolList(graph)
    plan.shapeSymbols = shapeSymbols(graph, except: builder.runSymbols)
    plan.profiles = options.profiles
    plan.slots = builder.slots
    plan.steps = builder.steps
    plan.assignLifetimes()
    plan.functions = builder.functions
    plan.constants = builder.constants.section()
    try dump(plan, builder.sources)
    if !builder.sources.isEmpty {
      options.progress(.compile, 0, builder.sources.count)
      plan.images = [try target.compile(builder.sources) { options.progress(.compile, $0, $1) }]
    }
    return BuildResult(plan: plan, log: fuser.log)
  }

  package static let dumpKnob = Knob(
    "APUS_DUMP", "directory", default: "", "write the source of every kernel, named by the first step that uses it")

  private static func dump(_ plan: Plan, _ sources: [String]) throws(BuildError) {
    let folder = try dumpKnob.value()
    if folder.isEmpty { return }
    for (number, step) in plan.steps.enumerated() {
      guard case .launch(let launch) = step.action else { continue }
      let name = step.name.map { $0.isLetter || $0.isNumber || "+_".contains($0) ? $0 : "-" }
      let source = sources[launch.function]
      do { try AtomicFile.write(Array(source.utf8), to: "\(folder)/\(number)-\(String(name)).c") } catch {
        throw BuildError("APUS-B-0013", "\(error)", hint: "APUS_DUMP must name a folder that exists.")
      }
    }
  }

  private static func runSymbolList(_ graph: Graph) -> [Symbol] {
    var symbols: [Symbol] = []
    for id in graph.order {
      symbols += graph[id].op.boundSymbols.filter { !symbols.contains($0) }
      for body in graph[id].op.bodies { symbols += runSymbolList(body).filter { !symbols.contains($0) } }
    }
    return symbols
  }

  private static func runSymbols(_ graph: Graph) -> Set<String> { Set(runSymbolList(graph).map(\.name)) }

  private static func shapeSymbols(_ graph: Graph, except: Set<String>) -> [Symbol] {
    var symbols: [Symbol] = []
    for input in graph.inputs {
      for dim in graph.type(input).tensor?.shape ?? [] {
        symbols += dim.symbols.filter { !except.contains($0.name) && !symbols.contains($0) }
      }
    }
    return symbols
  }

  /// Turns the slots of the outputs into the caller's memory; what cannot be (an input, a constant, a view, a value
  /// that is two outputs) is copied.
  private static func placeOutputs(_ graph: Graph, _ builder: inout StepBuilder) -> [Binding] {
    var bindings: [Binding] = []
    for (index, output) in graph.outputs.enumerated() {
      var slot = builder.slot(output)
      switch builder.slots[slot].storage {
      case .arena, .grown: builder.setStorage(slot, .output(index))
      case .object where !graph.inputs.contains(output): break
      default:
        let isObject = graph.type(output).tensor.map { $0.dtype == .string } ?? true
        let copy = builder.addSlot(graph[output].name, graph.type(output), isObject ? .object : .output(index))
        builder.add(Step(.copy(from: slot, to: copy), name: "copy", sources: [], tactic: "copy"))
        slot = copy
      }
      bindings.append(Binding(name: graph.outputNames[index], type: graph.type(output), slot: slot))
    }
    return bindings
  }
}
