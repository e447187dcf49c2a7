import ApusCore

/// What a step reads and writes of memory, as slots that lie in no other.
package struct StepAccess: Sendable {
  package var reads: [Int]
  package var writes: [Int]

  package init(reads: [Int], writes: [Int]) {
    self.reads = reads
    self.writes = writes
  }

  /// Stands for the working memory that all launches share.
  package static let scratch = -1

  /// For each of some steps, in the order in which they are listed, the earlier ones that it must come after: those that write
  /// what it reads or writes, and those that read what it writes. What follows from others may be left out.
  package static func dependences(_ steps: [StepAccess]) -> [[Int]] {
    var uses: [Int: (writer: Int?, readers: [Int])] = [:]
    var found: [[Int]] = []
    for (index, step) in steps.enumerated() {
      var earlier: Set<Int> = []
      for slot in step.reads { if let writer = uses[slot]?.writer { earlier.insert(writer) } }
      for slot in step.writes {
        guard let use = uses[slot] else { continue }
        if let writer = use.writer { earlier.insert(writer) }
        earlier.formUnion(use.readers)
      }
      for slot in step.reads { uses[slot, default: (nil, [])].readers.append(index) }
      for slot in step.writes { uses[slot] = (index, []) }
      found.append(earlier.sorted())
    }
    return found
  }
}

extension Plan {
  /// Lanes beside the first that a plan can have.
  package static let laneLimit = 8

  /// What a launch, library call or copy touches; nil for other steps, which come after all before them and before all after
  /// them. The plan must be valid.
  package func access(of step: Step) -> StepAccess? {
    var access = StepAccess(reads: [], writes: [])
    switch step.action {
    case .launch(let launch):
      for (index, slot) in launch.buffers.enumerated() { add(slot, isWritten: launch.writes.contains(index), &access) }
      if launch.scratchBytes != 0 { access.writes.append(StepAccess.scratch) }
    case .library(let call):
      for (index, slot) in call.buffers.enumerated() {
        add(slot, isWritten: !call.readBuffers.contains(index), &access)
      }
    case .copy(let from, let to):
      add(from, isWritten: false, &access)
      add(to, isWritten: true, &access)
    case .host, .bind, .define, .branch, .loop, .piece: return nil
    }
    return access
  }

  private func add(_ slot: Int, isWritten: Bool, _ access: inout StepAccess) {
    let root = root(of: slot)
    // Nobody writes constants.
    if case .constant = slots[root].storage { return }
    if isWritten { access.writes.append(root) } else { access.reads.append(root) }
  }
}

extension Step.Action {
  /// Whether such steps may run beside others.
  package var canHaveLane: Bool {
    switch self {
    case .launch, .library, .copy: true
    case .host, .bind, .define, .branch, .loop, .piece: false
    }
  }
}
