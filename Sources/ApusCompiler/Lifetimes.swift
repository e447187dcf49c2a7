import ApusPlan

/// Finds, for every slot, the steps between which its bytes matter.
enum Lifetimes {
  static func assign(_ builder: inout StepBuilder) {
    var first: [Int: Int] = [:]
    var last: [Int: Int] = [:]
    var number = 0
    visit(builder.steps, &number) { slot, step in
      var slot = slot
      while true {
        first[slot] = min(first[slot] ?? step, step)
        last[slot] = max(last[slot] ?? step, step)
        guard case .view(let base, _) = builder.slots[slot].storage else { break }
        slot = base
      }
    }
    for slot in builder.slots.indices {
      builder.setLife(slot, first: first[slot] ?? 0, last: last[slot] ?? 0)
    }
  }

  /// Numbers steps in order of listing, a step before those nested in it.
  private static func visit(_ steps: [Step], _ number: inout Int, _ use: (Int, Int) -> Void) {
    for step in steps {
      let at = number
      number += 1
      switch step.action {
      case .launch(let launch): for slot in launch.buffers { use(slot, at) }
      case .copy(let from, let to):
        use(from, at)
        use(to, at)
      case .host(let call): for slot in call.inputs + call.outputs { use(slot, at) }
      case .bind(let slot, _): use(slot, at)
      case .define: break
      case .branch(let condition, let then, let otherwise):
        use(condition, at)
        visit(then, &number, use)
        visit(otherwise, &number, use)
      case .loop(let loop):
        visit(loop.body, &number, use)
        // Whatever a loop touches must survive all of its iterations.
        for slot in loop.slots {
          use(slot, at)
          use(slot, number - 1)
        }
      }
    }
  }
}

extension Loop {
  /// Slots the loop itself reads or writes.
  fileprivate var slots: [Int] {
    let optional = [tripCount, condition, iteration, bodyCondition, nextCondition].compactMap { $0 }
    return optional + carried.flatMap { [$0.initial, $0.current, $0.next] + ($0.result.map { [$0] } ?? []) }
      + stacked.flatMap { [$0.element, $0.stacked] } + sliced.flatMap { [$0.source, $0.element] }
  }
}
