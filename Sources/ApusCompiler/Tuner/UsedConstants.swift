import ApusCore
package import ApusPlan

extension [Plan] {
  /// The plans with one section of constants, which holds what they use and no more.
  package func sharingConstants() -> [Plan] {
    var pool = ConstantPool(continuing: [])
    var plans = map { $0.placingConstants(in: &pool) }
    let section = pool.makeSection()
    for index in plans.indices {
      plans[index].share(functions: plans[index].functions, images: plans[index].images, constants: section)
    }
    return plans
  }
}

extension Plan {
  fileprivate func placingConstants(in pool: inout ConstantPool) -> Plan {
    var plan = self
    let used = usedConstants
    for index in slots.indices {
      guard case .constant(let offset) = slots[index].storage, let type = slots[index].type.tensor else { continue }
      guard used?.contains(index) != false, let bytes = constantBytes(type, at: offset) else {
        plan.slots[index].type = .tensor(TensorType(.u8, [0]))
        plan.slots[index].storage = .constant(offset: 0)
        continue
      }
      let tensor = HostTensor(.u8, [bytes.count]) { $0.copyMemory(from: bytes) }
      plan.slots[index].storage = .constant(offset: pool.add(tensor))
    }
    for index in steps.indices {
      guard case .piece(var piece) = steps[index].action else { continue }
      piece.plan = piece.plan.placingConstants(in: &pool)
      plan.steps[index].action = .piece(piece)
    }
    return plan
  }

  /// The slots that steps read, those of constants among them; nil where steps name slots in other ways than launches do.
  private var usedConstants: Set<Int>? {
    var used = Set(outputs.map(\.slot))
    for slot in slots { if let base = slot.viewed { used.insert(base) } }
    for step in allSteps {
      if let buffers = step.action.buffers {
        used.formUnion(buffers)
      } else if case .copy(let from, _) = step.action {
        used.insert(from)
      } else {
        return nil
      }
    }
    return used
  }
}
