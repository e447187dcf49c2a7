import ApusCore
import ApusPlan

/// Replaces the steps of regions by those of other tactics, in the plans of one target.
struct PlanSplice {
  /// The steps of a region as they are and as they shall be, as plans of the region alone.
  struct Replacement {
    let old: Plan
    let new: Plan
    /// Sources of the functions by symbol.
    let sources: [String: String]
    /// The new plan with its constants, from the bytes of those of the old one by slot; nil where they cannot be had.
    let relaid: ((Int) -> UnsafeRawBufferPointer?) -> Plan?
    /// Called when the steps have been replaced.
    let done: () -> Void
  }

  /// Of all plans, with those that are new and in no image yet behind the others.
  private var functions: [KernelFunction]
  private var sources: [String] = []
  private var functionByName: [String: Int] = [:]
  private let plans: [Plan]
  /// The constants with those that are new, once there are such.
  private var constants: ConstantPool?

  init(_ plans: [Plan]) {
    self.plans = plans
    functions = plans[0].functions
    for (index, function) in functions.enumerated() { functionByName[function.symbol] = index }
  }

  /// Asks for each region of a plan, its pieces and bodies what it shall be replaced by, and replaces it where that can be done.
  mutating func apply(
    to plan: inout Plan, _ replacement: (Alternatives, _ sources: [String]) -> Replacement?
  ) {
    var isChanged = false
    plan.steps = replaced(plan.steps, &plan) { alternatives, sources in
      guard let wanted = replacement(alternatives, sources) else { return nil }
      return Replacement(old: wanted.old, new: wanted.new, sources: wanted.sources, relaid: wanted.relaid) {
        isChanged = true
        wanted.done()
      }
    }
    guard isChanged else { return }
    plan.assignLifetimes()
    // Times of whole runs are those of the old steps.
    plan.timings = []
  }

  private mutating func replaced(
    _ steps: [Step], _ plan: inout Plan, _ replacement: (Alternatives, [String]) -> Replacement?
  ) -> [Step] {
    var result: [Step] = []
    var index = 0
    while index < steps.count {
      var step = steps[index]
      if let alternatives = step.alternatives, index + alternatives.stepCount <= steps.count {
        let old = Array(steps[index..<index + alternatives.stepCount])
        var names: [String] = []
        for name in old.flatMap(\.sources) where !names.contains(name) { names.append(name) }
        if let wanted = replacement(alternatives, names), let new = substituted(old, wanted, names, &plan) {
          wanted.done()
          result += new
        } else {
          result += old
        }
        index += alternatives.stepCount
        continue
      }
      switch step.action {
      case .branch(let condition, let then, let otherwise):
        step.action = .branch(
          condition: condition, then: replaced(then, &plan, replacement),
          else: replaced(otherwise, &plan, replacement))
      case .loop(var loop):
        loop.body = replaced(loop.body, &plan, replacement)
        step.action = .loop(loop)
      case .piece(var piece):
        apply(to: &piece.plan, replacement)
        step.action = .piece(piece)
      case .launch, .library, .copy, .host, .bind, .define: break
      }
      result.append(step)
      index += 1
    }
    return result
  }

  // MARK: One region

  /// The new steps with the plan's slots; nil where the old ones are not those of the plan, or the new ones need a constant
  /// that cannot be had.
  private mutating func substituted(
    _ steps: [Step], _ replacement: Replacement, _ names: [String], _ plan: inout Plan
  ) -> [Step]? {
    guard var slots = match(steps, replacement.old), let alternatives = steps[0].alternatives else { return nil }
    let new = replacement.new
    let own = Set(slots.values)
    // Slots of the new steps, known by what they are.
    var placed: [Int: Int] = [:]
    for (old, fresh) in zip(replacement.old.inputs + replacement.old.outputs, new.inputs + new.outputs) {
      if let slot = slots[old.slot] { placed[fresh.slot] = slot }
    }
    let constants = replacement.old.slots.indices.filter { replacement.old.constant($0) != nil && slots[$0] != nil }
    var added: [Slot] = []
    var kept: Set<Int> = []
    var relaid: Plan?
    for step in new.steps {
      guard let buffers = step.action.buffers else { return nil }
      for slot in buffers where placed[slot] == nil {
        switch new.slots[slot].storage {
        case .constant:
          let twin = constants.first {
            replacement.old.slots[$0].type == new.slots[slot].type
              && replacement.old.constant($0).map { old in new.constant(slot).map { old.elementsEqual($0) } ?? false }
                == true
          }
          if let twin {
            placed[slot] = slots[twin]
            continue
          }
          relaid = relaid ?? replacement.relaid { old in slots[old].flatMap { plan.constant($0) } }
          guard let bytes = relaid?.constant(slot) else { return nil }
          var pool = self.constants ?? ConstantPool(continuing: plans)
          let offset = pool.add(HostTensor(.u8, [bytes.count]) { $0.copyMemory(from: bytes) })
          self.constants = pool
          placed[slot] = plan.slots.count + added.count
          added.append(Slot(name: new.slots[slot].name, type: new.slots[slot].type, storage: .constant(offset: offset)))
        case .arena, .grown:
          let type = new.slots[slot].type
          let isLate = type.tensor?.shape.contains { $0.symbols.contains(where: plan.isRunSymbol) } ?? false
          placed[slot] = plan.slots.count + added.count
          added.append(Slot(name: "", type: type, storage: isLate ? .grown : .arena))
        default: return nil
        }
      }
      kept.formUnion(buffers.compactMap { placed[$0] })
    }
    plan.slots += added
    // What was there for the old steps alone takes no memory any more.
    for (old, slot) in slots where !kept.contains(slot) && own.contains(slot) {
      if case .arena = replacement.old.slots[old].storage, let type = plan.slots[slot].type.tensor {
        plan.slots[slot].type = .tensor(TensorType(type.dtype, [0]))
      }
    }
    slots = placed
    var result = new.steps.map { step in moved(step, new, slots, replacement.sources) }
    for index in result.indices { result[index].sources = Array(names.prefix(1)) }
    result[result.count - 1].sources = names
    result[0].alternatives = Alternatives(
      region: alternatives.region, constants: alternatives.constants, tactics: alternatives.tactics,
      chosen: new.profile.name, stepCount: result.count)
    return result
  }

  /// The slots of the plan by those of the region's own plan, when both launch the same functions and call the same.
  private func match(_ steps: [Step], _ region: Plan) -> [Int: Int]? {
    guard steps.count == region.steps.count else { return nil }
    var slots: [Int: Int] = [:]
    for (step, twin) in zip(steps, region.steps) {
      guard let buffers = step.action.buffers, let others = twin.action.buffers, buffers.count == others.count,
        isSame(step.action, twin.action, region)
      else { return nil }
      for (slot, own) in zip(buffers, others) {
        if let known = slots[own], known != slot { return nil }
        slots[own] = slot
      }
    }
    return slots
  }

  private func isSame(_ action: Step.Action, _ twin: Step.Action, _ region: Plan) -> Bool {
    switch (action, twin) {
    case (.launch(let launch), .launch(let other)):
      functions[launch.function].symbol == region.functions[other.function].symbol
    case (.library(let call), .library(let other)):
      call.operation == other.operation && call.rank == other.rank
    default: false
    }
  }

  /// A step of a region's plan with the slots and functions of the plan.
  private mutating func moved(
    _ step: Step, _ region: Plan, _ slots: [Int: Int], _ texts: [String: String]
  ) -> Step {
    var step = step
    step.alternatives = nil
    if case .library(var call) = step.action {
      call.buffers = call.buffers.map { slots[$0] ?? $0 }
      step.action = .library(call)
    }
    guard case .launch(var launch) = step.action else { return step }
    var function = region.functions[launch.function]
    if let known = functionByName[function.symbol] {
      launch.function = known
    } else {
      function.image = -1
      launch.function = functions.count
      functionByName[function.symbol] = functions.count
      functions.append(function)
      sources.append(texts[function.symbol] ?? "")
    }
    launch.buffers = launch.buffers.map { slots[$0] ?? $0 }
    step.action = .launch(launch)
    return step
  }

  // MARK: Code

  /// Compiles the new functions, and gives all plans the code that they use and no other.
  func compile(
    _ plans: inout [Plan], _ target: any Target, progress: (Int, Int) -> Void
  ) throws(BuildError) {
    var functions = functions
    var images = plans[0].images
    if !sources.isEmpty {
      let compiled = try target.compile(sources, progress: progress)
      let first = functions.count - sources.count
      for index in sources.indices { functions[first + index].image = images.count + (compiled.count == 1 ? 0 : index) }
      images += compiled
    }
    var section = plans[0].constants
    if var pool = constants { section = pool.makeSection() }
    for index in plans.indices { plans[index].share(functions: functions, images: images, constants: section) }
    plans.removeUnusedCode()
  }
}

extension Plan {
  fileprivate func isRunSymbol(_ symbol: Symbol) -> Bool { runSymbols.contains { $0.name == symbol.name } }

  /// The bytes of a slot that is a constant.
  func constant(_ slot: Int) -> UnsafeRawBufferPointer? {
    guard case .constant(let offset) = slots[slot].storage, let type = slots[slot].type.tensor,
      let shape = type.constantShape
    else { return nil }
    let byteCount = shape.reduce(type.dtype.byteCount, saturatingMultiply)
    if offset + byteCount > constants.byteCount { return nil }
    return UnsafeRawBufferPointer(rebasing: constants.bytes[offset..<offset + byteCount])
  }
}
