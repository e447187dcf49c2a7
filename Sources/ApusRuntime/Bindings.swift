import ApusCore
import ApusPlan

/// What a context's inputs and outputs are bound to, whichever profile runs.
final class Bindings {
  /// Gives names and element types, which all profiles share.
  let plan: Plan
  var inputs: [InputState]
  var outputs: [OutputState]
  /// Copies on the device of inputs and outputs in the host's memory, where the device cannot reach that.
  var inputMirrors: [DeviceBuffer?]
  var outputMirrors: [DeviceBuffer?]
  /// Counts changes of what is bound.
  private(set) var changeCount = 0

  init(plan: Plan) {
    self.plan = plan
    inputs = plan.inputs.map {
      InputState(rank: $0.type.tensor?.rank ?? 0, isObject: $0.holdsObject, valueCount: $0.values?.count ?? 0)
    }
    outputs = plan.outputs.map { OutputState(rank: $0.type.tensor?.rank ?? 0, isObject: $0.holdsObject) }
    inputMirrors = [DeviceBuffer?](repeating: nil, count: plan.inputs.count)
    outputMirrors = [DeviceBuffer?](repeating: nil, count: plan.outputs.count)
  }
}

/// What an input is bound to.
struct InputState {
  var address: UnsafeRawPointer?
  /// Whether `address` is the device's, where that differs from the host's.
  var isOnDevice = false
  /// Keeps the bytes alive when they are a buffer's.
  var owner: AnyObject?
  var shape: [Int]
  /// Keeps the bytes alive when they are a tensor's.
  var tensor: HostTensor?
  /// The value when it is no tensor of numbers.
  var object: HostValue?
  var isGiven = false
  let isObject: Bool
  /// What profiles have ranges of: the sizes of all axes, then the elements that decide sizes; ``DimProgram/unknown`` for
  /// those that are not there. Set by ``Bindings/takeSizes()``.
  var sizes: [Int]
  /// How many elements decide sizes.
  let valueCount: Int

  init(rank: Int, isObject: Bool, valueCount: Int) {
    shape = [Int](repeating: 0, count: rank)
    sizes = [Int](repeating: 0, count: rank + valueCount)
    self.isObject = isObject
    self.valueCount = valueCount
  }
}

/// Where an output goes.
struct OutputState {
  /// Memory of the caller.
  var callerMemory: UnsafeMutableRawBufferPointer?
  /// Whether `callerMemory` is the device's, where that differs from the host's.
  var isOnDevice = false
  /// Keeps `callerMemory` alive when it is a buffer's.
  var owner: AnyObject?
  /// Whether a caller kept a result for longer than a run, so that the next one needs other memory.
  var isRetained = false
  /// Memory of our own when the caller gave none; replaced when the caller still holds the last result.
  var storage: HostStorage?
  var byteCount = 0
  /// Sizes after a run.
  var shape: [Int]
  /// The value after a run when it is no tensor of numbers.
  var object: HostValue?
  let isObject: Bool

  init(rank: Int, isObject: Bool) {
    shape = [Int](repeating: 0, count: rank)
    self.isObject = isObject
  }

  var address: UnsafeMutableRawPointer? { callerMemory?.baseAddress ?? storage?.base }
}

extension Bindings {
  /// Whether elements of inputs decide sizes, so that every run must read them.
  var readsElements: Bool { inputs.contains { $0.valueCount > 0 } }

  func noteChange() { changeCount &+= 1 }

  func inputIndex(_ name: String) -> Int? {
    for index in 0..<inputs.count where plan.inputs[index].name == name { return index }
    return nil
  }

  func requireInput(_ name: String) throws(RunError) -> Int {
    guard let index = inputIndex(name) else { throw RunError(RunError.unknownInput(name, plan)) }
    return index
  }

  func requireOutput(_ name: String) throws(RunError) -> Int {
    guard let index = plan.outputs.firstIndex(where: { $0.name == name }) else {
      throw RunError.unknownOutput(name, plan)
    }
    return index
  }

  /// Throws when an input is not given.
  func requireInputs() throws(RunError) {
    for index in 0..<inputs.count where !inputs[index].isGiven {
      throw RunError(
        problems: inputs.indices.filter { !inputs[$0].isGiven }.map { RunError.missingInput(plan.inputs[$0]) })
    }
  }

  /// Notes the sizes of what is bound, and reads the elements that decide sizes. Allocates nothing.
  func takeSizes() {
    for index in 0..<inputs.count {
      let rank = inputs[index].shape.count
      var count = 1
      for axis in 0..<rank {
        let size = inputs[index].shape[axis]
        count = saturatingMultiply(count, size)
        if inputs[index].sizes[axis] != size { inputs[index].sizes[axis] = size }
      }
      if inputs[index].valueCount == 0 { continue }
      let base = count == inputs[index].valueCount ? inputs[index].address : nil
      let dtype = plan.inputs[index].type.tensor?.dtype ?? .i64
      for element in 0..<inputs[index].valueCount {
        let value = base.map { dtype.loadInteger(from: $0, at: element) } ?? DimProgram.unknown
        if inputs[index].sizes[rank + element] != value { inputs[index].sizes[rank + element] = value }
      }
    }
  }

  /// Sets an input to a value; the problem when its type or number of axes does not fit.
  func give(_ value: HostValue, to index: Int) -> Diagnostic? {
    noteChange()
    let input = plan.inputs[index]
    if let expected = input.type.tensor, let tensor = value.tensor {
      if tensor.dtype != expected.dtype { return RunError.badType(input, found: tensor.type.description) }
      if let problem = RunError.badShape(input, expected, tensor.shape) { return problem }
      inputs[index].shape = tensor.shape
    } else if !value.fits(input.type) {
      return RunError.badType(input, found: value.type.description)
    }
    inputs[index].isGiven = true
    if inputs[index].isObject {
      inputs[index].object = value
    } else if let tensor = value.tensor {
      inputs[index].tensor = tensor
      inputs[index].isOnDevice = false
      inputs[index].owner = nil
      inputs[index].address = UnsafeRawPointer(tensor.storage.base + tensor.byteOffset)
    }
    return nil
  }

  func bind(input index: Int, _ memory: UnsafeRawBufferPointer, _ shape: [Int]) throws(RunError) {
    let input = plan.inputs[index]
    let place = "input '\(input.name)'"
    guard !inputs[index].isObject, let type = input.type.tensor else {
      throw RunError(RunError.badType(input, found: "memory"))
    }
    if let problem = RunError.badShape(input, type, shape) { throw RunError(problem) }
    var needed = type.dtype.byteCount
    for axis in 0..<shape.count { needed = saturatingMultiply(needed, shape[axis]) }
    if memory.count < needed { throw RunError.smallMemory(place, found: memory.count, needed: needed) }
    try requireAlignment(memory.baseAddress, type.dtype, place)
    noteChange()
    inputs[index].isGiven = true
    inputs[index].tensor = nil
    inputs[index].isOnDevice = false
    inputs[index].owner = nil
    inputs[index].address = memory.baseAddress
    inputs[index].shape = shape
  }

  func bind(output index: Int, _ memory: UnsafeMutableRawBufferPointer) throws(RunError) {
    let output = plan.outputs[index]
    guard !outputs[index].isObject, let type = output.type.tensor else {
      throw RunError(
        "APUS-R-0003", "memory is given, \(output.type) is expected", place: "output '\(output.name)'")
    }
    try requireAlignment(memory.baseAddress.map { UnsafeRawPointer($0) }, type.dtype, "output '\(output.name)'")
    noteChange()
    outputs[index].callerMemory = memory
    outputs[index].isOnDevice = false
    outputs[index].owner = nil
    outputs[index].storage = nil
  }

  private func requireAlignment(_ base: UnsafeRawPointer?, _ dtype: DType, _ place: String) throws(RunError) {
    if let base, Int(bitPattern: base) % dtype.byteCount != 0 {
      throw RunError.misaligned(place, alignment: dtype.byteCount)
    }
  }

  /// An output of the last run as a value; copied only when it is in the caller's memory.
  func result(_ index: Int) throws(RunError) -> HostValue {
    let output = outputs[index]
    if output.isObject, let object = output.object { return object }
    if let dtype = plan.outputs[index].type.tensor?.dtype {
      if let storage = output.storage {
        return .tensor(HostTensor(dtype: dtype, shape: output.shape, storage: storage))
      }
      if output.isOnDevice {
        throw RunError(
          "APUS-R-0026", "the result is in the device's memory", place: "output '\(plan.outputs[index].name)'",
          hint: "Read it with Engine.read.")
      }
      if let memory = output.callerMemory {
        return .tensor(
          HostTensor(dtype, output.shape) { $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: memory[..<$0.count])) }
        )
      }
    }
    throw RunError(
      "APUS-R-0018", "there is no result before the first run", place: "output '\(plan.outputs[index].name)'")
  }
}

extension Binding {
  /// Whether the value is a container or text, which has no bytes in memory.
  var holdsObject: Bool { type.tensor.map { $0.dtype == .string } ?? true }
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
