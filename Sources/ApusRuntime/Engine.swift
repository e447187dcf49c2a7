public import ApusCore
public import ApusPlan

/// Plans, one for each profile, with their code loaded, ready to make contexts. Immutable; shared by threads, each with a
/// context of its own.
///
/// Code in an engine runs with the rights of the process: load engines only from where you would load a program.
public final class Engine: Sendable {
  /// The plans of the target that suits the device best, in the order in which their profiles were declared; inputs and outputs
  /// differ in sizes only.
  public let plans: [Plan]
  /// The profiles that the engine was built for, in the order of declaration.
  public let profiles: [Profile]
  public let device: any Device
  let variants: [Variant]
  let functions: [DeviceFunction]
  private let images: [any DeviceImage]
  /// Constants where the device reads them, when that is not the plan itself.
  private let placedConstants: DeviceBuffer?

  /// What running one of the plans takes.
  struct Variant: Sendable {
    let program: Program
    let hostFunctions: [HostFunction]
    /// Text constants by slot.
    let objects: [Int: HostValue]
    let pieces: [Variant]

    init(_ program: Program, _ operations: (any HostOperations)?) throws(EngineFileError) {
      self.program = program
      hostFunctions = try Engine.hostFunctions(program, operations)
      objects = try Engine.textConstants(program.plan)
      var pieces: [Variant] = []
      for piece in program.pieces { pieces.append(try Variant(piece.program, operations)) }
      self.pieces = pieces
    }
  }

  /// Checks the plans against this program and the device, takes those of the target that suits it best, loads their images and
  /// finds their functions.
  ///
  /// - Throws: ``EngineFileError`` with the exact difference when the engine does not fit, `APUS-E-0014` when a host
  ///   operation cannot be made, or the device's problems.
  public init(plans: [Plan], device: any Device, hostOperations: (any HostOperations)? = nil) throws(EngineFileError) {
    try Plan.validate(plans)
    let plans = try Self.plans(of: plans, fitting: device)
    let plan = plans[0]
    self.plans = plans
    profiles = plans.map(\.profile)
    self.device = device
    var variants: [Variant] = []
    for plan in plans { variants.append(try Variant(Program(plan), hostOperations)) }
    self.variants = variants
    try Self.require(plans.reduce(into: []) { $0.formUnion($1.libraries) }, on: device)
    do {
      placedConstants = try device.place(constants: plan.constants.bytes)
      var images: [any DeviceImage] = []
      for image in plan.images { images.append(try device.load(image)) }
      var functions: [DeviceFunction] = []
      for function in plan.functions { functions.append(try images[function.image].function(function)) }
      self.images = images
      self.functions = functions
    } catch {
      throw EngineFileError(problems: error.problems)
    }
  }

  /// The plans of the target that suits a device best.
  ///
  /// - Throws: ``EngineFileError`` with all targets and what the device is, where none fits.
  package static func plans(of plans: [Plan], fitting device: any Device) throws(EngineFileError) -> [Plan] {
    var best: (suitability: Int, plans: [Plan])?
    var refusals: [EngineFileError] = []
    for plans in plans.byTarget {
      try plans[0].fingerprint.checkVersion()
      do throws(EngineFileError) {
        let suitability = try device.suitability(of: plans[0].fingerprint)
        if suitability > best?.suitability ?? .min { best = (suitability, plans) }
      } catch { refusals.append(error) }
    }
    if let best { return best.plans }
    if refusals.count == 1 { throw refusals[0] }
    throw EngineFileError(
      "APUS-E-0012",
      "the engine is for \(plans.targets.names), none of which runs here: \(device.name) is \(device.identity.target)",
      place: "targets", hint: "Build the engine with --target \(device.identity.target) among its targets.")
  }

  /// Makes sure that a device has the libraries that steps call, as new as they need them.
  ///
  /// - Throws: ``EngineFileError`` `APUS-E-0015` with what is needed and what there is.
  package static func require(_ libraries: Set<Library>, on device: any Device) throws(EngineFileError) {
    for library in libraries.sorted(by: { $0.rawValue < $1.rawValue }) {
      let needed = "\(library.name) \(Library.text(version: library.leastVersion)) or newer"
      let hint = "Install \(needed), or build the engine without figures that chose it."
      do throws(DeviceError) {
        let found = try device.version(of: library)
        if found >= library.leastVersion { continue }
        throw DeviceError("APUS-D-0019", "\(device.name) has \(Library.text(version: found))", place: library.name)
      } catch {
        let reasons = error.problems.map(\.message).joined(separator: "; ")
        throw EngineFileError(
          "APUS-E-0015", "the engine calls \(needed): \(reasons)", place: error.problems.first?.place ?? "", hint: hint)
      }
    }
  }

  var constants: UnsafeRawPointer { placedConstants.map { UnsafeRawPointer($0.base) } ?? plans[0].constants.address }

  /// Makes a context: the memory and state of one run at a time.
  ///
  /// - Parameters:
  ///   - memory: where working memory comes from.
  ///   - captures: whether launches are recorded and queued as a whole, where the device can do that (CUDA graphs).
  ///   - stream: a queue of the engine's device that runs go to, in turn with what else is queued there; it and all contexts
  ///     that use it belong to one thread at a time. Nil for a queue of the context's own.
  ///   - priority: which contexts' runs go first when several have work; of a context's own queue.
  ///   - timeLimit: the longest that the host waits for queued work. A context that took longer cannot be used any more, and
  ///     its memory stays taken, since its work may go on.
  /// - Throws: ``RunError`` when the device cannot make a queue, `APUS-R-0023` when memory is to be reserved for a profile
  ///   that leaves sizes open.
  public func makeContext(
    memory: MemoryStrategy = .asNeeded, captures: Bool = true, stream: (any DeviceStream)? = nil,
    priority: StreamPriority = .normal, timeLimit: Duration? = nil
  ) throws(RunError) -> ExecutionContext {
    ExecutionContext(
      state: try ContextState(
        engine: self, memory: memory, captures: captures, given: stream, priority, timeLimit))
  }

  /// Memory of the engine's device, with the bytes of a tensor.
  ///
  /// - Throws: ``RunError`` when there is not enough memory.
  public func makeBuffer(_ tensor: HostTensor) throws(RunError) -> DeviceBuffer {
    do {
      let buffer = try device.allocate(byteCount: max(tensor.byteCount, 64))
      let stream = try device.makeStream()
      tensor.withUnsafeBytes { bytes in
        if let base = bytes.baseAddress, bytes.count > 0 {
          stream.upload(from: base, to: buffer.base, byteCount: bytes.count)
        }
      }
      try stream.synchronize()
      return buffer
    } catch { throw RunError(device: error) }
  }

  /// Memory of the engine's device for `byteCount` bytes, whose content is undefined.
  public func makeBuffer(byteCount: Int) throws(RunError) -> DeviceBuffer {
    do { return try device.allocate(byteCount: max(byteCount, 64)) } catch { throw RunError(device: error) }
  }

  /// The first elements of a buffer as a tensor. Runs that write there must be done.
  public func read(_ buffer: DeviceBuffer, as dtype: DType, _ shape: [Int]) throws(RunError) -> HostTensor {
    let byteCount = shape.reduce(dtype.byteCount, saturatingMultiply)
    if byteCount > buffer.byteCount {
      throw RunError.smallMemory("the buffer", found: buffer.byteCount, needed: byteCount)
    }
    let storage = HostStorage(byteCount: byteCount)
    do {
      let stream = try device.makeStream()
      if byteCount > 0 { stream.download(from: buffer.base, to: storage.base, byteCount: byteCount) }
      try stream.synchronize()
    } catch { throw RunError(device: error) }
    return HostTensor(dtype: dtype, shape: shape, storage: storage)
  }

  /// What a run of the profile at `profile` with these input shapes needs, without allocating it.
  ///
  /// - Parameter values: elements of inputs that decide sizes; those left out are what the profile is tuned for.
  /// - Throws: ``RunError`` when a shape does not fit.
  public func memoryForecast(
    shapes: [String: [Int]], values: [String: [Int]] = [:], profile: Int = 0
  ) throws(RunError) -> MemoryForecast {
    guard plans.indices.contains(profile) else { throw RunError.unknownProfile(.index(profile), profiles) }
    return try MemoryForecast(variants[profile].program, shapes: shapes, values: values)
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
