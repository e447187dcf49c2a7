import ApusCore
import ApusKernel
import ApusPlan

/// Generated loops that one launch can compute side by side: so small that launches show, and none reads what another stores.
struct LoopGroup {
  struct Loops {
    var kernel: Kernel
    var buffers: [Int]
    var name: String
    var sources: [String]
    var work: Dim
    /// Elements of the result.
    var elements: Int
  }

  /// Limits that keep kernels and their arguments small.
  private static let mostLoops = 4
  private static let mostBuffers = 32

  private var members: [Loops] = []
  /// Slots that they write.
  private var written: Set<Int> = []

  /// Whether loops can go along with those that wait.
  func takes(_ loops: Loops, _ target: any Target, _ builder: StepBuilder) -> Bool {
    guard let last = members.last else { return true }
    return max(loops.elements, last.elements) <= target.launchElements && members.count < Self.mostLoops
      && members.reduce(loops.buffers.count) { $0 + $1.buffers.count } <= Self.mostBuffers
      && !loops.buffers.indices.contains {
        !loops.writes($0) && written.contains(Self.root(loops.buffers[$0], builder))
      }
  }

  mutating func add(_ loops: Loops, _ builder: StepBuilder) {
    members.append(loops)
    for index in loops.buffers.indices where loops.writes(index) {
      written.insert(Self.root(loops.buffers[index], builder))
    }
  }

  /// Launches what waits.
  mutating func launch(_ target: any Target, into builder: inout StepBuilder, _ log: inout FusionLog) {
    defer { (members, written) = ([], []) }
    if members.count > 1, let code = target.loops(beside: members.map(\.kernel)) {
      let name = members.map(\.name).joined(separator: ", ")
      log.record(members[0].name, into: name, taken: true, "\(members.count) kernels share a launch")
      return builder.launch(
        code, buffers: members.flatMap(\.buffers), name: name, sources: members.flatMap(\.sources), tactic: "loops",
        work: Dim.sum(members.map(\.work)))
    }
    for loops in members {
      builder.launch(
        target.loops(loops.kernel), buffers: loops.buffers, name: loops.name, sources: loops.sources, tactic: "loops",
        work: loops.work)
    }
  }

  /// The slot whose memory a slot is in.
  private static func root(_ slot: Int, _ builder: StepBuilder) -> Int {
    var slot = slot
    while case .view(let base, _) = builder.slots[slot].storage { slot = base }
    return slot
  }
}

extension LoopGroup.Loops {
  fileprivate func writes(_ index: Int) -> Bool { kernel.stores.contains { $0.buffer == index } }
}
