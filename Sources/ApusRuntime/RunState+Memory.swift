import ApusCore
import ApusPlan

/// Memory of inputs and outputs.
extension RunState {
  /// Makes room on the device for copies of inputs.
  func prepareMirrors() throws(RunError) {
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

  func prepareOutput(_ index: Int) throws(RunError) {
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
  func makeStorage(_ index: Int, byteCount: Int) throws(RunError) -> HostStorage {
    if !isElsewhere || bindings.outputs[index].isRetained || byteCount > Self.pinnedLimit {
      return HostStorage(byteCount: byteCount)
    }
    do {
      let buffer = try engine.device.allocatePinned(byteCount: byteCount)
      return HostStorage(borrowing: buffer.bytes.baseAddress ?? nothing.base, byteCount: byteCount, owner: buffer)
    } catch { throw RunError(device: error).at("output '\(program.plan.outputs[index].name)'") }
  }

  static let pinnedLimit = 64 << 20

  /// Gives an output that does not go to the device's memory a place there, keeping its first `kept` bytes.
  func ensureMirror(_ index: Int, byteCount: Int, keeping kept: Int = 0) throws(RunError) {
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
