public import ApusCore
import ApusPlan

/// One profile's side of a context, or a piece of it: bound plans and the values of a run.
final class RunState {
  static let boundPlanLimit = 8

  let engine: Engine
  let program: Program
  let hostFunctions: [HostFunction]
  let bindings: Bindings
  let workspace: Workspace
  let stream: any DeviceStream
  /// Whether the host cannot read what steps write, so that inputs, outputs and host operations need copies.
  let isElsewhere: Bool
  /// Whether launches are recorded once and queued as a whole afterwards.
  let captures: Bool
  /// Whether steps go to the lanes that they are on; else all go to the first, in the order of listing.
  private let forks: Bool
  /// Whether no output shares bytes with another or with an input, which steps on different lanes would not know of.
  var outputsAreApart = true
  /// 64 bytes that stand for the memory of empty tensors.
  let nothing: DeviceBuffer
  /// What a bound plan depends on: the sizes of all inputs, or the values of a piece's symbols, set by what is around it.
  var key: [Int]
  let level: Workspace.Level
  private let ceiling: MemoryCeiling?
  /// Plans bound before, with the key of each and the number of the run that last used it.
  private var boundPlans: [(key: [Int], plan: BoundPlan, lastUse: Int)] = []
  private var runCount = 0
  /// How many plans were bound so far.
  private(set) var boundPlanCount = 0
  /// Where the host reads single elements that are on the device.
  let hostWord = UnsafeMutableRawPointer.allocate(byteCount: 8, alignment: 8)
  /// Buffers of grown slots.
  var grown: [DeviceBuffer?]
  /// Holds sizes between their computation and their assignment.
  var newSizes: [Int]
  /// Host values by slot.
  var objects: [HostValue?]
  var profiler: LayerProfiler?
  /// Steps that were queued since the host last waited.
  var queued = StepSpan()
  /// Number of the first step in the profiler's table.
  var firstStep = 0
  var bound: BoundPlan
  let pieces: [RunState]
  /// What is filled up, with the numbers of rows of this run.
  let fillings: [Filling]
  var rows: [FilledRows]

  init(
    engine: Engine, _ variant: Engine.Variant, _ bindings: Bindings, _ workspace: Workspace,
    _ stream: any DeviceStream, captures: Bool, ceiling: MemoryCeiling? = nil, level: Workspace.Level = .model
  ) throws(RunError) {
    self.engine = engine
    self.captures = captures && stream.canCapture && !Self.waitsForEachStep
    self.bindings = bindings
    self.workspace = workspace
    self.stream = stream
    isElsewhere = !engine.device.sharesHostMemory
    self.level = level
    self.ceiling = ceiling
    program = variant.program
    forks = try Self.makeLanes(variant.program.laneNeed, stream)
    let axisCount = program.inputAxes.reduce(0) { $0 + $1.count }
    key = [Int](repeating: 0, count: level == .piece ? program.dims.shapeSymbolCount : axisCount)
    hostFunctions = variant.hostFunctions
    nothing = try workspace.allocate(64, "empty tensors")
    let slotCount = program.slots.count
    grown = [DeviceBuffer?](repeating: nil, count: slotCount)
    newSizes = [Int](repeating: 0, count: program.definitions.map(\.sizes.count).max() ?? 0)
    objects = [HostValue?](repeating: nil, count: slotCount)
    for (slot, value) in variant.objects { objects[slot] = value }
    bound = BoundPlan(unbound: program)
    // A piece gets its sizes from what is around it.
    fillings = level == .piece ? [] : program.fillings
    rows = fillings.map { _ in FilledRows() }
    var pieces: [RunState] = []
    for (index, piece) in variant.pieces.enumerated() {
      pieces.append(
        try RunState(
          engine: engine, piece, Bindings(plan: piece.program.plan), workspace, stream, captures: captures,
          ceiling: ceiling?.pieces[index], level: .piece))
    }
    self.pieces = pieces
  }

  deinit { hostWord.deallocate() }

  private static func makeLanes(
    _ need: (lanes: Int, points: Int), _ stream: any DeviceStream
  ) throws(RunError) -> Bool {
    if need.lanes == 0 || waitsForEachStep { return false }
    do { return try stream.makeLanes(need.lanes, points: need.points) } catch { throw RunError(device: error) }
  }

  /// How the steps of a segment are spread over lanes in this run; nil where all go to the first.
  func lanes(of segment: Segment) -> LaneOrder? { forks && outputsAreApart && profiler == nil ? segment.order : nil }

  /// Whether the host waits after each step, so that one that fails is named.
  static let waitsForEachStep = Knob.syncSteps.level == 1
}

/// Steps from one to another.
struct StepSpan {
  private(set) var first = Int.max
  private(set) var end = 0

  mutating func add(_ from: Int, _ to: Int) {
    if from < first { first = from }
    if to > end { end = to }
  }
}

extension Knob {
  /// Whether the host waits for the device after each step.
  public static let syncSteps = Knob.level(
    "APUS_SYNC", 0...1, default: 0, "1 waits for the device after each step: an error names the step that failed")
}

// MARK: Preparing a run

extension RunState {
  /// Makes everything ready for the inputs' shapes: the bound plan, memory, addresses.
  ///
  /// - Parameter given: the bound plan when what is around a piece holds it.
  func prepare(_ given: BoundPlan? = nil) throws(RunError) {
    takeObjects()
    if let given { bound = given } else { try selectBoundPlan() }
    try prepareMemory()
    if level == .model { try prepareMirrors() }
    for output in bindings.outputs.indices { try prepareOutput(output) }
    let version = bound.version
    if bound.epoch == workspace.epoch(level) { refreshExternals() } else { resolveAll() }
    if !program.maps.isEmpty, bound.version != version { try encodeMaps() }
    if forks { outputsAreApart = findsOutputsApart() }
    // Libraries look for kernels now, so that nothing is left to do when steps run.
    for call in 0..<program.calls.count where !program.calls[call].isLate {
      _ = try bound.call(call, program, engine.device)
    }
    forgetRunSymbols()
  }

  /// Whether a run with the same bindings as the last one needs no preparation.
  var isPrepared: Bool { bound.epoch == workspace.epoch(level) }

  /// Symbols that steps set are unknown before they do.
  func forgetRunSymbols() {
    if program.dims.shapeSymbolCount == program.dims.symbolCount { return }
    for symbol in program.dims.shapeSymbolCount..<program.dims.symbolCount {
      bound.values[symbol] = DimProgram.unknown
    }
    program.dims.evaluateLate(into: bound.values)
  }

  private func takeObjects() {
    for index in 0..<bindings.inputs.count where bindings.inputs[index].isObject {
      objects[program.plan.inputs[index].slot] = bindings.inputs[index].object
    }
  }

  private func selectBoundPlan() throws(RunError) {
    if level == .model {
      takeSizes()
      fillUpSizes()
    }
    runCount += 1
    for position in 0..<boundPlans.count where boundPlans[position].key == key {
      boundPlans[position].lastUse = runCount
      bound = boundPlans[position].plan
      return
    }
    let limit = engine.device.memoryByteCount
    let plan =
      level == .piece
      ? try BoundPlan(piece: program, symbols: key, memoryLimit: limit, ceiling: ceiling)
      : try BoundPlan(program, shapes: program.shapes(of: key), memoryLimit: limit, ceiling: ceiling)
    if boundPlans.count >= Self.boundPlanLimit,
      let oldest = boundPlans.indices.min(by: { boundPlans[$0].lastUse < boundPlans[$1].lastUse })
    {
      // Its recordings may be queued.
      stream.drain()
      boundPlans.remove(at: oldest)
    }
    // A copy of its own, so that the key can be set in place later.
    boundPlans.append((key.map { $0 }, plan, runCount))
    boundPlanCount += 1
    bound = plan
  }

  /// The time that a run with the shapes bound should take; nil when nothing was measured.
  func predictedSeconds() throws(RunError) -> Double? {
    if program.plan.timings.isEmpty { return nil }
    try selectBoundPlan()
    return program.plan.timings.seconds(forWork: bound.work)
  }

  private func takeSizes() {
    var position = 0
    for input in 0..<bindings.inputs.count {
      for size in 0..<bindings.inputs[input].sizes.count {
        key[position] = bindings.inputs[input].sizes[size]
        position += 1
      }
    }
  }

  private func prepareMemory() throws(RunError) {
    switch level {
    case .model: try workspace.reserve(bound.need)
    case .piece:
      try workspace.reserveArena(.piece, bound.arena.byteCount)
      try workspace.reserveScratch(bound.scratchByteCount)
    }
  }
}
