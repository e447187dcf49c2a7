import ApusCore

/// Working memory of a run: the arena, that of pieces, and scratch for each thread that computes.
struct WorkspaceNeed: Equatable {
  var arena = 0
  var pieceArena = 0
  /// Bytes for each thread.
  var scratch = 0

  static let alignment = 64

  static func aligned(_ byteCount: Int) -> Int {
    byteCount > .max - (alignment - 1) ? .max : (byteCount + alignment - 1) / alignment * alignment
  }

  /// Bytes of one block that holds everything.
  func byteCount(threads: Int) -> Int {
    saturatingAdd(
      saturatingAdd(Self.aligned(arena), Self.aligned(pieceArena)),
      saturatingMultiply(Self.aligned(scratch), threads))
  }
}

/// Memory that the profiles of a context use in turn. Who provides it is the context's ``MemoryStrategy``.
final class Workspace {
  /// Whose tensors an arena holds: those of the model, or those inside of its pieces.
  enum Level: Int { case model, piece }

  private struct Region {
    var base: UnsafeMutableRawPointer
    var byteCount: Int
    /// Memory of the region alone; nil when it is a part of the block.
    var owner: DeviceBuffer?
  }

  private let device: any Device
  let strategy: MemoryStrategy
  private var arenas: [Region?] = [nil, nil]
  private var scratchRegion: Region?
  /// One block for all regions: reserved for a profile, or the caller's.
  private var block: (base: UnsafeMutableRawPointer, byteCount: Int, owner: DeviceBuffer?)?
  /// Holds `next` values while a loop hands them on.
  private var staging: DeviceBuffer?
  /// Counts changes of each arena's address.
  private var epochs = [0, 0]

  /// Queued work may use memory that is about to be given back.
  private let stream: any DeviceStream

  init(device: any Device, strategy: MemoryStrategy, stream: any DeviceStream) {
    self.device = device
    self.stream = stream
    self.strategy = strategy
  }

  func arena(_ level: Level) -> UnsafeMutableRawPointer? { arenas[level.rawValue]?.base }
  func epoch(_ level: Level) -> Int { epochs[level.rawValue] }
  var scratch: UnsafeMutableRawPointer? { scratchRegion?.base }

  /// Bytes that the workspace allocated.
  var byteCount: Int {
    let owners = arenas.map { $0?.owner } + [scratchRegion?.owner, block?.owner, staging]
    return owners.reduce(0) { $0 + ($1?.byteCount ?? 0) }
  }

  // MARK: Blocks

  /// Replaces the block by one that holds `need`; the old one is given back first.
  func allocateBlock(for need: WorkspaceNeed) throws(RunError) {
    let byteCount = need.byteCount(threads: device.scratchCount)
    dropBlock()
    let buffer = try allocate(byteCount, "the workspace")
    block = (buffer.base, buffer.byteCount, buffer)
    divide(for: need)
  }

  /// Uses the caller's memory.
  func use(_ memory: UnsafeMutableRawBufferPointer?) {
    dropBlock()
    if let memory, let base = memory.baseAddress { block = (base, memory.count, nil) }
  }

  private func dropBlock() {
    stream.drain()
    for level in 0..<arenas.count {
      arenas[level] = nil
      epochs[level] += 1
    }
    scratchRegion = nil
    block = nil
  }

  /// Lays the regions out in the block, each as large as needed.
  private func divide(for need: WorkspaceNeed) {
    guard let block else { return }
    let pieceStart = WorkspaceNeed.aligned(need.arena)
    let scratchStart = pieceStart + WorkspaceNeed.aligned(need.pieceArena)
    arenas[0] = Region(base: block.base, byteCount: pieceStart)
    arenas[1] = Region(base: block.base + pieceStart, byteCount: scratchStart - pieceStart)
    scratchRegion = Region(base: block.base + scratchStart, byteCount: block.byteCount - scratchStart)
    for level in 0..<epochs.count { epochs[level] += 1 }
  }

  // MARK: Reserving

  /// Makes sure that a run has what it needs before it starts.
  func reserve(_ need: WorkspaceNeed) throws(RunError) {
    if holds(need) { return }
    if strategy == .userManaged {
      let byteCount = need.byteCount(threads: device.scratchCount)
      guard let block, block.byteCount >= byteCount else {
        throw RunError.smallWorkspace(found: block?.byteCount, needed: byteCount)
      }
      return divide(for: need)
    }
    if let block, block.byteCount >= need.byteCount(threads: device.scratchCount) { return divide(for: need) }
    try reserveArena(.model, need.arena)
    try reserveArena(.piece, need.pieceArena)
    try reserveScratch(need.scratch)
  }

  private func holds(_ need: WorkspaceNeed) -> Bool {
    need.arena <= arenas[0]?.byteCount ?? 0 && need.pieceArena <= arenas[1]?.byteCount ?? 0
      && saturatingMultiply(WorkspaceNeed.aligned(need.scratch), device.scratchCount) <= scratchRegion?.byteCount ?? 0
  }

  /// Makes an arena hold at least `byteCount` bytes.
  func reserveArena(_ level: Level, _ byteCount: Int) throws(RunError) {
    if byteCount <= arenas[level.rawValue]?.byteCount ?? 0 { return }
    stream.drain()
    arenas[level.rawValue] = nil
    let buffer = try allocate(byteCount, "the arena")
    arenas[level.rawValue] = Region(base: buffer.base, byteCount: buffer.byteCount, owner: buffer)
    epochs[level.rawValue] += 1
  }

  /// Makes sure that every thread has the scratch bytes a launch needs.
  func reserveScratch(_ byteCount: Int) throws(RunError) {
    let needed = saturatingMultiply(WorkspaceNeed.aligned(byteCount), device.scratchCount)
    if needed <= scratchRegion?.byteCount ?? 0 { return }
    stream.drain()
    scratchRegion = nil
    let buffer = try allocate(needed, "scratch")
    scratchRegion = Region(base: buffer.base, byteCount: buffer.byteCount, owner: buffer)
    // Recorded launches have its address.
    for level in epochs.indices { epochs[level] += 1 }
  }

  func reserveStaging(_ byteCount: Int) throws(RunError) -> DeviceBuffer {
    if let staging, staging.byteCount >= byteCount { return staging }
    stream.drain()
    let buffer = try allocate(byteCount, "the values of a loop")
    staging = buffer
    return buffer
  }

  func allocate(_ byteCount: Int, _ what: String) throws(RunError) -> DeviceBuffer {
    let limit = device.memoryByteCount
    if byteCount > limit { throw RunError.tooLarge(byteCount, what, limit: limit) }
    do { return try device.allocate(byteCount: max(byteCount, 64)) } catch {
      throw RunError(device: error).at(what)
    }
  }
}
