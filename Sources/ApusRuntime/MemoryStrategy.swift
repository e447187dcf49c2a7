public import ApusCore
import ApusPlan

/// Where a context's working memory (arena and scratch) comes from. Memory of tensors whose sizes only a run tells, and
/// of outputs that are not bound, is apart from it.
public enum MemoryStrategy: Sendable, Hashable {
  /// Grows to what the shapes seen so far need.
  case asNeeded
  /// Reserved when the context is made, for every shape of every profile: no run allocates any.
  case `static`
  /// Reserved when a profile is first run after another, for every shape of that profile.
  case onProfileChange
  /// The caller's, set by ``ExecutionContext/use(workspace:)``. Contexts that do not run at the same time may share it.
  case userManaged
}

/// Where everything of a plan lies when each tensor has the largest size that its profile allows: enough for every shape.
struct MemoryCeiling: Sendable {
  let arena: ArenaPlan
  /// Offsets by slot.
  let offsets: [Int]
  let scratchByteCount: Int
  let pieces: [MemoryCeiling]

  /// - Throws: ``RunError`` `APUS-R-0023` naming the sizes without a largest value.
  init(_ program: Program) throws(RunError) {
    var requests: [ArenaRequest] = []
    var owners: [Int] = []
    var open: Set<String> = []
    func bounded(_ dim: Dim) -> Int {
      let upper = max(dim.range.upper, 0)
      // Beyond a quarter of the address space sums could overflow; no machine has it.
      if upper < .max / 4 { return upper }
      for symbol in dim.symbols where symbol.range.upper >= .max / 4 { open.insert(symbol.name) }
      if dim.symbols.allSatisfy({ $0.range.upper < .max / 4 }) { open.insert(dim.description) }
      return 0
    }
    var sum = 0
    for (index, slot) in program.plan.slots.enumerated() where slot.storage == .arena {
      let byteCount = slot.type.tensor.map { bounded($0.byteCount) } ?? 0
      sum = saturatingAdd(sum, byteCount)
      requests.append(program.arenaRequest(index, byteCount: byteCount))
      owners.append(index)
    }
    var scratch = 0
    for launch in program.launches where !launch.isLate { scratch = max(scratch, bounded(launch.scratchBytes)) }
    if !open.isEmpty || sum > .max / 4 { throw RunError.openSizes(open.sorted(), program.plan.profile) }
    arena = ArenaPlanner.plan(requests)
    var offsets = [Int](repeating: 0, count: program.plan.slots.count)
    for (request, slot) in owners.enumerated() { offsets[slot] = arena.offsets[request] }
    self.offsets = offsets
    scratchByteCount = scratch
    var pieces: [MemoryCeiling] = []
    for piece in program.pieces { pieces.append(try MemoryCeiling(piece.program)) }
    self.pieces = pieces
  }

  var need: WorkspaceNeed {
    WorkspaceNeed(
      arena: arena.byteCount, pieceArena: pieces.map(\.arena.byteCount).max() ?? 0,
      scratch: pieces.reduce(scratchByteCount) { max($0, $1.scratchByteCount) })
  }
}

extension WorkspaceNeed {
  /// Enough for each of two.
  func union(_ other: WorkspaceNeed) -> WorkspaceNeed {
    WorkspaceNeed(
      arena: max(arena, other.arena), pieceArena: max(pieceArena, other.pieceArena),
      scratch: max(scratch, other.scratch))
  }
}

extension Engine {
  /// Bytes of working memory that are enough for every shape of a profile, known without allocating any.
  ///
  /// - Throws: ``RunError`` `APUS-R-0020` when there is no such profile, `APUS-R-0023` when the profile leaves sizes open.
  public func workspaceByteCount(profile: ProfileSelection = .index(0)) throws(RunError) -> Int {
    let variant = variants[try index(of: profile)]
    return try MemoryCeiling(variant.program).need.byteCount(threads: device.scratchCount)
  }

  /// Bytes of working memory that runs with these input shapes need; inputs of one shape may be left out.
  ///
  /// - Parameter values: elements of inputs that decide sizes; those left out are what the profile is tuned for.
  /// - Throws: ``RunError`` when a shape does not fit the profile.
  public func workspaceByteCount(
    shapes: [String: [Int]], values: [String: [Int]] = [:], profile: ProfileSelection = .index(0)
  ) throws(RunError) -> Int {
    let program = variants[try index(of: profile)].program
    return try MemoryForecast.bound(program, shapes: shapes, values: values).need.byteCount(
      threads: device.scratchCount)
  }
}
