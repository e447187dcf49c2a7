public import ApusCore
import ApusPlan

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The memory and state of one run at a time of an ``Engine``. Used by one thread at a time; make one per thread.
///
/// Inputs and outputs are either passed by value to ``run(inputs:)``, or bound to the caller's memory once, after which
/// ``run()`` neither copies nor allocates.
public struct ExecutionContext: ~Copyable {
  let state: ContextState
  private let printsSteps = Knob.debug.level >= 2

  init(state: ContextState) {
    self.state = state
    if printsSteps { state.profilers = state.engine.plans.map { LayerProfiler(plan: $0) } }
  }

  public var engine: Engine { state.engine }

  /// The profile, by position, that the last run used.
  public var activeProfile: Int { state.active }

  private var bindings: Bindings { state.bindings }

  // MARK: By value

  /// Runs on inputs by name. Inputs that are bound may be left out.
  ///
  /// - Parameter profile: the profile to run; nil for what ``Engine/withProfile(_:_:)`` says, else the first.
  /// - Returns: the outputs by name. A tensor stays valid and unchanged after later runs.
  /// - Throws: ``RunError`` with every problem of the inputs, or what failed while running.
  public func run(
    inputs: [String: HostValue], profile: ProfileSelection? = nil
  ) throws(RunError) -> [String: HostValue] {
    var problems: [Diagnostic] = []
    for name in inputs.keys.sorted() where bindings.inputIndex(name) == nil {
      problems.append(RunError.unknownInput(name, bindings.plan))
    }
    let given = bindings.plan.inputs.map { inputs[$0.name] }
    let results = try run(given, problems, profile)
    var named: [String: HostValue] = [:]
    for (output, value) in zip(bindings.plan.outputs, results) { named[output.name] = value }
    return named
  }

  /// Runs on tensors by name.
  public func run(
    inputs: [String: HostTensor], profile: ProfileSelection? = nil
  ) throws(RunError) -> [String: HostValue] {
    try run(inputs: inputs.mapValues { HostValue.tensor($0) }, profile: profile)
  }

  /// Runs on inputs in the order of the model's inputs and gives the outputs in theirs.
  public func run(ordered inputs: [HostValue], profile: ProfileSelection? = nil) throws(RunError) -> [HostValue] {
    let count = bindings.inputs.count
    if inputs.count > count {
      throw RunError("APUS-R-0002", "\(inputs.count) inputs are given, the model has \(count)", place: "inputs")
    }
    return try run(inputs.map { $0 } + [HostValue?](repeating: nil, count: count - inputs.count), [], profile)
  }

  private func run(
    _ given: [HostValue?], _ earlier: [Diagnostic], _ profile: ProfileSelection?
  ) throws(RunError) -> [HostValue] {
    var problems = earlier
    let kept = bindings.inputs
    for (index, value) in given.enumerated() {
      guard let value else {
        if !bindings.inputs[index].isGiven { problems.append(RunError.missingInput(bindings.plan.inputs[index])) }
        continue
      }
      if let problem = bindings.give(value, to: index) { problems.append(problem) }
    }
    defer {
      // What was bound before stays bound; what was passed by value is let go.
      bindings.inputs = kept
      bindings.noteChange()
    }
    if !problems.isEmpty { throw RunError(problems: problems) }
    try run(profile: profile)
    var results: [HostValue] = []
    for index in bindings.outputs.indices { results.append(try bindings.result(index)) }
    return results
  }

  // MARK: Bound

  /// Binds an input to a value, which later runs use until another is bound.
  ///
  /// - Throws: ``RunError`` when name, element type or number of axes do not fit; sizes are checked by ``run()``.
  public func bind(input name: String, to value: HostValue) throws(RunError) {
    let index = try bindings.requireInput(name)
    if let problem = bindings.give(value, to: index) { throw RunError(problem) }
  }

  public func bind(input name: String, to tensor: HostTensor) throws(RunError) {
    try bind(input: name, to: .tensor(tensor))
  }

  /// Binds an input to the caller's memory, which must stay valid and unchanged during runs. Nothing is copied. Elements
  /// that decide sizes are read at the start of each run.
  ///
  /// - Throws: ``RunError`` when the memory is too small or not aligned to an element.
  public func bind(input name: String, to memory: UnsafeRawBufferPointer, shape: [Int]) throws(RunError) {
    try bindings.bind(input: try bindings.requireInput(name), memory, shape)
  }

  /// Binds an output to the caller's memory, which must stay valid during runs. Nothing is copied.
  public func bind(output name: String, to memory: UnsafeMutableRawBufferPointer) throws(RunError) {
    try bindings.bind(output: try bindings.requireOutput(name), memory)
  }

  /// Binds an input to memory of the engine's device, which must hold it during runs. Nothing is copied.
  ///
  /// - Throws: ``RunError`` as ``bind(input:to:shape:)``, and `APUS-R-0025` when the input's elements decide sizes, which the
  ///   host must read.
  public func bind(input name: String, to buffer: DeviceBuffer, shape: [Int]) throws(RunError) {
    let index = try bindings.requireInput(name)
    if bindings.inputs[index].valueCount > 0, !engine.device.sharesHostMemory {
      throw RunError(
        "APUS-R-0025", "its elements decide sizes, so the host must be able to read them", place: "input '\(name)'",
        hint: "Bind it to memory of the host.")
    }
    try bindings.bind(input: index, UnsafeRawBufferPointer(start: buffer.base, count: buffer.byteCount), shape)
    bindings.inputs[index].isOnDevice = true
    bindings.inputs[index].owner = buffer
  }

  /// Binds an output to memory of the engine's device.
  public func bind(output name: String, to buffer: DeviceBuffer) throws(RunError) {
    let index = try bindings.requireOutput(name)
    try bindings.bind(output: index, UnsafeMutableRawBufferPointer(start: buffer.base, count: buffer.byteCount))
    bindings.outputs[index].isOnDevice = true
    bindings.outputs[index].owner = buffer
  }

  /// Sets the working memory of a context whose strategy is ``MemoryStrategy/userManaged``; it must stay valid during runs
  /// and be aligned to 64 bytes. Nil takes it away.
  ///
  /// - Throws: ``RunError`` `APUS-R-0022` when the context has another strategy, `APUS-R-0011` for bad alignment.
  public func use(workspace memory: UnsafeMutableRawBufferPointer?) throws(RunError) {
    guard state.workspace.strategy == .userManaged else {
      throw RunError(
        "APUS-R-0022", "the context provides its own memory", place: "the workspace",
        hint: "Make the context with memory: .userManaged.")
    }
    if let base = memory?.baseAddress, Int(bitPattern: base) % WorkspaceNeed.alignment != 0 {
      throw RunError.misaligned("the workspace", alignment: WorkspaceNeed.alignment)
    }
    state.workspace.use(memory)
  }

  /// Lets go of an output's memory: later runs use memory of the context.
  public func unbind(output name: String) throws(RunError) {
    let index = try bindings.requireOutput(name)
    bindings.outputs[index].callerMemory = nil
    bindings.outputs[index].isOnDevice = false
    bindings.outputs[index].owner = nil
    bindings.noteChange()
  }

  /// Runs on what is bound. Once shapes have been seen, it allocates nothing unless a host operation does.
  ///
  /// - Parameter profile: the profile to run; nil for what ``Engine/withProfile(_:_:)`` says, else the first.
  public func run(profile: ProfileSelection? = nil) throws(RunError) {
    try state.run(profile)
    if printsSteps, let profiler = state.profilers[state.active] { printError(profiler.lastRun) }
  }

  /// An output of the last run.
  public func output(_ name: String) throws(RunError) -> HostValue {
    try bindings.result(try bindings.requireOutput(name))
  }

  /// The shape that an output had in the last run.
  public func outputShape(_ name: String) throws(RunError) -> [Int] {
    let index = try bindings.requireOutput(name)
    if bindings.outputs[index].isObject { return try bindings.result(index).tensor?.shape ?? [] }
    return bindings.outputs[index].shape
  }

  // MARK: Insight

  /// Times the steps of later runs of the profile at `profile`; nil turns it off.
  public func time(_ profile: Int = 0, with profiler: LayerProfiler?) { state.profilers[profile] = profiler }

  /// Writes down the shapes of later runs that succeed; nil turns it off.
  public func record(to log: ShapeLog?) { state.shapeLog = log }

  /// Bytes of memory that the context has allocated and holds now, results aside.
  public var heldByteCount: Int { state.heldByteCount }
}

/// Writes a line to the standard error stream.
private func printError(_ text: String) {
  let bytes = Array((text + "\n").utf8)
  _ = write(STDERR_FILENO, bytes, bytes.count)
}
