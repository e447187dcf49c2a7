public import ApusCore
public import ApusPlan

/// A plan with its code loaded, ready to make contexts. Immutable; shared by threads, each with a context of its own.
///
/// Code in an engine runs with the rights of the process: load engines only from where you would load a program.
public final class Engine: Sendable {
  public let plan: Plan
  public let device: any Device
  let program: Program
  let functions: [DeviceFunction]
  let hostFunctions: [HostFunction]
  /// Text constants by slot.
  let objects: [Int: HostValue]
  private let images: [any DeviceImage]
  /// Constants where the device reads them, when that is not the plan itself.
  private let placedConstants: DeviceBuffer?

  /// Checks the plan against this program and the device, loads its images and finds its functions.
  ///
  /// - Throws: ``EngineFileError`` with the exact difference when the engine does not fit, `APUS-E-0014` when a host
  ///   operation cannot be made, or the device's problems.
  public init(plan: Plan, device: any Device, hostOperations: (any HostOperations)? = nil) throws(EngineFileError) {
    try plan.fingerprint.checkVersion()
    try plan.validate()
    try device.check(plan.fingerprint)
    self.plan = plan
    self.device = device
    program = Program(plan)
    objects = try Engine.textConstants(plan)
    hostFunctions = try Engine.hostFunctions(program, hostOperations)
    do {
      placedConstants = try device.place(constants: plan.constants.bytes)
      var images: [any DeviceImage] = []
      for image in plan.images { images.append(try device.load(image)) }
      var functions: [DeviceFunction] = []
      for function in plan.functions { functions.append(try images[function.image].function(named: function.symbol)) }
      self.images = images
      self.functions = functions
    } catch {
      throw EngineFileError(problems: error.problems)
    }
  }

  var constants: UnsafeRawPointer { placedConstants.map { UnsafeRawPointer($0.base) } ?? plan.constants.address }

  /// Makes a context: the memory and state of one run at a time.
  ///
  /// - Throws: ``RunError`` when the device cannot make a queue.
  public func makeContext() throws(RunError) -> ExecutionContext {
    ExecutionContext(state: try RunState(engine: self))
  }

  /// What a run with these input shapes needs, without allocating it.
  ///
  /// - Throws: ``RunError`` when a shape does not fit.
  public func memoryForecast(shapes: [String: [Int]]) throws(RunError) -> MemoryForecast {
    try MemoryForecast(program, shapes: shapes)
  }

  private static func textConstants(_ plan: Plan) throws(EngineFileError) -> [Int: HostValue] {
    var objects: [Int: HostValue] = [:]
    for (index, slot) in plan.slots.enumerated() {
      guard case .constant(let offset) = slot.storage, let type = slot.type.tensor, type.dtype == .string,
        let shape = type.constantShape
      else { continue }
      let bytes = UnsafeRawBufferPointer(rebasing: plan.constants.bytes[offset...])
      let strings = try StringConstants.decode(bytes, count: shape.reduce(1, saturatingMultiply), fileOffset: offset)
      objects[index] = .tensor(HostTensor(strings: strings, shape: shape))
    }
    return objects
  }

  private static func hostFunctions(
    _ program: Program, _ operations: (any HostOperations)?
  ) throws(EngineFileError) -> [HostFunction] {
    var functions: [HostFunction] = []
    var problems: [Diagnostic] = []
    for record in program.hostCalls {
      let call = record.call
      let place = "step \(record.step) '\(call.operation)'"
      guard let operations else {
        problems.append(
          Diagnostic("APUS-E-0014", "the plan calls host operations and none are linked", place: place))
        continue
      }
      do {
        functions.append(
          try operations.make(
            operation: call.operation, attributes: call.attributes,
            operands: call.inputs.map { program.plan.slots[$0].type },
            results: call.outputs.map { program.plan.slots[$0].type }))
      } catch {
        problems.append(Diagnostic("APUS-E-0014", "\(error)", place: place))
      }
    }
    if !problems.isEmpty { throw EngineFileError(problems: problems) }
    return functions
  }
}
