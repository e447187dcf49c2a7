import ApusCore
import ApusPlan

/// Where slots are.
extension RunState {
  /// Where the memory of a slot that is no view is now; nil when it has none yet.
  func rootAddress(_ slot: Int) -> UnsafeMutableRawPointer? {
    switch program.slots[slot].storage {
    case .input(let index): return inputAddress(index)
    case .output(let index): return outputAddress(index)
    case .constant(let offset): return UnsafeMutableRawPointer(mutating: engine.constants + offset)
    case .arena: return workspace.arena(level).map { $0 + bound.arenaOffsets[slot] }
    case .grown: return grown[slot]?.base
    case .view, .object: return nil
    }
  }

  func inputAddress(_ index: Int) -> UnsafeMutableRawPointer? {
    if readsCopy(ofInput: index) { return bindings.inputMirrors[index]?.base }
    return bindings.inputs[index].address.map { UnsafeMutableRawPointer(mutating: $0) }
  }

  /// Where steps write an output.
  func outputAddress(_ index: Int) -> UnsafeMutableRawPointer? {
    if writesCopy(ofOutput: index) { return bindings.outputMirrors[index]?.base }
    return bindings.outputs[index].address
  }

  func resolveAll() {
    for slot in program.viewOrder { resolve(slot) }
    for launch in program.launches where !launch.isLate { resolveBuffers(launch.firstBuffer, launch.bufferCount) }
    for call in program.calls where !call.isLate { resolveBuffers(call.firstBuffer, call.call.buffers.count) }
    bound.epoch = workspace.epoch(level)
    bound.version += 1
  }

  /// Whether no output shares bytes with another or with an input.
  func findsOutputsApart() -> Bool {
    for output in program.externalSlots {
      guard case .output = program.slots[output].storage, let start = bound.addresses[output] else { continue }
      let end = start + max(bound.byteCounts[output], 0)
      for slot in program.externalSlots where slot != output {
        guard let other = bound.addresses[slot], bound.byteCounts[slot] > 0 else { continue }
        if start < other + bound.byteCounts[slot], other < end { return false }
      }
    }
    return true
  }

  func encodeMaps() throws(RunError) {
    for launch in program.launches where !launch.isLate && launch.mapCount > 0 {
      do { try bound.encodeMaps(launch, program, engine.device) } catch {
        throw RunError(device: error).at("step \(launch.step)")
      }
    }
  }

  func resolve(_ slot: Int) {
    let record = program.slots[slot]
    if record.isObject || record.isLate { return }
    if case .view(let viewed, _) = record.storage {
      bound.addresses[slot] = (bound.addresses[viewed] ?? nothing.base) + bound.values[record.viewOffset]
    } else {
      bound.addresses[slot] = bound.byteCounts[slot] == 0 ? nothing.base : rootAddress(slot) ?? nothing.base
    }
  }

  func resolveBuffers(_ first: Int, _ count: Int) {
    for position in first..<first + count {
      bound.buffers[position] = bound.addresses[program.launchSlots[position]]
    }
  }

  /// Brings addresses up to date when inputs or outputs moved since the bound plan was last used.
  func refreshExternals() {
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

  func ensure(_ slot: Int, byteCount: Int) throws(RunError) {
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
