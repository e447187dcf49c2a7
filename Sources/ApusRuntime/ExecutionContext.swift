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
  let state: RunState

  init(state: RunState) {
    self.state = state
    if state.printsSteps { state.profiler = LayerProfiler(plan: state.engine.plan) }
  }

  public var engine: Engine { state.engine }

  // MARK: By value

  /// Runs on inputs by name. Inputs that are bound may be left out.
  ///
  /// - Returns: the outputs by name. A tensor stays valid and unchanged after later runs.
  /// - Throws: ``RunError`` with every problem of the inputs, or what failed while running.
  public func run(inputs: [String: HostValue]) throws(RunError) -> [String: HostValue] {
    var problems: [Diagnostic] = []
    for name in inputs.keys.sorted() where state.inputIndex(name) == nil {
      problems.append(RunError.unknownInput(name, engine.plan))
    }
    let given = engine.plan.inputs.map { inputs[$0.name] }
    let results = try run(given, problems)
    var named: [String: HostValue] = [:]
    for (output, value) in zip(engine.plan.outputs, results) { named[output.name] = value }
    return named
  }

  /// Runs on tensors by name.
  public func run(inputs: [String: HostTensor]) throws(RunError) -> [String: HostValue] {
    try run(inputs: inputs.mapValues { HostValue.tensor($0) })
  }

  /// Runs on inputs in the order of the model's inputs and gives the outputs in theirs.
  public func run(ordered inputs: [HostValue]) throws(RunError) -> [HostValue] {
    let count = engine.plan.inputs.count
    if inputs.count > count {
      throw RunError("APUS-R-0002", "\(inputs.count) inputs are given, the model has \(count)", place: "inputs")
    }
    return try run(inputs.map { $0 } + [HostValue?](repeating: nil, count: count - inputs.count), [])
  }

  private func run(_ given: [HostValue?], _ earlier: [Diagnostic]) throws(RunError) -> [HostValue] {
    var problems = earlier
    let kept = state.inputs
    let keptObjects = state.objects
    for (index, value) in given.enumerated() {
      guard let value else {
        if !state.inputs[index].isGiven { problems.append(RunError.missingInput(engine.plan.inputs[index])) }
        continue
      }
      if let problem = state.give(value, to: index) { problems.append(problem) }
    }
    defer {
      // What was bound before stays bound; what was passed by value is let go.
      state.inputs = kept
      for input in engine.plan.inputs { state.objects[input.slot] = keptObjects[input.slot] }
    }
    if !problems.isEmpty { throw RunError(problems: problems) }
    try run()
    var results: [HostValue] = []
    for index in engine.plan.outputs.indices { results.append(try state.result(index)) }
    return results
  }

  // MARK: Bound

  /// Binds an input to a value, which later runs use until another is bound.
  ///
  /// - Throws: ``RunError`` when name, element type or number of axes do not fit; sizes are checked by ``run()``.
  public func bind(input name: String, to value: HostValue) throws(RunError) {
    let index = try state.requireInput(name)
    if let problem = state.give(value, to: index) { throw RunError(problem) }
  }

  public func bind(input name: String, to tensor: HostTensor) throws(RunError) {
    try bind(input: name, to: .tensor(tensor))
  }

  /// Binds an input to the caller's memory, which must stay valid and unchanged during runs. Nothing is copied.
  ///
  /// - Throws: ``RunError`` when the memory is too small or not aligned to an element.
  public func bind(input name: String, to memory: UnsafeRawBufferPointer, shape: [Int]) throws(RunError) {
    try state.bind(input: try state.requireInput(name), memory, shape)
  }

  /// Binds an output to the caller's memory, which must stay valid during runs. Nothing is copied.
  public func bind(output name: String, to memory: UnsafeMutableRawBufferPointer) throws(RunError) {
    try state.bind(output: try state.requireOutput(name), memory)
  }

  /// Lets go of an output's memory: later runs use memory of the context.
  public func unbind(output name: String) throws(RunError) {
    state.outputs[try state.requireOutput(name)].callerMemory = nil
  }

  /// Runs on what is bound. Once shapes have been seen, it allocates nothing unless a host operation does.
  public func run() throws(RunError) {
    try state.runAll()
    if state.printsSteps, let profiler = state.profiler { printError(profiler.lastRun) }
  }

  /// An output of the last run.
  public func output(_ name: String) throws(RunError) -> HostValue { try state.result(try state.requireOutput(name)) }

  /// The shape that an output had in the last run.
  public func outputShape(_ name: String) throws(RunError) -> [Int] {
    let index = try state.requireOutput(name)
    if program.outputs[index].isObject { return try state.result(index).tensor?.shape ?? [] }
    return state.outputs[index].shape
  }

  // MARK: Insight

  private var program: Program { state.program }

  /// Times the steps of later runs; nil turns it off.
  public func profile(with profiler: LayerProfiler?) { state.profiler = profiler }

  /// Bytes of the arena and scratch that the context holds now.
  public var heldByteCount: Int { state.heldByteCount }
}

/// Writes a line to the standard error stream.
private func printError(_ text: String) {
  let bytes = Array((text + "\n").utf8)
  _ = write(STDERR_FILENO, bytes, bytes.count)
}
