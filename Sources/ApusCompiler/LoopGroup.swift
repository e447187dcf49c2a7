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
    /// How to write the loops, where there are several ways.
    var tactic: String?
    var alternatives: Alternatives?
  }

  /// Limits that keep kernels and their arguments small.
  private static let mostLoops = 4
  private static let mostBuffers = 32

  private var members: [Loops] = []
  /// Slots that they write.
  private var written: Set<Int> = []

  /// Names of the model's nodes that wait.
  var sources: [String] { members.flatMap(\.sources) }

  /// Whether loops can go along with those that wait.
  func takes(_ loops: Loops, _ target: any Target, _ builder: StepBuilder) -> Bool {
    guard let last = members.last else { return true }
    return max(loops.elements, last.elements) <= target.launchElements && members.count < Self.mostLoops
      && members.reduce(loops.buffers.count) { $0 + $1.buffers.count } <= Self.mostBuffers
      && !loops.buffers.indices.contains {
        !loops.writes($0) && written.contains(builder.root(of: loops.buffers[$0]))
      }
  }

  mutating func add(_ loops: Loops, _ builder: StepBuilder) {
    members.append(loops)
    for index in loops.buffers.indices where loops.writes(index) {
      written.insert(builder.root(of: loops.buffers[index]))
    }
  }

  /// Launches what waits.
  mutating func launch(_ target: any Target, into builder: inout StepBuilder, _ log: inout FusionLog) {
    defer { (members, written) = ([], []) }
    if members.count > 1, let code = target.loops(beside: members.map(\.kernel)) {
      let name = members.map(\.name).joined(separator: ", ")
      log.record(members[0].name, into: name, taken: true, "\(members.count) kernels share a launch")
      var (buffers, writes): ([Int], [Int]) = ([], [])
      for loops in members {
        writes += loops.writes.map { $0 + buffers.count }
        buffers += loops.buffers
      }
      return builder.launch(
        code, buffers: buffers, writes: writes, name: name, sources: members.flatMap(\.sources), tactic: "loops",
        work: Dim.sum(members.map(\.work)), traffic: Dim.sum(members.map { $0.traffic(builder) }))
    }
    for loops in members {
      let first = builder.steps.count
      builder.launch(
        loops.tactic.map { target.loops(loops.kernel, by: $0) } ?? target.loops(loops.kernel), buffers: loops.buffers,
        writes: loops.writes, name: loops.name, sources: loops.sources, tactic: loops.tactic ?? "loops",
        work: loops.work, traffic: loops.traffic(builder))
      if let alternatives = loops.alternatives { builder.offer(alternatives, from: first) }
    }
  }
}

extension LoopGroup.Loops {
  fileprivate func writes(_ index: Int) -> Bool { kernel.stores.contains { $0.buffer == index } }

  /// Bytes that are read and written: of a buffer that is looked up or filled in part not all.
  fileprivate func traffic(_ builder: StepBuilder) -> Dim {
    let touched = kernel.elementsTouched
    var bytes: [Int: Dim] = [:]
    for (position, slot) in buffers.enumerated() {
      guard let type = builder.slots[slot].type.tensor, let count = touched[position] else { continue }
      bytes[slot, default: 0] = bytes[slot, default: 0] + count * Dim(type.dtype.byteCount)
    }
    return Dim.sum(
      bytes.sorted { $0.key < $1.key }.compactMap { slot, count in
        builder.slots[slot].type.tensor.map { type in
          let isAll = type.byteCount.estimate < count.estimate || !ExprArena.locals(of: count).isEmpty
          return isAll ? type.byteCount : count
        }
      })
  }

  /// Positions among the buffers of those that are stored to.
  fileprivate var writes: [Int] { buffers.indices.filter { writes($0) } }
}
