import ApusCore
import ApusPlan

/// A program with the sizes of one set of input shapes: offsets in the arena, and tables of addresses and numbers that
/// launches read.
///
/// Addresses are valid for one state of the context's memory; ``epoch`` says which.
final class BoundPlan {
  let values: UnsafeMutablePointer<Int>
  /// Byte counts by slot; ``DimProgram/unknown`` until a late slot is reached.
  let byteCounts: UnsafeMutablePointer<Int>
  /// Addresses by slot.
  let addresses: UnsafeMutablePointer<UnsafeMutableRawPointer?>
  /// Addresses of all launches' and library calls' buffers.
  let buffers: UnsafeMutablePointer<UnsafeMutableRawPointer?>
  let parameters: UnsafeMutablePointer<Int64>
  /// Encoded maps of all launches.
  let maps: UnsafeMutableRawPointer
  /// Blocks and scratch bytes by launch.
  let blocks: UnsafeMutablePointer<Int>
  let scratch: UnsafeMutablePointer<Int>
  /// Library calls as they were made ready last, and for which sizes.
  private var calls: [(sizes: [Int], call: any DeviceCall)?]
  private(set) var arenaOffsets: [Int]
  private(set) var arena = ArenaPlan(offsets: [], byteCount: 0, lowerBound: 0, sum: 0)
  /// Plans of the pieces; nil where a piece depends on sizes that a run tells.
  private(set) var pieces: [BoundPlan?] = []
  /// What a run needs, its pieces included.
  private(set) var need = WorkspaceNeed()
  /// Most scratch bytes that a thread needs in any launch whose sizes are known.
  private(set) var scratchByteCount = 0
  /// Arithmetic operations of a run, without the steps whose work only a run tells.
  private(set) var work = 0
  var epoch = -1
  /// Counts changes of addresses that launches read.
  var version = 0
  /// Recordings by segment, with the version that each was made at; before there is one, the version it last ran at.
  var captures: [(work: (any CapturedWork)?, version: Int)]

  /// Tables without sizes, of a context that has not run yet.
  init(unbound program: Program) {
    values = .allocate(capacity: max(program.dims.count, 1))
    values.initialize(repeating: DimProgram.unknown, count: program.dims.count)
    byteCounts = .allocate(capacity: max(program.slots.count, 1))
    byteCounts.initialize(repeating: DimProgram.unknown, count: program.slots.count)
    addresses = .allocate(capacity: max(program.slots.count, 1))
    addresses.initialize(repeating: nil, count: program.slots.count)
    buffers = .allocate(capacity: max(program.launchSlots.count, 1))
    buffers.initialize(repeating: nil, count: program.launchSlots.count)
    parameters = .allocate(capacity: max(program.launchParameters.count, 1))
    parameters.initialize(repeating: 0, count: program.launchParameters.count)
    maps = .allocate(byteCount: max(program.maps.count, 1) * DeviceTensorMap.byteCount, alignment: 64)
    blocks = .allocate(capacity: max(program.launches.count, 1))
    blocks.initialize(repeating: 0, count: program.launches.count)
    scratch = .allocate(capacity: max(program.launches.count, 1))
    scratch.initialize(repeating: 0, count: program.launches.count)
    calls = [(sizes: [Int], call: any DeviceCall)?](repeating: nil, count: program.calls.count)
    arenaOffsets = [Int](repeating: 0, count: program.slots.count)
    captures = program.segments.map { _ in (nil, -1) }
  }

  /// Evaluates all sizes for the inputs' shapes and plans the arena.
  ///
  /// - Throws: ``RunError`` when shapes do not fit, or a size is negative or more than `memoryLimit`.
  convenience init(_ program: Program, shapes: [[Int]], memoryLimit: Int, ceiling: MemoryCeiling? = nil)
    throws(RunError)
  {
    self.init(unbound: program)
    try ShapeSolver.solve(program, shapes: shapes, into: values)
    try plan(program, memoryLimit: memoryLimit, ceiling)
  }

  /// The same for a piece, whose shape symbols are given by what is around it.
  convenience init(piece program: Program, symbols: [Int], memoryLimit: Int, ceiling: MemoryCeiling? = nil)
    throws(RunError)
  {
    self.init(unbound: program)
    for (node, symbol) in program.plan.shapeSymbols.enumerated() {
      if !symbol.range.contains(symbols[node]) {
        throw RunError.badSymbol(symbol, symbols[node], place: "inputs")
      }
      values[node] = symbols[node]
    }
    program.dims.evaluate(into: values)
    try plan(program, memoryLimit: memoryLimit, ceiling)
  }

  private func plan(_ program: Program, memoryLimit: Int, _ ceiling: MemoryCeiling?) throws(RunError) {
    try measure(program)
    try planArena(program, memoryLimit: memoryLimit, ceiling)
    try checkViews(program)
    for launch in program.launches.indices where !program.launches[launch].isLate {
      try evaluate(launch, program)
      scratchByteCount = max(scratchByteCount, scratch[launch])
    }
    var step = 0
    while step < program.steps.count {
      let record = program.steps[step]
      if !program.dims.isLate[record.work] { work = saturatingAdd(work, max(values[record.work], 0)) }
      step = record.end
    }
    if scratchByteCount > memoryLimit { throw RunError.tooLarge(scratchByteCount, "scratch", limit: memoryLimit) }
    need = WorkspaceNeed(arena: arena.byteCount, scratch: scratchByteCount)
    for (index, piece) in program.pieces.enumerated() {
      let symbols = piece.symbolNodes.map { values[$0] }
      // Sizes that a run tells: the piece is bound and reserves its memory when it is reached.
      if symbols.contains(DimProgram.unknown) {
        pieces.append(nil)
        continue
      }
      let inner = try BoundPlan(
        piece: piece.program, symbols: symbols, memoryLimit: memoryLimit, ceiling: ceiling?.pieces[index])
      need = need.union(WorkspaceNeed(pieceArena: inner.arena.byteCount, scratch: inner.scratchByteCount))
      pieces.append(inner)
    }
  }

  deinit {
    values.deallocate()
    byteCounts.deallocate()
    addresses.deallocate()
    buffers.deallocate()
    parameters.deallocate()
    maps.deallocate()
    blocks.deallocate()
    scratch.deallocate()
  }

  /// Sizes of a slot's shape now; nil when one is not known or negative.
  func byteCount(_ slot: SlotRecord) -> Int? {
    var product = slot.dtype.byteCount
    for node in slot.shape {
      if values[node] < 0 { return nil }
      product = saturatingMultiply(product, values[node])
    }
    return product
  }

  private func measure(_ program: Program) throws(RunError) {
    for (index, slot) in program.slots.enumerated() where !slot.isObject {
      if slot.shape.contains(where: { program.dims.isLate[$0] }) { continue }
      guard let byteCount = byteCount(slot) else { throw RunError.badSize(program, slot: index, values) }
      byteCounts[index] = byteCount
    }
  }

  /// Plans the arena for these sizes. Where that comes out larger than the plan for the largest sizes, which greedy
  /// placement allows, the latter is used.
  private func planArena(
    _ program: Program, memoryLimit: Int, _ ceiling: MemoryCeiling?
  ) throws(RunError) {
    var requests: [ArenaRequest] = []
    var owners: [Int] = []
    var sum = 0
    for (index, slot) in program.plan.slots.enumerated() where slot.storage == .arena {
      let byteCount = byteCounts[index]
      if byteCount > memoryLimit { throw RunError.tooLarge(byteCount, "slot '\(slot.name)'", limit: memoryLimit) }
      sum = saturatingAdd(sum, byteCount)
      requests.append(program.arenaRequest(index, byteCount: byteCount))
      owners.append(index)
    }
    if sum > Int.max / 4 { throw RunError.tooLarge(sum, "the arena", limit: memoryLimit) }
    arena = ArenaPlanner.plan(requests)
    if let ceiling, ceiling.arena.byteCount < arena.byteCount {
      arena = ceiling.arena
      arenaOffsets = ceiling.offsets
      return
    }
    if arena.byteCount > memoryLimit { throw RunError.tooLarge(arena.byteCount, "the arena", limit: memoryLimit) }
    for (request, slot) in owners.enumerated() { arenaOffsets[slot] = arena.offsets[request] }
  }

  /// Views whose place is known lie within what they look at.
  private func checkViews(_ program: Program) throws(RunError) {
    for (index, slot) in program.slots.enumerated() where !slot.isLate {
      guard case .view(let viewed, _) = slot.storage else { continue }
      let offset = values[slot.viewOffset]
      if offset < 0 || saturatingAdd(offset, byteCounts[index]) > byteCounts[viewed] {
        throw RunError.outsideView(program, slot: index, offset: offset, byteCounts[index], of: byteCounts[viewed])
      }
    }
  }

  /// Encodes a launch's maps for the addresses in force.
  func encodeMaps(_ launch: LaunchRecord, _ program: Program, _ device: any Device) throws(DeviceError) {
    // A launch of nothing may be about tensors of nothing, which cannot be described.
    if values[launch.blocks] == 0 { return }
    for index in launch.firstMap..<launch.firstMap + launch.mapCount {
      let record = program.maps[index]
      let numbers = UnsafeMutablePointer<Int64>.allocate(capacity: max(record.nodes.count, 1))
      defer { numbers.deallocate() }
      for (position, node) in record.nodes.enumerated() { numbers[position] = Int64(values[node]) }
      let map = DeviceTensorMap(
        address: buffers[launch.firstBuffer + record.map.buffer], map: record.map, numbers: UnsafePointer(numbers))
      try device.encode(map, to: maps + index * DeviceTensorMap.byteCount)
    }
  }

  /// A library call, made ready for the sizes in force where that was not done before.
  func call(_ index: Int, _ program: Program, _ device: any Device) throws(RunError) -> any DeviceCall {
    let record = program.calls[index]
    let values = values
    if let known = calls[index], !record.isLate || known.sizes.elementsEqual(record.sizes.lazy.map { values[$0] }) {
      return known.call
    }
    let sizes = record.sizes.map { values[$0] }
    guard let counts = record.call.elementCounts(sizes) else { throw RunError.badCall(program, record, sizes) }
    for (position, count) in counts.enumerated() {
      let slot = program.launchSlots[record.firstBuffer + position]
      if saturatingMultiply(count, program.slots[slot].dtype.byteCount) > byteCounts[slot] {
        throw RunError.badCall(program, record, sizes)
      }
    }
    do {
      let workspace = program.launchSlots[record.firstBuffer + counts.count]
      let call = try device.prepare(record.call, sizes: sizes, workspaceByteCount: byteCounts[workspace])
      calls[index] = (sizes, call)
      return call
    } catch { throw RunError(device: error).at("step \(record.step)") }
  }

  /// Computes a launch's integers from the values in force.
  func evaluate(_ index: Int, _ program: Program) throws(RunError) {
    let launch = program.launches[index]
    blocks[index] = values[launch.blocks]
    scratch[index] = values[launch.scratch]
    if blocks[index] < 0 || scratch[index] < 0 {
      throw RunError.badLaunch(program, launch, blocks: blocks[index], scratch: scratch[index])
    }
    for position in launch.firstParameter..<launch.firstParameter + launch.parameterCount {
      let value = values[program.launchParameters[position]]
      if value == DimProgram.unknown { throw RunError.badLaunch(program, launch, parameter: position) }
      parameters[position] = Int64(value)
    }
  }
}
