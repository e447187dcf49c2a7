import ApusCore
import ApusPlan

extension RunState {
  /// Runs a loop: carried values are handed on, slices read and rows stacked in each iteration.
  func runLoop(_ record: StepRecord, step: Int) throws(RunError) {
    let entry = program.loops[record.index]
    let loop = entry.loop
    let trips = try tripCount(entry)
    var goesOn = true
    if let condition = loop.condition { goesOn = try flag(in: condition) }
    for carried in loop.carried { try copy(from: carried.initial, to: carried.current, step: step) }
    var rows = StackedRows(count: loop.stacked.count)
    var iteration = 0
    while goesOn && iteration < trips {
      if let slot = loop.iteration { try store(iteration, in: slot) }
      if let slot = loop.bodyCondition { try store(goesOn ? 1 : 0, in: slot) }
      for sliced in loop.sliced { try slice(sliced, row: iteration, step: step) }
      try run(from: step + 1, to: record.end)
      for (index, stacked) in loop.stacked.enumerated() {
        try stack(stacked, row: iteration, &rows.byteCounts[index], trips: trips, step: step)
      }
      if let next = loop.nextCondition { goesOn = try flag(in: next) }
      try handOn(entry, step: step)
      iteration += 1
    }
    if let node = entry.countNode {
      try set(node, to: iteration, step: step)
      program.dims.evaluateLate(into: bound.values)
    }
    for carried in loop.carried {
      if let result = carried.result { try copy(from: carried.current, to: result, step: step) }
    }
    for (index, stacked) in loop.stacked.enumerated() {
      try finish(stacked, rows: iteration, rows.byteCounts[index], step: step)
    }
  }

  /// Bytes of one row of each stacked value; nil before the first.
  private struct StackedRows {
    var byteCounts: [Int?]
    init(count: Int) { byteCounts = count == 0 ? [] : [Int?](repeating: nil, count: count) }
  }

  private func tripCount(_ entry: LoopRecord) throws(RunError) -> Int {
    var trips = Int.max
    if let slot = entry.loop.tripCount { trips = try integer(in: slot) }
    if let node = entry.tripNode { trips = min(trips, bound.values[node]) }
    return trips
  }

  private func handOn(_ entry: LoopRecord, step: Int) throws(RunError) {
    if !entry.needsStaging {
      for carried in entry.loop.carried { try copy(from: carried.next, to: carried.current, step: step) }
      return
    }
    var total = 0
    var objects: [HostValue] = []
    for carried in entry.loop.carried {
      if program.slots[carried.next].isObject {
        objects.append(try object(in: carried.next))
      } else {
        total = saturatingAdd(total, WorkspaceNeed.aligned(try memory(of: carried.next).count))
      }
    }
    let base = try workspace.reserveStaging(total).base
    var offset = 0
    for carried in entry.loop.carried where !program.slots[carried.next].isObject {
      let source = try memory(of: carried.next)
      move(source, to: UnsafeMutableRawBufferPointer(start: base + offset, count: source.count))
      offset += WorkspaceNeed.aligned(source.count)
    }
    offset = 0
    var nextObject = 0
    for carried in entry.loop.carried {
      if program.slots[carried.next].isObject {
        self.objects[carried.current] = objects[nextObject]
        nextObject += 1
        continue
      }
      let byteCount = try memory(of: carried.next).count
      let target = try memory(of: carried.current)
      try requireEqual(byteCount, target.count, slot: carried.current, step: step)
      move(UnsafeMutableRawBufferPointer(start: base + offset, count: byteCount), to: target)
      offset += WorkspaceNeed.aligned(byteCount)
    }
  }

  private func requireEqual(_ found: Int, _ expected: Int, slot: Int, step: Int) throws(RunError) {
    if found == expected { return }
    throw RunError(
      "APUS-R-0016", "an iteration gives \(found) bytes where \(expected) are expected",
      place: "step \(step), slot '\(program.plan.slots[slot].name)'",
      hint: "The loop changes the size of a value it carries or stacks.")
  }

  private func slice(_ sliced: Loop.Sliced, row: Int, step: Int) throws(RunError) {
    let source = try memory(of: sliced.source)
    let element = try memory(of: sliced.element)
    let offset = saturatingMultiply(row, element.count)
    if saturatingAdd(offset, element.count) > source.count {
      throw RunError(
        "APUS-R-0016", "iteration \(row) reads past the end of '\(program.plan.slots[sliced.source].name)'",
        place: "step \(step)")
    }
    if element.count > 0 {
      move(UnsafeMutableRawBufferPointer(rebasing: source[offset..<offset + element.count]), to: element)
    }
  }

  private func stack(
    _ stacked: Loop.Stacked, row: Int, _ rowByteCount: inout Int?, trips: Int, step: Int
  ) throws(RunError) {
    let element = try memory(of: stacked.element)
    try requireEqual(element.count, rowByteCount ?? element.count, slot: stacked.element, step: step)
    rowByteCount = element.count
    let used = saturatingMultiply(row, element.count)
    let needed = saturatingAdd(used, element.count)
    let target = try reserve(
      stacked.stacked, used: used, needed: needed, expected: saturatingMultiply(trips, element.count), step: step)
    if element.count > 0, let base = target {
      stream.copy(from: UnsafeRawPointer(element.baseAddress ?? base), to: base + used, byteCount: element.count)
    }
  }

  /// Memory for the rows of a stack so far: a late one grows, others have their final size.
  private func reserve(
    _ slot: Int, used: Int, needed: Int, expected: Int, step: Int
  ) throws(RunError) -> UnsafeMutableRawPointer? {
    let record = program.slots[slot]
    if !record.isLate {
      let target = try memory(of: slot)
      if needed > target.count { try requireEqual(needed, target.count, slot: slot, step: step) }
      return target.baseAddress
    }
    // Rows double the buffer, or fill it at once where the number of iterations is small.
    let likely = expected <= 1 << 20 ? expected : min(saturatingMultiply(needed, 2), expected)
    if case .output(let index) = record.storage {
      try growOutput(index, to: needed, likely: likely, keeping: used)
      return outputAddress(index)
    }
    if needed > grown[slot]?.byteCount ?? 0 { try grow(slot, to: likely, keeping: used) }
    return grown[slot]?.base
  }

  private func finish(_ stacked: Loop.Stacked, rows: Int, _ rowByteCount: Int?, step: Int) throws(RunError) {
    let target = try memory(of: stacked.stacked)
    try requireEqual(
      saturatingMultiply(rows, rowByteCount ?? 0), target.count, slot: stacked.stacked, step: step)
  }
}
