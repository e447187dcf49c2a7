extension Plan {
  /// Sets `firstStep` and `lastStep` of all arena slots from the steps that touch them.
  ///
  /// A slot that is touched inside a loop and outside of it lives through the whole loop; one that outputs name lives to
  /// the end. The plan must be valid.
  package mutating func assignLifetimes() {
    var uses = SlotUses(plan: self)
    uses.visit(steps)
    uses.extendOverLoops()
    for output in outputs { uses.touch(output.slot, at: uses.nextStep) }
    for index in slots.indices where slots[index].storage == .arena {
      slots[index].firstStep = uses.ranges[index]?.first ?? 0
      slots[index].lastStep = uses.ranges[index]?.last ?? 0
    }
  }
}

extension Plan {
  /// The slots that steps and outputs touch, each as the one whose memory it lies in. The plan must be valid.
  package func touchedSlots() -> Set<Int> {
    var uses = SlotUses(plan: self)
    uses.visit(steps)
    return Set(uses.ranges.keys).union(outputs.map { root(of: $0.slot) })
  }
}

extension Plan {
  /// The numbers of the steps that touch each slot, which is the one whose memory a slot lies in. The plan must be valid.
  package func stepsBySlot() -> [Int: [Int]] {
    var uses = SlotUses(plan: self)
    uses.visit(steps)
    return uses.steps
  }
}

private struct SlotUses {
  let plan: Plan
  var ranges: [Int: (first: Int, last: Int)] = [:]
  var steps: [Int: [Int]] = [:]
  var nextStep = 0
  /// Step ranges of loops, inner before outer: the loop's own number and that of its last nested step.
  private var loops: [(start: Int, end: Int)] = []

  init(plan: Plan) { self.plan = plan }

  mutating func touch(_ slot: Int, at step: Int) {
    let root = plan.root(of: slot)
    let range = ranges[root] ?? (step, step)
    ranges[root] = (min(range.first, step), max(range.last, step))
    steps[root, default: []].append(step)
  }

  mutating func visit(_ steps: [Step]) {
    for step in steps {
      let number = nextStep
      nextStep += 1
      switch step.action {
      case .launch(let launch): for slot in launch.buffers { touch(slot, at: number) }
      case .library(let call): for slot in call.buffers { touch(slot, at: number) }
      case .copy(let from, let to):
        touch(from, at: number)
        touch(to, at: number)
      case .host(let call): for slot in call.inputs + call.outputs { touch(slot, at: number) }
      case .bind(let slot, _): touch(slot, at: number)
      case .define: break
      case .branch(let condition, let then, let otherwise):
        touch(condition, at: number)
        visit(then)
        visit(otherwise)
      case .loop(let loop): visit(loop, number)
      case .piece(let piece):
        for slot in piece.inputs + piece.outputs { touch(slot, at: number) }
        nextStep += piece.plan.stepCount
      }
    }
  }

  private mutating func visit(_ loop: Loop, _ number: Int) {
    let given = [loop.tripCount, loop.condition, loop.iteration, loop.bodyCondition].compactMap { $0 }
    for slot in given { touch(slot, at: number) }
    for carried in loop.carried {
      touch(carried.initial, at: number)
      touch(carried.current, at: number)
    }
    for sliced in loop.sliced {
      touch(sliced.source, at: number)
      touch(sliced.element, at: number)
    }
    for stacked in loop.stacked { touch(stacked.stacked, at: number) }
    visit(loop.body)
    let last = nextStep - 1
    if let next = loop.nextCondition { touch(next, at: last) }
    for carried in loop.carried {
      touch(carried.next, at: last)
      touch(carried.current, at: last)
      if let result = carried.result { touch(result, at: last) }
    }
    for stacked in loop.stacked { touch(stacked.element, at: last) }
    loops.append((number, last))
  }

  mutating func extendOverLoops() {
    for loop in loops {
      for (slot, range) in ranges where range.first <= loop.start && range.last > loop.start {
        ranges[slot] = (range.first, max(range.last, loop.end))
      }
      for (slot, range) in ranges where range.first > loop.start && range.first <= loop.end && range.last > loop.end {
        ranges[slot] = (loop.start, range.last)
      }
    }
  }
}
