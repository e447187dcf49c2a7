package import ApusCore

extension Plan {
  /// Checks that everything the plan names exists: slots, functions, images, symbols, constants.
  ///
  /// - Throws: ``EngineFileError`` `APUS-E-0008` with every problem (the first 32).
  package func validate() throws(EngineFileError) {
    var validator = PlanValidator(plan: self)
    validator.run()
    if !validator.problems.isEmpty { throw EngineFileError(problems: validator.problems) }
  }
}

extension Plan {
  /// Checks each plan, and that they are plans of one model: equal inputs and outputs but for sizes, profiles of different
  /// names, and for each target the same profiles.
  package static func validate(_ plans: [Plan]) throws(EngineFileError) {
    guard let first = plans.first else {
      throw EngineFileError("APUS-E-0008", "the engine has no plan", place: "plans")
    }
    for plan in plans { try plan.validate() }
    let targets = plans.byTarget
    for plans in targets {
      for (index, plan) in plans.enumerated()
      where plans[..<index].contains(where: { $0.profile.name == plan.profile.name }) {
        throw EngineFileError("APUS-E-0008", "two profiles are called '\(plan.profile.name)'", place: "plans")
      }
      if !plans.map(\.profile).elementsEqual(targets[0].map(\.profile)) {
        throw EngineFileError(
          "APUS-E-0008",
          "target '\(plans[0].fingerprint.target)' has other profiles than '\(first.fingerprint.target)'",
          place: "plans")
      }
    }
    for plan in plans.dropFirst() {
      guard plan.inputs.elementsEqual(first.inputs, by: { $0.hasForm(of: $1) }),
        plan.outputs.elementsEqual(first.outputs, by: { $0.hasForm(of: $1) })
      else {
        throw EngineFileError(
          "APUS-E-0008", "profile '\(plan.profile.name)' has other inputs or outputs than '\(first.profile.name)'",
          place: "plans")
      }
    }
  }
}

extension Binding {
  /// The most elements of an input that can decide sizes.
  package static let valueLimit = 64

  fileprivate var holdsBytes: Bool { type.tensor.map { $0.dtype != .string } ?? false }

  fileprivate func hasForm(of other: Binding) -> Bool {
    name == other.name && type.hasForm(of: other.type) && values?.count == other.values?.count
  }
}

private struct PlanValidator {
  static let problemLimit = 32
  static let depthLimit = 64

  let plan: Plan
  let isPiece: Bool
  var problems: [Diagnostic] = []
  private var shapeSymbols: Set<String> = []
  private var runSymbols: Set<String> = []
  private let stepCount: Int
  private var symbolsOf: [Dim: Bool] = [:]

  init(plan: Plan, isPiece: Bool = false) {
    self.plan = plan
    self.isPiece = isPiece
    stepCount = plan.stepCount
  }

  mutating func report(_ place: String, _ message: String) {
    if problems.count >= Self.problemLimit { return }
    problems.append(
      Diagnostic("APUS-E-0008", message, place: place, hint: "The engine is inconsistent: build it again."))
  }

  mutating func run() {
    checkSymbols()
    for (index, slot) in plan.slots.enumerated() { check(slot, index) }
    checkViews()
    if !problems.isEmpty { return }
    check(plan.inputs, "input", areInputs: true)
    check(plan.outputs, "output", areInputs: false)
    for (index, function) in plan.functions.enumerated() where !plan.images.indices.contains(function.image) {
      report("function \(index) '\(function.symbol)'", "image \(function.image) is out of range: \(plan.images.count)")
    }
    for (index, function) in plan.functions.enumerated() {
      if !(1...1024).contains(function.threads) || !(0...1 << 20).contains(function.sharedByteCount) {
        report(
          "function \(index) '\(function.symbol)'",
          "blocks of \(function.threads) threads with \(function.sharedByteCount) shared bytes are not possible")
      }
    }
    check(plan.steps, "step", depth: 0)
    check(plan.profile)
    checkTimings()
    if !(0...Plan.laneLimit).contains(plan.auxiliaryLanes) {
      report("profile '\(plan.profile.name)'", "steps may have \(plan.auxiliaryLanes) lanes, \(Plan.laneLimit) at most")
    }
    if problems.isEmpty { checkLifetimes() }
  }

  /// Buffers in the arena live for as long as steps touch them, so that none shares bytes with another that is in use.
  private mutating func checkLifetimes() {
    var own = plan
    own.assignLifetimes()
    for (index, (slot, needed)) in zip(plan.slots, own.slots).enumerated() where slot.storage == .arena {
      if slot.firstStep > needed.firstStep || slot.lastStep < needed.lastStep {
        report(
          "slot \(index) '\(slot.name)'",
          "it lives from step \(slot.firstStep) to \(slot.lastStep), steps \(needed.firstStep) to \(needed.lastStep) use it"
        )
      }
    }
  }

  // MARK: Symbols and sizes

  private mutating func checkSymbols() {
    for symbol in plan.shapeSymbols where !shapeSymbols.insert(symbol.name).inserted {
      report("symbol '\(symbol.name)'", "it is declared twice")
    }
    for symbol in plan.runSymbols {
      if !runSymbols.insert(symbol.name).inserted || shapeSymbols.contains(symbol.name) {
        report("symbol '\(symbol.name)'", "it is declared twice")
      }
    }
  }

  /// Checks that the symbols of a size are declared; true when one of them is known only while running.
  @discardableResult
  private mutating func check(_ dim: Dim, _ place: @autoclosure () -> String) -> Bool {
    if dim.isConstant { return false }
    if let known = symbolsOf[dim] { return known }
    var isLate = false
    for symbol in dim.symbols {
      if runSymbols.contains(symbol.name) {
        isLate = true
      } else if !shapeSymbols.contains(symbol.name) {
        report(place(), "the size \(dim) uses the undeclared symbol '\(symbol.name)'")
      }
    }
    symbolsOf[dim] = isLate
    return isLate
  }

  /// Checks the sizes of bytes in memory; host values have their own.
  private mutating func check(_ type: ValueType, _ place: String) -> Bool {
    guard let tensor = type.tensor, tensor.dtype != .string else { return false }
    var isLate = false
    for dim in tensor.shape {
      if check(dim, place) { isLate = true }
      if let size = dim.constantValue, size < 0 { report(place, "the size \(size) is negative") }
    }
    return isLate
  }

  // MARK: Slots

  private mutating func check(_ slot: Slot, _ index: Int) {
    let place = "slot \(index) '\(slot.name)'"
    let isLate = slot.holdsObject ? false : check(slot.type, place)
    switch slot.storage {
    case .input(let input):
      if !plan.inputs.indices.contains(input) || plan.inputs[input].slot != index {
        report(place, "it is the memory of input \(input), which does not name it")
      }
      if isLate { report(place, "an input's size is known only while running") }
    case .output(let output):
      if !plan.outputs.indices.contains(output) || plan.outputs[output].slot != index {
        report(place, "it is the memory of output \(output), which does not name it")
      }
    case .constant(let offset): checkConstant(slot, offset, place)
    case .arena:
      if slot.holdsObject { report(place, "a host value is in the arena") }
      if isLate { report(place, "its size is known only while running, so it cannot be in the arena") }
      if slot.firstStep < 0 || slot.lastStep < slot.firstStep || slot.lastStep > stepCount {
        report(place, "it lives from step \(slot.firstStep) to \(slot.lastStep)")
      }
    case .view(let of, let byteOffset):
      if !plan.slots.indices.contains(of) { report(place, "it is a view of slot \(of): there are \(plan.slots.count)") }
      if slot.holdsObject { report(place, "a host value is a view") }
      check(byteOffset, place)
    case .grown: if slot.holdsObject { report(place, "a host value is in a grown buffer") }
    case .object: break
    }
  }

  private mutating func checkConstant(_ slot: Slot, _ offset: Int, _ place: String) {
    let section = plan.constants.byteCount
    guard let tensor = slot.type.tensor, let shape = tensor.constantShape else {
      return report(place, "a constant of type \(slot.type)")
    }
    let width = tensor.dtype == .string ? 4 : tensor.dtype.byteCount
    let byteCount = saturatingMultiply(shape.reduce(1, saturatingMultiply), width)
    if offset < 0 || byteCount < 0 || offset > section || byteCount > section - offset {
      report(place, "\(byteCount) bytes at \(offset) are outside the constants section of \(section) bytes")
    } else if width > 0, offset % width != 0, tensor.dtype != .string {
      report(place, "the constant's offset \(offset) is not a multiple of \(width)")
    }
  }

  /// Views end at a slot that has memory: no cycles, no host values.
  private mutating func checkViews() {
    guard problems.isEmpty else { return }
    var ends = [Bool?](repeating: nil, count: plan.slots.count)
    for index in plan.slots.indices {
      var path: [Int] = []
      var slot = index
      while ends[slot] == nil, let next = plan.slots[slot].viewed, path.count <= plan.slots.count {
        path.append(slot)
        slot = next
      }
      if path.count > plan.slots.count {
        return report("slot \(index) '\(plan.slots[index].name)'", "it is a view of itself")
      }
      if ends[slot] == nil { ends[slot] = !plan.slots[slot].holdsObject }
      for step in path { ends[step] = ends[slot] }
      if !path.isEmpty, ends[slot] == false {
        report("slot \(index) '\(plan.slots[index].name)'", "it is a view of a host value")
      }
    }
  }

  private mutating func check(_ bindings: [Binding], _ kind: String, areInputs: Bool) {
    var names: Set<String> = []
    for (index, binding) in bindings.enumerated() {
      let place = "\(kind) '\(binding.name)'"
      if !names.insert(binding.name).inserted { report(place, "the name is used twice") }
      guard plan.slots.indices.contains(binding.slot) else {
        report(place, "slot \(binding.slot) is out of range: there are \(plan.slots.count)")
        continue
      }
      let slot = plan.slots[binding.slot]
      if areInputs, slot.storage != .input(index), slot.storage != .object {
        report(place, "slot \(binding.slot) is not its memory")
      }
      if !binding.type.hasForm(of: slot.type) {
        report(place, "its type \(binding.type) differs from its slot's, \(slot.type)")
      }
      if check(binding.type, place), areInputs { report(place, "its size is known only while running") }
      if let values = binding.values { check(values, of: binding, place, isInput: areInputs) }
    }
  }

  /// Checks the elements that decide sizes.
  private mutating func check(_ values: [Dim], of binding: Binding, _ place: String, isInput: Bool) {
    let type = binding.type.tensor
    if !isInput || type?.dtype.isInteger != true || (type?.rank ?? 2) > 1 || values.isEmpty
      || values.count > Binding.valueLimit || type?.elementCount != Dim(values.count)
    {
      report(place, "\(values.count) elements of \(binding.type) decide sizes")
    }
    for value in values where check(value, place) { report(place, "an element is known only while running") }
  }

  private mutating func checkTimings() {
    var work = -1
    for timing in plan.timings {
      if timing.work <= work || !timing.seconds.isFinite || timing.seconds < 0 {
        return report("profile '\(plan.profile.name)'", "its measured times are not times of increasing work")
      }
      work = timing.work
    }
  }

  private mutating func check(_ profile: Profile) {
    for range in profile.ranges {
      let place = "profile '\(profile.name)'"
      if range.min > range.opt || range.opt > range.max {
        report(place, "'\(range.symbol)': min \(range.min), opt \(range.opt), max \(range.max) are not in order")
      }
      if !range.steps.isEmpty,
        range.min != 1 || range.steps != Array(Set(range.steps)).sorted() || range.steps[0] < 1
          || range.steps.last != range.max
      {
        report(
          place, "'\(range.symbol)': sizes to fill up to are \(range.steps), not from 1 to max \(range.max) in order")
      }
    }
  }

  // MARK: Steps

  /// The slot when it exists and holds bytes; problems are reported.
  @discardableResult
  private mutating func memorySlot(_ index: Int, _ place: String, _ role: String) -> TensorType? {
    guard plan.slots.indices.contains(index) else {
      report(place, "\(role) is slot \(index): there are \(plan.slots.count)")
      return nil
    }
    if plan.slots[index].holdsObject {
      report(place, "\(role) is slot \(index) '\(plan.slots[index].name)', a host value")
      return nil
    }
    return plan.slots[index].type.tensor
  }

  private mutating func scalar(_ index: Int?, _ dtype: DType, _ place: String, _ role: String) {
    guard let index, let type = memorySlot(index, place, role) else { return }
    if type.dtype != dtype || type.elementCount.constantValue ?? 1 != 1 {
      report(place, "\(role) is \(type), a \(dtype) scalar is needed")
    }
  }

  private mutating func symbol(_ name: String, _ place: String) {
    if !runSymbols.contains(name) { report(place, "it sets '\(name)', which is not a symbol known while running") }
  }

  private mutating func check(_ steps: [Step], _ prefix: String, depth: Int) {
    if depth > Self.depthLimit { return report(prefix, "steps are nested too deep") }
    for (index, step) in steps.enumerated() {
      if problems.count >= Self.problemLimit { return }
      let place = "\(prefix) \(index) '\(step.name)'"
      check(step.work, place)
      check(step.traffic, place)
      if let alternatives = step.alternatives, !alternatives.fits(stepsLeft: steps.count - index) {
        report(place, "the alternatives to it and those after it are none")
      }
      if step.lane != 0, !(0...Plan.laneLimit).contains(step.lane) || !step.action.canHaveLane {
        report(place, "lane \(step.lane) is none that it can be on")
      }
      check(step.action, place, depth: depth)
    }
  }

  private mutating func check(_ action: Step.Action, _ place: String, depth: Int) {
    switch action {
    case .launch(let launch): check(launch, place)
    case .library(let call): check(call, place)
    case .copy(let from, let to): checkCopy(from, to, place)
    case .host(let call):
      for slot in call.inputs + call.outputs where !plan.slots.indices.contains(slot) {
        report(place, "slot \(slot) is out of range: there are \(plan.slots.count)")
      }
      for name in call.boundSymbols { symbol(name, place) }
    case .bind(let slot, let symbols):
      if let type = memorySlot(slot, place, "the source"), !type.dtype.isInteger {
        report(place, "sizes are read from \(type), an integer tensor is needed")
      }
      for name in symbols { symbol(name, place) }
    case .define(let definitions):
      for definition in definitions {
        symbol(definition.symbol, place)
        check(definition.size, place)
      }
    case .branch(let condition, let then, let otherwise):
      scalar(condition, .bool, place, "the condition")
      check(then, "\(place): then", depth: depth + 1)
      check(otherwise, "\(place): else", depth: depth + 1)
    case .loop(let loop): check(loop, place, depth: depth)
    case .piece(let piece): check(piece, place, depth: depth)
    }
  }

  private mutating func check(_ launch: Launch, _ place: String) {
    if !plan.functions.indices.contains(launch.function) {
      report(place, "function \(launch.function) is out of range: there are \(plan.functions.count)")
    }
    for (index, slot) in launch.buffers.enumerated() { memorySlot(slot, place, "buffer \(index)") }
    if zip(launch.writes, launch.writes.dropFirst()).contains(where: { $0 >= $1 }) {
      report(place, "the buffers that it writes are not in order")
    }
    for index in launch.writes {
      guard launch.buffers.indices.contains(index) else {
        report(place, "it writes buffer \(index): there are \(launch.buffers.count)")
        continue
      }
      guard plan.slots.indices.contains(launch.buffers[index]) else { continue }
      switch plan.slots[plan.root(of: launch.buffers[index])].storage {
      case .input, .constant: report(place, "it writes buffer \(index), which is an input or a constant")
      case .output, .arena, .view, .grown, .object: break
      }
    }
    for dim in launch.parameters { check(dim, place) }
    check(launch.blocks, place)
    check(launch.scratchBytes, place)
    for map in launch.maps { check(map, launch, place) }
  }

  private mutating func check(_ call: LibraryCall, _ place: String) {
    for dim in call.sizes { check(dim, place) }
    if !(0..<LibraryCall.rankLimit).contains(call.rank) { report(place, "suggestion \(call.rank) is none") }
    let (isPossible, dtypes, sizeCount) =
      switch call.operation {
      case .matmul(let matmul): (matmul.isPossible, matmul.bufferDTypes, LibraryMatmul.sizeCount)
      case .convolution(let convolution):
        (convolution.isPossible, convolution.bufferDTypes, convolution.sizeCount)
      }
    if !isPossible || call.buffers.count != dtypes.count || call.sizes.count != sizeCount {
      report(
        place,
        "\(call.buffers.count) buffers and \(call.sizes.count) sizes are nothing that \(call.library.name) computes")
    }
    for (index, (slot, dtype)) in zip(call.buffers, dtypes).enumerated() {
      if let type = memorySlot(slot, place, "buffer \(index)"), type.dtype != dtype {
        report(place, "buffer \(index) is \(type), \(dtype) is needed")
      }
    }
  }

  private mutating func check(_ map: TensorMap, _ launch: Launch, _ place: String) {
    for dim in map.dims { check(dim, place) }
    let axes = map.sizes.count
    var isSound =
      launch.buffers.indices.contains(map.buffer) && (1...5).contains(axes) && map.strides.count == axes - 1
      && map.box.count == (map.windows == nil ? axes : 2) && map.box.allSatisfy { (1...256).contains($0) }
    if let windows = map.windows {
      isSound =
        isSound && axes > 2
        && [windows.lower.count, windows.upper.count, windows.steps.count].allSatisfy { $0 == axes - 2 }
        && windows.lower.allSatisfy { (-128...127).contains($0) } && windows.steps.allSatisfy { (1...8).contains($0) }
    }
    if !isSound {
      report(
        place, "a map of buffer \(map.buffer) of \(launch.buffers.count) with \(axes) axes and box \(map.box) is none")
    }
  }

  private mutating func checkCopy(_ from: Int, _ to: Int, _ place: String) {
    for slot in [from, to] where !plan.slots.indices.contains(slot) {
      return report(place, "slot \(slot) is out of range: there are \(plan.slots.count)")
    }
    if plan.slots[from].holdsObject != plan.slots[to].holdsObject
      || plan.slots[from].type.tensor?.dtype != plan.slots[to].type.tensor?.dtype
    {
      report(place, "\(plan.slots[from].type) cannot be copied to \(plan.slots[to].type)")
    }
  }

  /// Pieces are not nested; their symbols are those of the plan around them, and their inputs and outputs have the sizes
  /// of the slots they name.
  private mutating func check(_ piece: Piece, _ place: String, depth: Int) {
    if isPiece || depth > 0 { return report(place, "a piece is inside of another, or of a loop or branch") }
    var inner = PlanValidator(plan: piece.plan, isPiece: true)
    inner.run()
    problems += EngineFileError(problems: inner.problems).at(place).problems
    for symbol in piece.plan.shapeSymbols where !shapeSymbols.union(runSymbols).contains(symbol.name) {
      report(place, "its symbol '\(symbol.name)' is not declared around it")
    }
    for name in piece.boundSymbols {
      symbol(name, place)
      if !piece.plan.runSymbols.contains(where: { $0.name == name }) { report(place, "it does not set '\(name)'") }
    }
    for (slots, bindings) in [(piece.inputs, piece.plan.inputs), (piece.outputs, piece.plan.outputs)] {
      if slots.count != bindings.count {
        report(place, "\(slots.count) slots are given for \(bindings.count) inputs or outputs")
      }
      for (slot, binding) in zip(slots, bindings) {
        if !plan.slots.indices.contains(slot) {
          report(place, "slot \(slot) is out of range: there are \(plan.slots.count)")
        } else if !binding.type.hasForm(of: plan.slots[slot].type) || binding.holdsBytes == plan.slots[slot].holdsObject
        {
          report(place, "'\(binding.name)' is \(binding.type) inside and \(plan.slots[slot].type) outside")
        }
      }
    }
  }

  private mutating func check(_ loop: Loop, _ place: String, depth: Int) {
    scalar(loop.tripCount, .i64, place, "the trip count")
    scalar(loop.iteration, .i64, place, "the iteration")
    scalar(loop.condition, .bool, place, "the condition")
    scalar(loop.bodyCondition, .bool, place, "the body's condition")
    scalar(loop.nextCondition, .bool, place, "the next condition")
    if let trip = loop.tripDim { check(trip, place) }
    if loop.tripCount == nil, loop.tripDim == nil, loop.nextCondition == nil {
      report(place, "nothing ends the loop")
    }
    for carried in loop.carried {
      checkCopy(carried.initial, carried.current, place)
      checkCopy(carried.next, carried.current, place)
      if let result = carried.result { checkCopy(carried.current, result, place) }
    }
    for stacked in loop.stacked {
      memorySlot(stacked.element, place, "the stacked element")
      memorySlot(stacked.stacked, place, "the stack")
      if plan.slots.indices.contains(stacked.stacked), plan.slots[stacked.stacked].viewed != nil {
        report(place, "a stack is a view")
      }
    }
    for sliced in loop.sliced {
      memorySlot(sliced.source, place, "the sliced value")
      memorySlot(sliced.element, place, "the slice")
    }
    if let name = loop.countSymbol { symbol(name, place) }
    check(loop.body, place, depth: depth + 1)
  }
}

extension Alternatives {
  /// Whether there are as many steps, and what they are is among the ways.
  fileprivate func fits(stepsLeft: Int) -> Bool { (1...stepsLeft).contains(stepCount) && tactics.contains(chosen) }
}

extension ValueType {
  /// Whether both are of one kind, with equal element types and, for tensors outside of containers, equal ranks.
  package func hasForm(of other: ValueType) -> Bool {
    guard let a = tensor, let b = other.tensor else { return hasKind(of: other) }
    return a.dtype == b.dtype && a.rank == b.rank
  }

  /// Whether both are of one kind with equal element types: what all values of a container share.
  private func hasKind(of other: ValueType) -> Bool {
    switch (self, other) {
    case (.tensor(let a), .tensor(let b)): a.dtype == b.dtype
    case (.sequence(let a), .sequence(let b)), (.optional(let a), .optional(let b)): a.hasKind(of: b)
    default: false
    }
  }
}
