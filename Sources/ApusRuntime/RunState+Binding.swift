import ApusCore
import ApusPlan

extension RunState {
  func inputIndex(_ name: String) -> Int? {
    for index in 0..<inputs.count where engine.plan.inputs[index].name == name { return index }
    return nil
  }

  func requireInput(_ name: String) throws(RunError) -> Int {
    guard let index = inputIndex(name) else { throw RunError(RunError.unknownInput(name, engine.plan)) }
    return index
  }

  func requireOutput(_ name: String) throws(RunError) -> Int {
    guard let index = engine.plan.outputs.firstIndex(where: { $0.name == name }) else {
      throw RunError.unknownOutput(name, engine.plan)
    }
    return index
  }

  /// Sets an input to a value; the problem when its type or number of axes does not fit.
  func give(_ value: HostValue, to index: Int) -> Diagnostic? {
    let input = engine.plan.inputs[index]
    if let expected = input.type.tensor, let tensor = value.tensor {
      if tensor.dtype != expected.dtype { return RunError.badType(input, found: tensor.type.description) }
      if let problem = RunError.badShape(input, expected, tensor.shape) { return problem }
      inputs[index].shape = tensor.shape
    } else if !value.fits(input.type) {
      return RunError.badType(input, found: value.type.description)
    }
    inputs[index].isGiven = true
    if program.slots[input.slot].isObject {
      objects[input.slot] = value
    } else if let tensor = value.tensor {
      inputs[index].tensor = tensor
      inputs[index].address = UnsafeRawPointer(tensor.storage.base + tensor.byteOffset)
    }
    return nil
  }

  func bind(input index: Int, _ memory: UnsafeRawBufferPointer, _ shape: [Int]) throws(RunError) {
    let input = engine.plan.inputs[index]
    let place = "input '\(input.name)'"
    guard !program.slots[input.slot].isObject, let type = input.type.tensor else {
      throw RunError(RunError.badType(input, found: "memory"))
    }
    if let problem = RunError.badShape(input, type, shape) { throw RunError(problem) }
    var needed = type.dtype.byteCount
    for axis in 0..<shape.count { needed = saturatingMultiply(needed, shape[axis]) }
    if memory.count < needed { throw RunError.smallMemory(place, found: memory.count, needed: needed) }
    try requireAlignment(memory.baseAddress, type.dtype, place)
    inputs[index].isGiven = true
    inputs[index].tensor = nil
    inputs[index].address = memory.baseAddress
    inputs[index].shape = shape
  }

  func bind(output index: Int, _ memory: UnsafeMutableRawBufferPointer) throws(RunError) {
    let output = engine.plan.outputs[index]
    guard !program.outputs[index].isObject, let type = output.type.tensor else {
      throw RunError(
        "APUS-R-0003", "memory is given, \(output.type) is expected", place: "output '\(output.name)'")
    }
    try requireAlignment(memory.baseAddress.map { UnsafeRawPointer($0) }, type.dtype, "output '\(output.name)'")
    outputs[index].callerMemory = memory
    outputs[index].storage = nil
  }

  private func requireAlignment(_ base: UnsafeRawPointer?, _ dtype: DType, _ place: String) throws(RunError) {
    if let base, Int(bitPattern: base) % dtype.byteCount != 0 {
      throw RunError.misaligned(place, alignment: dtype.byteCount)
    }
  }

  /// An output of the last run as a value; copied only when it is in the caller's memory.
  func result(_ index: Int) throws(RunError) -> HostValue {
    let record = program.outputs[index]
    if record.isObject { return try object(in: record.slot) }
    let dtype = program.slots[record.slot].dtype
    let shape = outputs[index].shape
    if let storage = outputs[index].storage {
      return .tensor(HostTensor(dtype: dtype, shape: shape, storage: storage))
    }
    guard let memory = outputs[index].callerMemory else {
      throw RunError(
        "APUS-R-0018", "there is no result before the first run",
        place: "output '\(engine.plan.outputs[index].name)'")
    }
    return .tensor(
      HostTensor(dtype, shape) { $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: memory[..<$0.count])) })
  }
}

extension HostValue {
  /// Whether the value has the form of a type: containers of equal kinds, equal element types. Sizes and numbers of axes
  /// are free inside containers.
  func fits(_ type: ValueType) -> Bool {
    switch (self, type) {
    case (.tensor(let tensor), .tensor(let type)): tensor.dtype == type.dtype
    case (.sequence(let elements, _), .sequence(let element)): elements.allSatisfy { $0.fits(element) }
    case (.optional(let value, _), .optional(let element)): value?.fits(element) ?? true
    default: false
    }
  }
}
