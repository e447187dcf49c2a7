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
  /// 64 bytes that stand for the memory of empty tensors.
  private let nothing: DeviceBuffer
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

  /// Makes room on the device for copies of inputs.
  private func prepareMirrors() throws(RunError) {
    for index in 0..<bindings.inputs.count where !bindings.inputs[index].isObject && readsCopy(ofInput: index) {
      let needed = bound.byteCounts[program.plan.inputs[index].slot]
      if let mirror = bindings.inputMirrors[index], mirror.byteCount >= needed { continue }
      stream.drain()
      bindings.inputMirrors[index] = nil
      bindings.inputMirrors[index] = try workspace.allocate(needed, "input '\(program.plan.inputs[index].name)'")
    }
  }

  /// Queues copies of the inputs that steps do not read in place; rows that are added are of zeros.
  func uploadInputs() {
    for index in 0..<bindings.inputs.count where readsCopy(ofInput: index) && program.readsInput[index] {
      let byteCount = bound.byteCounts[program.plan.inputs[index].slot]
      guard byteCount > 0, let source = bindings.inputs[index].address, let mirror = bindings.inputMirrors[index]
      else { continue }
      let given = rows(ofInput: index).given(of: byteCount)
      if isElsewhere, !bindings.inputs[index].isOnDevice {
        stream.upload(from: source, to: mirror.base, byteCount: given)
      } else {
        stream.copy(from: source, to: mirror.base, byteCount: given)
      }
      if given < byteCount { stream.fill(mirror.base + given, with: 0, byteCount: byteCount - given) }
    }
  }

  /// Bytes of memory that the state holds of its own.
  var heldByteCount: Int {
    pieces.reduce(grown.reduce(0) { $0 + ($1?.byteCount ?? 0) }) { $0 + $1.heldByteCount }
  }

  private func prepareOutput(_ index: Int) throws(RunError) {
    let record = program.outputs[index]
    if record.isObject || program.slots[record.slot].isLate { return }
    try ensureOutput(index, byteCount: bound.byteCounts[record.slot])
  }

  /// Gives an output memory for `byteCount` computed bytes: the caller's, or our own that no earlier result still uses.
  func ensureOutput(_ index: Int, byteCount computed: Int) throws(RunError) {
    try ensureMirror(index, byteCount: computed)
    let byteCount = rows(ofOutput: index).given(of: computed)
    bindings.outputs[index].byteCount = byteCount
    if let memory = bindings.outputs[index].callerMemory {
      if memory.count < byteCount {
        throw RunError.smallMemory(
          "output '\(program.plan.outputs[index].name)'", found: memory.count, needed: byteCount)
      }
      return
    }
    // What a piece gives stays on the device.
    if isElsewhere, level == .piece { return }
    if let storage = bindings.outputs[index].storage, storage.byteCount >= byteCount { return }
    let limit = engine.device.memoryByteCount
    if byteCount > limit {
      throw RunError.tooLarge(byteCount, "output '\(program.plan.outputs[index].name)'", limit: limit)
    }
    bindings.outputs[index].storage = try makeStorage(index, byteCount: byteCount)
  }

  /// Memory of the host for an output: pinned where the device is elsewhere, but not for results that callers keep, of which
  /// there may be many, nor for very large ones.
  private func makeStorage(_ index: Int, byteCount: Int) throws(RunError) -> HostStorage {
    if !isElsewhere || bindings.outputs[index].isRetained || byteCount > Self.pinnedLimit {
      return HostStorage(byteCount: byteCount)
    }
    do {
      let buffer = try engine.device.allocatePinned(byteCount: byteCount)
      return HostStorage(borrowing: buffer.bytes.baseAddress ?? nothing.base, byteCount: byteCount, owner: buffer)
    } catch { throw RunError(device: error).at("output '\(program.plan.outputs[index].name)'") }
  }

  private static let pinnedLimit = 64 << 20

  /// Gives an output that does not go to the device's memory a place there, keeping its first `kept` bytes.
  private func ensureMirror(_ index: Int, byteCount: Int, keeping kept: Int = 0) throws(RunError) {
    if !writesCopy(ofOutput: index) { return }
    let old = bindings.outputMirrors[index]
    if let old, old.byteCount >= byteCount { return }
    stream.drain()
    if kept == 0 { bindings.outputMirrors[index] = nil }
    let mirror = try workspace.allocate(byteCount, "output '\(program.plan.outputs[index].name)'")
    if kept > 0, let old { stream.copy(from: old.base, to: mirror.base, byteCount: kept) }
    bindings.outputMirrors[index] = mirror
  }

  /// Makes the memory of an output larger while steps are filling it.
  func growOutput(_ index: Int, to needed: Int, likely: Int, keeping used: Int) throws(RunError) {
    if isElsewhere {
      if !bindings.outputs[index].isOnDevice, bindings.outputMirrors[index]?.byteCount ?? 0 < needed {
        try ensureMirror(index, byteCount: likely, keeping: used)
      }
      return try ensureOutput(index, byteCount: needed)
    }
    if bindings.outputs[index].callerMemory != nil { return try ensureOutput(index, byteCount: needed) }
    let old = bindings.outputs[index].storage
    if let old, old.byteCount >= needed { return }
    try ensureOutput(index, byteCount: likely)
    if used > 0, let old, let new = bindings.outputs[index].storage {
      stream.copy(from: old.base, to: new.base, byteCount: used)
    }
  }

  /// Lets go of results that the caller still holds, so that this run does not write into them; whether there were any.
  @discardableResult
  func detachOutputs() -> Bool {
    var wereHeld = false
    for index in 0..<bindings.outputs.count where bindings.outputs[index].storage != nil {
      if isKnownUniquelyReferenced(&bindings.outputs[index].storage) { continue }
      bindings.outputs[index].storage = nil
      bindings.outputs[index].isRetained = true
      wereHeld = true
    }
    return wereHeld
  }
}

// MARK: Addresses

extension RunState {
  /// Where the memory of a slot that is no view is now; nil when it has none yet.
  private func rootAddress(_ slot: Int) -> UnsafeMutableRawPointer? {
    switch program.slots[slot].storage {
    case .input(let index): return inputAddress(index)
    case .output(let index): return outputAddress(index)
    case .constant(let offset): return UnsafeMutableRawPointer(mutating: engine.constants + offset)
    case .arena: return workspace.arena(level).map { $0 + bound.arenaOffsets[slot] }
    case .grown: return grown[slot]?.base
    case .view, .object: return nil
    }
  }

  private func inputAddress(_ index: Int) -> UnsafeMutableRawPointer? {
    if readsCopy(ofInput: index) { return bindings.inputMirrors[index]?.base }
    return bindings.inputs[index].address.map { UnsafeMutableRawPointer(mutating: $0) }
  }

  /// Where steps write an output.
  func outputAddress(_ index: Int) -> UnsafeMutableRawPointer? {
    if writesCopy(ofOutput: index) { return bindings.outputMirrors[index]?.base }
    return bindings.outputs[index].address
  }

  private func resolveAll() {
    for slot in program.viewOrder { resolve(slot) }
    for launch in program.launches where !launch.isLate { resolveBuffers(launch.firstBuffer, launch.bufferCount) }
    for call in program.calls where !call.isLate { resolveBuffers(call.firstBuffer, call.call.buffers.count) }
    bound.epoch = workspace.epoch(level)
    bound.version += 1
  }

  private func encodeMaps() throws(RunError) {
    for launch in program.launches where !launch.isLate && launch.mapCount > 0 {
      do { try bound.encodeMaps(launch, program, engine.device) } catch {
        throw RunError(device: error).at("step \(launch.step)")
      }
    }
  }

  private func resolve(_ slot: Int) {
    let record = program.slots[slot]
    if record.isObject || record.isLate { return }
    if case .view(let viewed, _) = record.storage {
      bound.addresses[slot] = (bound.addresses[viewed] ?? nothing.base) + bound.values[record.viewOffset]
    } else {
      bound.addresses[slot] = bound.byteCounts[slot] == 0 ? nothing.base : rootAddress(slot) ?? nothing.base
    }
  }

  private func resolveBuffers(_ first: Int, _ count: Int) {
    for position in first..<first + count {
      bound.buffers[position] = bound.addresses[program.launchSlots[position]]
    }
  }

  /// Brings addresses up to date when inputs or outputs moved since the bound plan was last used.
  private func refreshExternals() {
    var moved = false
    // Loops over positions: these run at every call, and iterators of arrays may allocate in unoptimised builds.
    for position in 0..<program.externalSlots.count {
      let slot = program.externalSlots[position]
      if program.slots[slot].isLate { continue }
      let address = bound.byteCounts[slot] == 0 ? nothing.base : rootAddress(slot) ?? nothing.base
      if bound.addresses[slot] != address {
        bound.addresses[slot] = address
        moved = true
      }
    }
    if !moved { return }
    bound.version += 1
    for position in 0..<program.externalViews.count { resolve(program.externalViews[position]) }
    for position in 0..<program.externalBuffers.count {
      let buffer = program.externalBuffers[position]
      bound.buffers[buffer] = bound.addresses[program.launchSlots[buffer]]
    }
  }

  /// Address and size of a slot that holds bytes, its memory grown when that is due.
  func memory(of slot: Int) throws(RunError) -> UnsafeMutableRawBufferPointer {
    if program.slots[slot].isLate { try resolveLate(slot) }
    return UnsafeMutableRawBufferPointer(start: bound.addresses[slot], count: bound.byteCounts[slot])
  }

  /// Evaluates the size of a slot from the symbols in force and makes sure that it has memory.
  func resolveLate(_ slot: Int) throws(RunError) {
    let record = program.slots[slot]
    guard let byteCount = bound.byteCount(record) else {
      throw RunError.badSize(program, slot: slot, bound.values)
    }
    bound.byteCounts[slot] = byteCount
    guard case .view(let viewed, _) = record.storage else {
      try ensure(slot, byteCount: byteCount)
      bound.addresses[slot] = rootAddress(slot) ?? nothing.base
      return
    }
    let target = try memory(of: viewed)
    let offset = bound.values[record.viewOffset]
    if offset < 0 || saturatingAdd(offset, byteCount) > target.count {
      throw RunError.outsideView(program, slot: slot, offset: offset, byteCount, of: target.count)
    }
    bound.addresses[slot] = (target.baseAddress ?? nothing.base) + offset
  }

  private func ensure(_ slot: Int, byteCount: Int) throws(RunError) {
    switch program.slots[slot].storage {
    case .output(let index): try ensureOutput(index, byteCount: byteCount)
    case .grown: try grow(slot, to: byteCount, keeping: 0)
    case .input, .constant, .arena, .view, .object: break
    }
  }

  /// Makes a grown slot's buffer hold at least `byteCount` bytes, keeping its first `kept` bytes.
  func grow(_ slot: Int, to byteCount: Int, keeping kept: Int) throws(RunError) {
    if let buffer = grown[slot], buffer.byteCount >= byteCount { return }
    let larger = try workspace.allocate(byteCount, "slot '\(program.plan.slots[slot].name)'")
    if kept > 0, let buffer = grown[slot] { stream.copy(from: buffer.base, to: larger.base, byteCount: kept) }
    stream.drain()
    grown[slot] = larger
  }
}
