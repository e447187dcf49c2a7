import ApusCore
import ApusPlan

extension RunState {
  /// Waits for a run that was queued.
  func finishRun() throws(RunError) {
    try synchronize()
    if let profiler {
      do { try profiler.endRun() } catch { throw RunError(device: error) }
    }
  }

  /// Queues all steps and what brings the outputs to their places.
  ///
  /// - Parameter isReady: whether what the last run prepared can be used as it is.
  func enqueueAll(isReady: Bool = false) throws(RunError) {
    if detachOutputs() || !isReady { try prepare() } else { forgetRunSymbols() }
    uploadInputs()
    profiler?.beginRun()
    try runSteps()
  }

  /// The recording that is all there is to do for a run like the last one: its steps are recorded as one, and inputs and outputs
  /// are in the device's memory. Nil where there is more.
  var wholeRun: (any CapturedWork)? {
    guard captures, fillings.isEmpty, program.segments.count == 1, program.segments[0].first == 0,
      program.segments[0].end == program.steps.count, bound.captures[0].version == bound.version,
      program.dims.shapeSymbolCount == program.dims.symbolCount,
      bindings.inputs.allSatisfy({ $0.isOnDevice }), bindings.outputs.allSatisfy({ $0.isOnDevice }),
      program.outputs.allSatisfy({ $0.isDirect })
    else { return nil }
    return bound.captures[0].work
  }

  func launch(whole: any CapturedWork) {
    queued.add(0, program.steps.count)
    stream.launch(whole)
  }

  func mark() throws(RunError) -> any DeviceMark {
    do { return try stream.mark() } catch { throw RunError(device: error) }
  }

  /// Runs what is prepared.
  func runSteps() throws(RunError) {
    try run(from: 0, to: program.steps.count)
    for output in bindings.outputs.indices { try finishOutput(output) }
  }

  func run(from first: Int, to end: Int) throws(RunError) {
    var step = first
    while step < end {
      let record = program.steps[step]
      if profiler == nil, program.segmentAt[step] >= 0 {
        let segment = program.segments[program.segmentAt[step]]
        let isRecorded = captures ? try runCaptured(program.segmentAt[step], segment) : false
        if isRecorded || lanes(of: segment) != nil {
          queued.add(segment.first, segment.end)
          if !isRecorded { try run(segment) }
          step = segment.end
          continue
        }
      }
      if let profiler {
        let start = try mark()
        try run(record, step)
        profiler.add(
          from: start, to: try mark(), step: firstStep + step, work: bound.values[record.work],
          traffic: bound.values[record.traffic])
      } else {
        queued.add(step, step + 1)
        try run(record, step)
        if Self.waitsForEachStep { try synchronize() }
      }
      step = record.end
    }
  }

  /// Queues the recording of a segment, which is made when it runs for the second time at the same addresses.
  ///
  /// - Returns: whether it was queued; false when the steps are to be run one by one.
  private func runCaptured(_ index: Int, _ segment: Segment) throws(RunError) -> Bool {
    let (earlier, version) = bound.captures[index]
    if let earlier, version == bound.version {
      stream.launch(earlier)
      return true
    }
    let isSettled = earlier != nil || version == bound.version
    bound.captures[index].version = bound.version
    if !isSettled { return false }
    stream.beginCapture()
    do throws(RunError) { try run(segment) } catch {
      _ = try? stream.endCapture(updating: nil)
      bound.captures[index] = (nil, -1)
      throw error
    }
    do {
      let work = try stream.endCapture(updating: earlier)
      bound.captures[index].work = work
      stream.launch(work)
    } catch {
      bound.captures[index] = (nil, -1)
      throw RunError(device: error)
    }
    return true
  }

  /// Queues the steps of a segment, each on its lane.
  private func run(_ segment: Segment) throws(RunError) {
    guard let order = lanes(of: segment) else {
      for step in segment.first..<segment.end { try run(program.steps[step], step) }
      return
    }
    stream.reach(point: LaneOrder.start)
    do throws(RunError) {
      for position in order.entries.indices {
        let entry = order.entries[position]
        stream.enter(lane: entry.lane)
        for wait in entry.waits { stream.wait(point: order.waits[wait]) }
        let step = segment.first + position
        try run(program.steps[step], step)
        if entry.point >= 0 { stream.reach(point: entry.point) }
      }
    } catch {
      // Nothing of the lanes may be left when the stream is waited for; those that have not begun have nothing to join.
      for lane in order.lanes {
        stream.enter(lane: lane)
        stream.wait(point: LaneOrder.start)
      }
      join(order.lanes)
      throw error
    }
    join(order.joins)
  }

  /// Has the first lane wait for the ends of others.
  private func join(_ lanes: [Int]) {
    for lane in lanes {
      stream.enter(lane: lane)
      stream.reach(point: lane)
    }
    stream.enter(lane: 0)
    for lane in lanes { stream.wait(point: lane) }
  }

  private func run(_ record: StepRecord, _ step: Int) throws(RunError) {
    switch record.kind {
    case .launch: try launch(record.index)
    case .library: try callLibrary(record.index)
    case .copy:
      let copy = program.copies[record.index]
      try self.copy(from: copy.from, to: copy.to, step: step)
    case .host: try callHost(record.index)
    case .bind: try bindSymbols(record.index, step: step)
    case .define: try define(record.index, step: step)
    case .branch:
      if try flag(in: record.index) {
        try run(from: step + 1, to: record.middle)
      } else {
        try run(from: record.middle, to: record.end)
      }
    case .loop: try runLoop(record, step: step)
    case .piece: try runPiece(record.index, step: step)
    }
  }

  private func launch(_ index: Int) throws(RunError) {
    let record = program.launches[index]
    if record.isLate {
      for position in record.firstBuffer..<record.firstBuffer + record.bufferCount {
        bound.buffers[position] = try memory(of: program.launchSlots[position]).baseAddress
      }
      try bound.evaluate(index, program)
      do { try bound.encodeMaps(record, program, engine.device) } catch {
        throw RunError(device: error).at("step \(record.step)")
      }
      try workspace.reserveScratch(bound.scratch[index])
    }
    let blocks = bound.blocks[index]
    if blocks == 0 { return }
    let scratchByteCount = bound.scratch[index]
    stream.launch(
      DeviceLaunch(
        function: engine.functions[record.function], buffers: bound.buffers + record.firstBuffer,
        bufferCount: record.bufferCount, parameters: bound.parameters + record.firstParameter,
        parameterCount: record.parameterCount,
        maps: record.mapCount == 0 ? nil : bound.maps + record.firstMap * DeviceTensorMap.byteCount, blocks: blocks,
        scratch: scratchByteCount == 0 ? nil : workspace.scratch,
        scratchStride: WorkspaceNeed.aligned(scratchByteCount)))
  }

  private func callLibrary(_ index: Int) throws(RunError) {
    let record = program.calls[index]
    if record.isLate {
      for position in record.firstBuffer..<record.firstBuffer + record.call.buffers.count {
        bound.buffers[position] = try memory(of: program.launchSlots[position]).baseAddress
      }
    }
    stream.call(
      try bound.call(index, program, engine.device),
      buffers: UnsafeBufferPointer(start: bound.buffers + record.firstBuffer, count: record.call.buffers.count))
  }

  /// Copies a slot into another; a host value is assigned.
  func copy(from: Int, to: Int, step: Int) throws(RunError) {
    if program.slots[from].isObject {
      objects[to] = try object(in: from)
      return
    }
    let source = try memory(of: from)
    let target = try memory(of: to)
    if source.count != target.count {
      throw RunError(
        "APUS-R-0017",
        "\(source.count) bytes of '\(program.plan.slots[from].name)' do not fit '"
          + "\(program.plan.slots[to].name)' of \(target.count) bytes", place: "step \(step)")
    }
    move(source, to: target)
  }

  func move(_ source: UnsafeMutableRawBufferPointer, to target: UnsafeMutableRawBufferPointer) {
    guard let from = source.baseAddress, let to = target.baseAddress, from != to, source.count > 0 else { return }
    stream.copy(from: from, to: to, byteCount: source.count)
  }

  func object(in slot: Int) throws(RunError) -> HostValue {
    guard let value = objects[slot] else {
      throw RunError(
        "APUS-R-0018", "the value is used before a step makes it", place: "slot '\(program.plan.slots[slot].name)'")
    }
    return value
  }

  /// The bool in a slot of one element.
  func flag(in slot: Int) throws(RunError) -> Bool { try integer(in: slot) != 0 }

  /// The first element of an integer or bool slot.
  func integer(in slot: Int) throws(RunError) -> Int { try integer(at: 0, in: slot) }

  private func integer(at index: Int, in slot: Int) throws(RunError) -> Int {
    let bytes = try memory(of: slot)
    let dtype = program.slots[slot].dtype
    guard let base = bytes.baseAddress, (index + 1) * dtype.byteCount <= bytes.count else {
      throw RunError(
        "APUS-R-0015", "element \(index) is read of \(bytes.count) bytes",
        place: "slot '\(program.plan.slots[slot].name)'")
    }
    if isElsewhere {
      stream.download(from: base + index * dtype.byteCount, to: hostWord, byteCount: dtype.byteCount)
      try synchronize()
      return dtype.loadInteger(from: hostWord, at: 0)
    }
    try synchronize()
    return dtype.loadInteger(from: base, at: index)
  }

  func synchronize() throws(RunError) {
    do { try stream.synchronize() } catch { throw RunError(device: error).at(queuedSteps) }
    queued = StepSpan()
  }

  /// What the device was at, in words.
  var queuedSteps: String {
    let (first, last) = (queued.first, queued.end - 1)
    if first > last { return "plan '\(program.plan.name)'" }
    let names = program.stepNames
    func name(_ step: Int) -> String { "\(firstStep + step) '\(names.indices.contains(step) ? names[step] : "")'" }
    return first == last ? "step \(name(first))" : "one of the steps \(name(first)) to \(name(last))"
  }

  func store(_ value: Int, in slot: Int) throws(RunError) {
    let bytes = try memory(of: slot)
    let byteCount = program.slots[slot].dtype == .i64 ? 8 : 1
    guard let base = bytes.baseAddress, bytes.count >= byteCount else { return }
    // The bytes of a small-endian number, of which a bool is the first.
    withUnsafeBytes(of: Int64(value).littleEndian) { source in
      if let from = source.baseAddress { stream.upload(from: from, to: base, byteCount: byteCount) }
    }
  }

  private func bindSymbols(_ index: Int, step: Int) throws(RunError) {
    let record = program.binds[index]
    for (element, node) in record.nodes.enumerated() {
      try set(node, to: try integer(at: element, in: record.slot), step: step)
    }
    program.dims.evaluateLate(into: bound.values)
  }

  /// Sets symbols to sizes that are all computed before any symbol changes.
  private func define(_ index: Int, step: Int) throws(RunError) {
    let record = program.definitions[index]
    for (position, size) in record.sizes.enumerated() { newSizes[position] = bound.values[size] }
    for (position, node) in record.nodes.enumerated() { try set(node, to: newSizes[position], step: step) }
    program.dims.evaluateLate(into: bound.values)
  }

  /// Sets a symbol that is known only while running; ``DimProgram/evaluateLate(into:)`` must follow.
  func set(_ node: Int, to value: Int, step: Int) throws(RunError) {
    let symbol = program.plan.runSymbols[node - program.dims.shapeSymbolCount]
    if !symbol.range.contains(value) { throw RunError.badSymbol(symbol, value, place: "step \(step)") }
    bound.values[node] = value
  }

  /// Notes an output's sizes and, when steps did not write it in place, copies it there.
  private func finishOutput(_ index: Int) throws(RunError) {
    let record = program.outputs[index]
    if record.isObject {
      bindings.outputs[index].object = try object(in: record.slot)
      return
    }
    let slot = program.slots[record.slot]
    let source = try memory(of: record.slot)
    for axis in slot.shape.indices { bindings.outputs[index].shape[axis] = bound.values[slot.shape[axis]] }
    if !record.isDirect { try ensureOutput(index, byteCount: source.count) }
    if writesCopy(ofOutput: index), level == .model {
      let rows = rows(ofOutput: index)
      if rows.given < rows.computed {
        bindings.outputs[index].shape[0] = rows.given(of: bindings.outputs[index].shape[0])
      }
      let byteCount = rows.given(of: source.count)
      if byteCount > 0, let from = source.baseAddress, let to = bindings.outputs[index].address {
        if isElsewhere, !bindings.outputs[index].isOnDevice {
          stream.download(from: from, to: to, byteCount: byteCount)
        } else {
          stream.copy(from: from, to: to, byteCount: byteCount)
        }
      }
    } else if !record.isDirect {
      move(source, to: UnsafeMutableRawBufferPointer(start: outputAddress(index), count: source.count))
    }
  }
}
