package import ApusCore
package import ApusGraph
import ApusOps
package import ApusPlan

/// What a build is asked for beside the model.
package struct BuildOptions: Sendable {
  /// Passes run on the graph before it is cut into steps; empty compiles each node by itself.
  package var passes: [Pass]
  /// Whether neighbouring nodes are computed in one kernel.
  package var fuses: Bool
  package var profiles: [Profile]
  /// Plans of an engine that plans for the profiles are added to.
  package var earlier: [Plan]
  /// Names of nodes after which the model is cut into pieces.
  package var breaks: [String]
  /// Whether what only the host can compute is cut out, also where the target does not ask for it.
  package var breaksAtHost: Bool
  /// Whether the host may compute what the target cannot, where the host is elsewhere.
  package var allowsHostOperations: Bool
  /// What pins how each step is computed.
  package var lock: TacticLock?
  /// Most lanes beside the first that branches may be spread over, where the target's devices can run them side by side.
  package var auxiliaryStreams: Int
  /// Whether a lock that does not fit is an error; if not, it is followed where it fits.
  package var locksStrictly = true
  /// What measuring chose, where there is no lock.
  package var chosen: RegionTactics?
  /// What is decided, whatever the cost model says.
  package var wishes: Wishes
  package var progress: @Sendable (BuildPhase, Int, Int) -> Void

  package init(
    passes: [Pass] = Pass.standard, fuses: Bool = true, profiles: [Profile] = [], earlier: [Plan] = [],
    breaks: [String] = [], breaksAtHost: Bool = false, allowsHostOperations: Bool = true,
    auxiliaryStreams: Int = Self.usualAuxiliaryStreams, lock: TacticLock? = nil, wishes: Wishes = Wishes(),
    progress: @escaping @Sendable (BuildPhase, Int, Int) -> Void = { _, _, _ in }
  ) {
    self.passes = passes
    self.fuses = fuses
    self.profiles = profiles
    self.earlier = earlier
    self.breaks = breaks
    self.breaksAtHost = breaksAtHost
    self.allowsHostOperations = allowsHostOperations
    self.lock = lock
    self.auxiliaryStreams = auxiliaryStreams
    self.wishes = wishes
    self.progress = progress
  }

  /// More gain little (ADR 0023).
  package static let usualAuxiliaryStreams = 2
}

/// The parts of a build, as shown while it runs.
package enum BuildPhase: String, Sendable {
  case optimise, lower, compile, measure, tune
}

/// The plans of an engine, one for each target and profile, with the account of how they came about.
package struct BuildResult: Sendable {
  package var plans: [Plan]
  package var log: FusionLog
  /// What may go wrong when the engine runs.
  package var warnings: [Diagnostic]
  /// How long compiling kernels took.
  package var compiling = Duration.zero
}

/// Compiles a graph to plans.
package enum Builder {
  /// Makes a plan for each target and profile; without profiles one that takes every size. Plans of a target share kernels, all
  /// share constants.
  ///
  /// Plans that are there already stay as they are but for what they share: new functions are in images of their own, new
  /// constants behind the old.
  ///
  /// - Parameter targets: at least one; of several with equal fingerprints the first counts.
  /// - Throws: ``BuildError``; every problem of a phase at once.
  package static func build(
    _ source: Graph, name: String, metadata: [String: String] = [:], targets: [any Target], options: BuildOptions
  ) throws(BuildError) -> BuildResult {
    let profiles = options.profiles.isEmpty ? [Profile(name: "default", ranges: [])] : options.profiles
    let targets = distinct(targets)
    var result = BuildResult(plans: [], log: FusionLog(), warnings: [])
    let modelHash = GraphText.contentHash(of: source)
    try check(options, modelHash: modelHash, name: name, targets)
    try options.wishes.checkNames(in: source)
    let graphs = try specialised(source, profiles, &result.warnings)
    var shared = SharedParts(continuing: options.earlier)
    var lowered: [Plan] = []
    for (position, target) in targets.enumerated() {
      let earlier = options.earlier.filter { $0.fingerprint == target.fingerprint }
      shared.begin(continuing: earlier)
      var plans: [Plan] = []
      for (graph, profile) in zip(graphs, profiles) {
        var plan = Plan(name: name, fingerprint: target.fingerprint)
        plan.metadata = options.earlier.first?.metadata ?? metadata
        plan.modelHash = modelHash
        plan.profile = profile
        let done = (position * profiles.count + plans.count) * options.passes.count
        let all = targets.count * profiles.count * options.passes.count
        func progress(_ pass: Int) { options.progress(.optimise, done + pass, all) }
        let locked = options.lock?.tactics(target: target.fingerprint.target, profile: profile.name)
        if let parts = try parts(of: graph, target, options) {
          try lower(graph, parts, into: &plan, &shared, &result.log, target, options, locked, progress: progress)
        } else {
          try lower(graph, into: &plan, &shared, &result.log, target, options, locked, progress: progress)
        }
        LaneScheduler.assign(
          &plan, for: target, limit: options.auxiliaryStreams, functions: shared.functions, &result.log)
        try options.wishes.check(plan, result.log)
        plans.append(plan)
      }
      if target.hostIsElsewhere, !options.allowsHostOperations { try refuseHostSteps(plans) }
      lowered += plans
      if let lock = options.lock {
        if options.locksStrictly {
          result.warnings += try lock.warnings(for: target)
          if position == targets.count - 1 { try lock.check(lowered) }
        }
        for index in plans.indices { plans[index].timings = lock.timings(of: plans[index]) }
      }
      try dump(plans, shared, targets.count == 1 ? "" : "\(target.fingerprint.target)-")
      let start = ContinuousClock.now
      let images = try images(of: &shared, behind: earlier.first?.images ?? [], target, options)
      result.compiling += .now - start
      for var plan in earlier + plans {
        plan.share(functions: shared.functions, images: images, constants: plan.constants)
        result.plans.append(plan)
      }
    }
    let constants = shared.constants.makeSection()
    for index in result.plans.indices {
      let plan = result.plans[index]
      result.plans[index].share(functions: plan.functions, images: plan.images, constants: constants)
    }
    return result
  }

  /// A plan of a region by one of its tactics, whose functions are in no image; its profile has the tactic's name.
  ///
  /// - Throws: ``BuildError`` `APUS-B-0054` when the region cannot be computed so.
  static func sketch(
    _ graph: Graph, tactic: String, _ shared: inout SharedParts, _ target: any Target
  ) throws(BuildError) -> Plan {
    var plan = Plan(name: "region", fingerprint: target.fingerprint)
    plan.profile = Profile(name: tactic, ranges: [])
    var log = FusionLog()
    let options = BuildOptions(passes: [])
    try lower(graph, into: &plan, &shared, &log, target, options, tactic: tactic) { _ in }
    return plan
  }

  /// The first target of each fingerprint.
  private static func distinct(_ targets: [any Target]) -> [any Target] {
    var seen: Set<Fingerprint> = []
    return targets.filter { seen.insert($0.fingerprint).inserted }
  }

  /// Compiles the functions that are in no image yet, and says in which they are.
  private static func images(
    of shared: inout SharedParts, behind earlier: [KernelImage], _ target: any Target, _ options: BuildOptions
  ) throws(BuildError) -> [KernelImage] {
    if shared.sources.isEmpty { return earlier }
    options.progress(.compile, 0, shared.sources.count)
    let compiled = try target.compile(shared.sources) { options.progress(.compile, $0, $1) }
    shared.place(in: compiled, behind: earlier.count)
    return earlier + compiled
  }

  /// Refuses plans in which the host computes, and says what.
  private static func refuseHostSteps(_ plans: [Plan]) throws(BuildError) {
    var problems: [Diagnostic] = []
    for step in plans.flatMap(\.allSteps) {
      guard case .host(let call) = step.action else { continue }
      let problem = Diagnostic(
        "APUS-B-0053", "only the host can compute '\(call.operation)'",
        place: step.sources.first.map { "node '\($0)'" } ?? "a node without a name",
        hint: "Allow it with --allow-host-ops: its operands and results are copied there and back in every run.")
      if !problems.contains(problem) { problems.append(problem) }
    }
    if !problems.isEmpty { throw BuildError(problems: problems) }
  }

  /// Whether the plans that are there already are of this model and these targets.
  private static func check(
    _ options: BuildOptions, modelHash: String, name: String, _ targets: [any Target]
  ) throws(BuildError) {
    guard let first = options.earlier.first else { return }
    var problems: [Diagnostic] = []
    if first.modelHash != modelHash {
      problems.append(
        Diagnostic(
          "APUS-B-0040",
          "the engine was built from '\(first.name)', content \(first.modelHash), the model is '\(name)', content \(modelHash)",
          place: "model", hint: "Give the model that the engine was built from, with the same shapes."))
    }
    let (own, asked) = (options.earlier.targets, targets.map(\.fingerprint))
    if Set(own) != Set(asked) {
      problems.append(
        Diagnostic(
          "APUS-B-0041", "the engine was built \(own.text), the target is \(asked.text)", place: "target",
          hint:
            "Build for the engine's targets, with --target \(own.map(\.target).joined(separator: ",")), by the same "
            + "version of apus."))
    }
    let names = options.earlier.byTarget[0].map(\.profile.name)
    for profile in options.profiles where names.contains(profile.name) {
      problems.append(
        Diagnostic(
          "APUS-B-0042", "the engine has a profile of this name already", place: "profile '\(profile.name)'",
          hint: "Taken: \(names.joined(separator: ", "))."))
    }
    if !problems.isEmpty { throw BuildError(problems: problems) }
  }

  /// The graph for each profile: sizes that are fixed in it become constants, others have its ranges.
  private static func specialised(
    _ source: Graph, _ profiles: [Profile], _ warnings: inout [Diagnostic]
  ) throws(BuildError) -> [Graph] {
    var graphs: [Graph] = []
    var problems: [Diagnostic] = []
    let symbols = shapeSymbols(source, except: runSymbols(source))
    for profile in profiles {
      var check = ProfileCheck(profile)
      check.checkRanges(against: symbols)
      do {
        let graph = try source.substituting { profile.dim(of: $0) }
        if check.problems.isEmpty { check.checkSizes(of: graph) }
        if check.problems.isEmpty { check.checkFilling(of: graph) }
        graphs.append(graph)
      } catch { problems += error.at("profile '\(profile.name)'").problems }
      problems += check.problems
      warnings += check.warnings
    }
    if !problems.isEmpty { throw BuildError(problems: problems) }
    return graphs
  }

  /// Optimises a graph and cuts it into steps.
  private static func lower(
    _ source: Graph, into plan: inout Plan, _ shared: inout SharedParts, _ log: inout FusionLog, _ target: any Target,
    _ options: BuildOptions, _ locked: LockedTactics? = nil, tactic: String? = nil, progress: (Int) -> Void
  ) throws(BuildError) {
    var graph = source
    for (index, pass) in options.passes.enumerated() {
      progress(index)
      try pass.apply(&graph, &log, PassSettings(wishes: options.wishes, target: target))
    }
    if !options.passes.isEmpty {
      RaiseAttention.writeOut(&graph, for: target, &log)
      JoinProducts.run(&graph, for: target, &log)
    }
    options.progress(.lower, 0, 1)
    var builder = StepBuilder(graph, sharing: shared)
    builder.runSymbols = runSymbols(graph)
    placeInputs(graph, &builder)
    let control = ControlLowering(
      target: target, fuses: options.fuses, locked: locked, chosen: options.chosen?.of(profile: plan.profile.name),
      wishes: options.wishes)
    var fuser = Fuser(graph, target: target, fuses: options.fuses, control: control, log: log, tactic: tactic)
    try fuser.run(into: &builder)
    log = fuser.log
    finish(&plan, graph, &builder, &shared)
    plan.shapeSymbols = shapeSymbols(graph, except: builder.runSymbols)
  }

  /// Takes over what a builder has collected.
  private static func finish(
    _ plan: inout Plan, _ graph: Graph, _ builder: inout StepBuilder, _ shared: inout SharedParts
  ) {
    plan.outputs = placeOutputs(graph, &builder)
    plan.inputs = graph.inputs.map { input in
      Binding(
        name: graph[input].name, type: graph.type(input), slot: builder.slot(input),
        values: values(of: input, graph, except: builder.runSymbols))
    }
    plan.runSymbols = runSymbolList(graph)
    plan.slots = builder.slots
    plan.steps = builder.steps
    plan.assignLifetimes()
    shared = builder.shared
  }

  // MARK: Pieces

  /// The parts that the graph is to be cut into; nil when it stays whole.
  private static func parts(
    of graph: Graph, _ target: any Target, _ options: BuildOptions
  ) throws(BuildError) -> [GraphCut.Part]? {
    let cutsHost = options.breaksAtHost || target.hostIsElsewhere
    if options.breaks.isEmpty, !cutsHost { return nil }
    let parts = try GraphCut.parts(of: graph, after: options.breaks) { cutsHost && target.leavesToHost($0, in: graph) }
    return parts.count > 1 ? parts : nil
  }

  /// Compiles each part by itself and makes a plan that runs them.
  private static func lower(
    _ graph: Graph, _ parts: [GraphCut.Part], into plan: inout Plan, _ shared: inout SharedParts,
    _ log: inout FusionLog,
    _ target: any Target, _ options: BuildOptions, _ locked: LockedTactics?, progress: (Int) -> Void
  ) throws(BuildError) {
    let runSymbols = runSymbols(graph)
    plan.shapeSymbols = shapeSymbols(graph, except: runSymbols)
    // Sizes inside of sequences are symbols too, which nothing sets and no memory has.
    let known = runSymbols.union(plan.shapeSymbols.map(\.name))
    var inner: [Plan] = []
    for (index, part) in parts.enumerated() {
      var piece = Plan(name: "piece \(index)", fingerprint: target.fingerprint)
      piece.profile = plan.profile
      try lower(part.graph, into: &piece, &shared, &log, target, options, locked, progress: progress)
      // Sizes inside a piece may use symbols that none of its inputs shows.
      let bound = Set(piece.runSymbols.map(\.name))
      for input in piece.inputs.indices { piece.inputs[input].values = nil }
      piece.shapeSymbols = GraphText.symbols(of: part.graph).filter {
        known.contains($0.name) && !bound.contains($0.name)
      }
      inner.append(piece)
    }
    var builder = StepBuilder(graph, sharing: shared)
    builder.runSymbols = runSymbols
    placeInputs(graph, &builder)
    for (part, piece) in zip(parts, inner) {
      let steps = piece.steps.filter { $0.work.symbols.allSatisfy { !builder.isRunSymbol($0) } }
      let call = Piece(
        plan: piece, inputs: part.graph.inputs.map { builder.slot($0) },
        outputs: part.graph.outputs.map { builder.allocate($0) }, boundSymbols: part.boundSymbols)
      builder.add(
        Step(
          .piece(call), name: piece.name, tactic: "piece", work: Dim.sum(steps.map(\.work)),
          traffic: Dim.sum(steps.filter { $0.traffic.symbols.allSatisfy { !builder.isRunSymbol($0) } }.map(\.traffic))))
    }
    finish(&plan, graph, &builder, &shared)
  }

  private static func placeInputs(_ graph: Graph, _ builder: inout StepBuilder) {
    for (index, input) in graph.inputs.enumerated() {
      let isObject = graph.type(input).tensor.map { $0.dtype == .string } ?? true
      let slot = builder.addSlot(graph[input].name, graph.type(input), isObject ? .object : .input(index))
      builder.place(input, in: slot)
    }
  }

  package static let dumpKnob = Knob(
    "APUS_DUMP", "directory", default: "", "write the source of every kernel, named by the first step that uses it")

  /// - Parameter prefix: what names of files begin with.
  private static func dump(_ plans: [Plan], _ shared: SharedParts, _ prefix: String) throws(BuildError) {
    let folder = try dumpKnob.value()
    if folder.isEmpty { return }
    for plan in plans {
      let start = prefix + (plans.count == 1 ? "" : "\(fileName(plan.profile.name))-")
      for (number, step) in plan.allSteps.enumerated() {
        guard case .launch(let launch) = step.action, let source = shared.source(of: launch.function) else { continue }
        let path = "\(folder)/\(start)\(number)-\(fileName(step.name)).c"
        do { try AtomicFile.write(Array(source.utf8), to: path) } catch {
          throw BuildError("APUS-B-0013", "\(error)", hint: "APUS_DUMP must name a folder that exists.")
        }
      }
    }
  }

  private static func fileName(_ name: String) -> String {
    String(name.map { $0.isLetter || $0.isNumber || "+_".contains($0) ? $0 : "-" })
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

  /// The elements of an input that decide sizes, when they are known before running.
  private static func values(of input: ValueID, _ graph: Graph, except: Set<String>) -> [Dim]? {
    guard let dims = graph[input].dims, !dims.contains(where: { $0.symbols.contains { except.contains($0.name) } })
    else { return nil }
    return dims
  }

  private static func shapeSymbols(_ graph: Graph, except: Set<String>) -> [Symbol] {
    var symbols: [Symbol] = []
    for input in graph.inputs {
      for dim in (graph.type(input).tensor?.shape ?? []) + (values(of: input, graph, except: except) ?? []) {
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

extension [Fingerprint] {
  /// In words, for messages.
  fileprivate var text: String {
    map { mark in
      let features = mark.features.isEmpty ? "" : " with \(mark.features.joined(separator: ", "))"
      return "for \(mark.backend) \(mark.target)\(features), compiler \(mark.compiler), format \(mark.format)"
    }.joined(separator: " and ")
  }
}

extension Profile {
  /// What a symbol is in this profile: a constant where it is fixed; nil when the profile does not name it.
  func dim(of symbol: Symbol) -> Dim? {
    guard let range = ranges.first(where: { $0.symbol == symbol.name }) else { return nil }
    if range.min == range.max { return Dim(range.min) }
    return Dim(Symbol(symbol.name, Interval(range.min, range.max), opt: range.opt))
  }
}
