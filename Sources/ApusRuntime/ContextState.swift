import ApusCore
import ApusPlan
import Dispatch

/// All that changes while a context works: bindings, memory, and one prepared state for each profile that has run.
final class ContextState {
  let engine: Engine
  let bindings: Bindings
  let workspace: Workspace
  let stream: any DeviceStream
  private var states: [RunState?]
  /// The profile that ran last.
  private(set) var active = 0
  /// The state that ran last, whether that went well or not.
  private(set) var current: RunState?
  /// What times the steps of each profile.
  var profilers: [LayerProfiler?] { didSet { last = nil } }
  /// Where the shapes that run are written down.
  var shapeLog: ShapeLog?
  /// Room for the symbols of any profile while one is chosen.
  private let symbols: UnsafeMutablePointer<Int>

  /// The profile that memory is reserved for, and what each needs, where the strategy asks for that.
  private var reserved: Int?
  private var ceilings: [MemoryCeiling?]
  private let captures: Bool
  /// What the last run was asked for and had bound: as long as both stay, the next one has nothing to prepare.
  private var last: (selection: ProfileSelection, changeCount: Int, state: RunState, whole: (any CapturedWork)?)?

  let failure = ContextFailure()
  /// Where completions run, one after the other.
  private(set) lazy var completions = DispatchQueue(label: "apus.completions")

  /// - Parameter given: a stream to queue runs on; nil for one of the context's own.
  init(
    engine: Engine, memory: MemoryStrategy, captures: Bool, given: (any DeviceStream)?, _ priority: StreamPriority,
    _ timeLimit: Duration?
  ) throws(RunError) {
    self.engine = engine
    self.captures = captures
    bindings = Bindings(plan: engine.plans[0])
    if let given {
      stream = given
    } else {
      do { stream = try engine.device.makeStream(priority: priority) } catch { throw RunError(device: error) }
    }
    if let timeLimit { stream.timeLimit = timeLimit }
    workspace = Workspace(device: engine.device, strategy: memory, stream: stream)
    ceilings = try Self.ceilings(engine, memory)
    states = [RunState?](repeating: nil, count: engine.plans.count)
    profilers = [LayerProfiler?](repeating: nil, count: engine.plans.count)
    let count = engine.variants.map { $0.program.dims.symbolCount }.max() ?? 0
    symbols = .allocate(capacity: max(count, 1))
    symbols.initialize(repeating: DimProgram.unknown, count: max(count, 1))
    if memory == .static {
      try workspace.allocateBlock(for: ceilings.reduce(WorkspaceNeed()) { $0.union($1?.need ?? WorkspaceNeed()) })
    }
  }

  private static func ceilings(_ engine: Engine, _ memory: MemoryStrategy) throws(RunError) -> [MemoryCeiling?] {
    var ceilings: [MemoryCeiling?] = []
    for variant in engine.variants {
      // The caller's memory may be for certain shapes only: sizes without limit are no problem then.
      switch memory {
      case .asNeeded: ceilings.append(nil)
      case .userManaged: ceilings.append(try? MemoryCeiling(variant.program))
      case .static, .onProfileChange: ceilings.append(try MemoryCeiling(variant.program))
      }
    }
    return ceilings
  }

  deinit {
    // Queued work uses the memory that goes with this.
    stream.drain()
    symbols.deallocate()
    guard stream.isGivenUp else { return }
    // What may never end goes on using its memory, and its code.
    _ = Unmanaged.passRetained(workspace)
    _ = Unmanaged.passRetained(bindings)
    for state in states { if let state { _ = Unmanaged.passRetained(state) } }
  }

  /// Runs the profile that is asked for on what is bound.
  ///
  /// - Parameter waits: whether to return when the results are there, and not as soon as all is queued.
  func run(_ selection: ProfileSelection?, waits: Bool = true) throws(RunError) {
    try failure.check()
    let selection = selection ?? ProfileSelection.pinned(for: engine) ?? .index(0)
    if let last, last.changeCount == bindings.changeCount, last.selection == selection, last.state.isPrepared {
      if let whole = last.whole, shapeLog == nil {
        last.state.launch(whole: whole)
        if !waits { return }
        do { return try last.state.finishRun() } catch { throw failed(error) }
      }
      self.last = nil
      do throws(RunError) {
        try last.state.enqueueAll(isReady: true)
        if waits { try last.state.finishRun() }
      } catch { throw failed(error) }
      self.last = (selection, bindings.changeCount, last.state, last.state.wholeRun)
      shapeLog?.record(bindings)
      return
    }
    last = nil
    try bindings.requireInputs()
    bindings.takeSizes()
    let index = try select(selection)
    let state = try state(index)
    current = state
    state.profiler = profilers[index]
    // Times are read when a run is done.
    let waits = waits || profilers[index] != nil
    if workspace.strategy == .onProfileChange, reserved != index, let need = ceilings[index]?.need {
      reserved = nil
      try workspace.allocateBlock(for: need)
      reserved = index
    }
    do throws(RunError) {
      try state.enqueueAll()
      if waits { try state.finishRun() }
    } catch {
      let error = failed(error)
      throw engine.plans.count == 1 || fits(index) ? error : error.offering(engine.plans)
    }
    active = index
    // Elements that decide sizes are the caller's to change between runs.
    if !bindings.readsElements, profilers[index] == nil {
      last = (selection, bindings.changeCount, state, state.wholeRun)
    }
    shapeLog?.record(bindings)
  }

  /// Bytes of memory the context holds, results aside.
  var heldByteCount: Int {
    var count = workspace.byteCount
    for state in states { count += state?.heldByteCount ?? 0 }
    return count
  }

  /// How many plans were bound so far, over all profiles.
  var boundPlanCount: Int { states.reduce(0) { $0 + ($1?.boundPlanCount ?? 0) } }

  private func state(_ index: Int) throws(RunError) -> RunState {
    if let state = states[index] { return state }
    let state = try RunState(
      engine: engine, engine.variants[index], bindings, workspace, stream, captures: captures,
      ceiling: ceilings[index])
    states[index] = state
    return state
  }
}

// MARK: Choosing a profile

extension ContextState {
  private func select(_ selection: ProfileSelection) throws(RunError) -> Int {
    if !selection.dependsOnShapes { return try engine.index(of: selection) }
    if selection == .fastest {
      if let index = try fastest() { return index }
    } else {
      for index in 0..<engine.plans.count where fits(index) { return index }
    }
    var shapes: [String: [Int]] = [:]
    var values: [String: [Int]] = [:]
    for (index, input) in bindings.inputs.enumerated() where !input.isObject {
      let name = bindings.plan.inputs[index].name
      shapes[name] = input.shape
      if input.valueCount > 0 { values[name] = Array(input.sizes.suffix(input.valueCount)) }
    }
    throw RunError.noProfileFits(shapes, values: values, engine.plans)
  }

  /// The profile of least predicted time among those that fit; nil when none fits.
  ///
  /// - Throws: ``RunError`` `APUS-R-0021` when nothing was measured.
  private func fastest() throws(RunError) -> Int? {
    var best: (index: Int, seconds: Double)?
    var fitting = 0
    for index in 0..<engine.plans.count where fits(index) {
      fitting += 1
      guard let seconds = try state(index).predictedSeconds() else { continue }
      if best.map({ seconds < $0.seconds }) ?? true { best = (index, seconds) }
    }
    if fitting == 1, best == nil { return (0..<engine.plans.count).first(where: fits) }
    if fitting > 0, best == nil {
      throw RunError(
        "APUS-R-0021", "the engine has no measured times to tell the fastest profile by", place: "profile",
        hint: "Build it on the machine that runs it, or choose by index, name or auto.")
    }
    return best?.index
  }

  /// Whether a profile holds the shapes that are bound. Allocates nothing.
  private func fits(_ index: Int) -> Bool {
    let program = engine.variants[index].program
    for symbol in 0..<program.dims.symbolCount { symbols[symbol] = DimProgram.unknown }
    // Axes that are more than one symbol wait until the others have said what they can.
    for pass in 0..<2 {
      for input in 0..<program.inputAxes.count where !bindings.inputs[input].isObject {
        for axis in 0..<program.inputAxes[input].count {
          let size = bindings.inputs[input].sizes[axis]
          switch program.inputAxes[input][axis] {
          case .constant(let expected): if size != expected { return false }
          case .symbol(let node):
            if symbols[node] == DimProgram.unknown { symbols[node] = size }
            if symbols[node] != size || !program.plan.shapeSymbols[node].range.contains(size) { return false }
          case .linear(let symbol, let coefficient, let constant, _):
            guard pass == 1 else { continue }
            if symbols[symbol] == DimProgram.unknown {
              symbols[symbol] = saturatingFloorDivide(saturatingAdd(size, -constant), coefficient)
              if !program.plan.shapeSymbols[symbol].range.contains(symbols[symbol]) { return false }
            }
            if saturatingAdd(saturatingMultiply(symbols[symbol], coefficient), constant) != size { return false }
          case .computed: continue
          }
        }
      }
    }
    return true
  }
}
