import ApusCore
import ApusPlan

extension RunState {
  /// Runs a piece on the slots it names; the sizes that it finds are known afterwards.
  func runPiece(_ index: Int, step: Int) throws(RunError) {
    let piece = pieces[index]
    piece.profiler = profiler
    piece.firstStep = firstStep + step + 1
    do {
      try lendMemory(index, to: piece)
      try piece.prepare(bound.pieces[index])
      try checkInputs(index, of: piece)
      try piece.runSteps()
      try takeResults(index, from: piece, step: step)
    } catch { throw error.at("piece '\(piece.program.plan.name)'") }
  }

  /// Hands the piece its symbols where it is bound by them, its inputs, and memory for those outputs whose sizes are known before it runs.
  private func lendMemory(_ index: Int, to piece: RunState) throws(RunError) {
    for symbol in 0..<program.pieces[index].symbolNodes.count where bound.pieces[index] == nil {
      piece.key[symbol] = bound.values[program.pieces[index].symbolNodes[symbol]]
    }
    for position in 0..<program.pieces[index].inputs.count {
      let slot = program.pieces[index].inputs[position]
      if program.slots[slot].isObject {
        piece.bindings.inputs[position].object = try object(in: slot)
      } else {
        piece.bindings.inputs[position].address = UnsafeRawPointer(try memory(of: slot).baseAddress)
        piece.bindings.inputs[position].isOnDevice = true
      }
    }
    for position in 0..<program.pieces[index].outputs.count {
      let slot = program.pieces[index].outputs[position]
      if program.slots[slot].isObject || piece.isLate(output: position) { continue }
      piece.bindings.outputs[position].callerMemory = try memory(of: slot)
      piece.bindings.outputs[position].isOnDevice = true
    }
  }

  private func isLate(output: Int) -> Bool { program.slots[program.outputs[output].slot].isLate }

  /// Both sides of a cut must agree on sizes.
  private func checkInputs(_ index: Int, of piece: RunState) throws(RunError) {
    for position in 0..<program.pieces[index].inputs.count {
      let (slot, inner) = (program.pieces[index].inputs[position], piece.program.plan.inputs[position].slot)
      if program.slots[slot].isObject { continue }
      let (given, needed) = (bound.byteCounts[slot], piece.bound.byteCounts[inner])
      if given != needed {
        throw RunError(
          "APUS-R-0017", "\(given) bytes are given, \(needed) are needed",
          place: "input '\(piece.program.plan.inputs[position].name)'")
      }
    }
  }

  private func takeResults(_ index: Int, from piece: RunState, step: Int) throws(RunError) {
    if !program.pieces[index].bound.isEmpty {
      for symbol in 0..<program.pieces[index].bound.count {
        let pair = program.pieces[index].bound[symbol]
        try set(pair.outer, to: piece.bound.values[pair.inner], step: step)
      }
      program.dims.evaluateLate(into: bound.values)
    }
    for position in 0..<program.pieces[index].outputs.count {
      let slot = program.pieces[index].outputs[position]
      if program.slots[slot].isObject {
        objects[slot] = piece.bindings.outputs[position].object
      } else if piece.isLate(output: position) {
        let target = try memory(of: slot)
        let found = piece.bindings.outputs[position].byteCount
        if found != target.count {
          throw RunError(
            "APUS-R-0017", "\(found) bytes come back, \(target.count) are expected",
            place: "output '\(piece.program.plan.outputs[position].name)'")
        }
        move(UnsafeMutableRawBufferPointer(start: piece.outputAddress(position), count: found), to: target)
      }
    }
  }
}
