public import ApusCore
public import ApusPlan

/// What a run with given input shapes needs of memory.
public struct MemoryForecast: Sendable, Hashable {
  /// Bytes of the context's arena, in which tensors that do not live at the same time share memory.
  public var arenaByteCount: Int
  /// Bytes of all tensors in the arena if none shared memory.
  public var tensorByteCount: Int
  /// The most bytes that live at one time: no arena can be smaller.
  public var lowerBoundByteCount: Int
  /// Working memory that each thread needs.
  public var scratchByteCount: Int
  /// Bytes of the inputs.
  public var inputByteCount: Int
  /// Bytes of the outputs whose sizes are known.
  public var outputByteCount: Int
  public var constantByteCount: Int
  public var imageByteCount: Int
  /// Number of tensors whose sizes are known only while running.
  public var lateTensorCount: Int

  /// What drivers of GPUs take beside: code, and as much as a unit for recorded launches. They take memory in units of 2 MiB.
  public var driverByteCount: Int {
    let unit = 2 << 20
    return saturatingAdd(saturatingMultiply((imageByteCount - 1) / unit + 1, unit), unit)
  }

  /// Bytes of a device that has memory of its own: for the engine, and one context whose inputs and outputs are in the host's
  /// memory. Tensors whose sizes only a run tells come on top.
  public var deviceByteCount: Int {
    [driverByteCount, arenaByteCount, WorkspaceNeed.aligned(scratchByteCount), inputByteCount, outputByteCount]
      .reduce(constantByteCount, saturatingAdd)
  }
}

extension Plan {
  /// Bytes of the arena that are enough for every shape of the profile; nil when it leaves sizes open.
  public var largestArenaByteCount: Int? {
    if (try? validate()) == nil { return nil }
    guard let need = (try? MemoryCeiling(Program(self)))?.need else { return nil }
    return saturatingAdd(need.arena, need.pieceArena)
  }

  /// What a run with these input shapes needs, for an engine of any target; inputs without symbols may be left out.
  ///
  /// - Parameter values: elements of inputs that decide sizes; those left out are what the profile is tuned for.
  /// - Throws: ``RunError`` when a shape does not fit.
  public func memoryForecast(
    shapes: [String: [Int]], values: [String: [Int]] = [:]
  ) throws(RunError) -> MemoryForecast {
    do { try validate() } catch { throw RunError(problems: error.problems) }
    return try MemoryForecast(Program(self), shapes: shapes, values: values)
  }
}

extension MemoryForecast {
  init(_ program: Program, shapes: [String: [Int]], values: [String: [Int]]) throws(RunError) {
    self.init(program, try Self.bound(program, shapes: shapes, values: values))
  }

  /// The plan bound to shapes and values by name, without memory.
  static func bound(
    _ program: Program, shapes: [String: [Int]], values: [String: [Int]]
  ) throws(RunError) -> BoundPlan {
    let plan = program.plan
    var problems: [Diagnostic] = []
    var ordered: [[Int]] = []
    for name in shapes.keys.sorted() where !plan.inputs.contains(where: { $0.name == name }) {
      problems.append(RunError.unknownInput(name, plan))
    }
    for input in plan.inputs {
      let shape = shapes[input.name] ?? input.type.tensor?.constantShape ?? []
      let elements = values[input.name] ?? input.values?.compactMap { $0.evaluate(plan.profile.opt) } ?? []
      if elements.count != input.values?.count ?? 0 { problems.append(RunError.missingInput(input)) }
      ordered.append(shape + elements)
      guard let type = input.type.tensor else { continue }
      if shapes[input.name] == nil, type.constantShape == nil {
        problems.append(RunError.missingInput(input))
      } else if let problem = RunError.badShape(input, type, shape) {
        problems.append(problem)
      }
    }
    if !problems.isEmpty { throw RunError(problems: problems) }
    var sizes = ordered.flatMap { $0 }
    for filling in program.fillings { _ = filling.fillUp(&sizes) }
    return try BoundPlan(program, shapes: program.shapes(of: sizes), memoryLimit: .max / 4)
  }

  private init(_ program: Program, _ bound: BoundPlan) {
    let plan = program.plan
    arenaByteCount = saturatingAdd(bound.arena.byteCount, bound.need.pieceArena)
    tensorByteCount = bound.arena.sum
    lowerBoundByteCount = bound.arena.lowerBound
    scratchByteCount = bound.need.scratch
    inputByteCount = plan.inputs.reduce(0) { saturatingAdd($0, max(bound.byteCounts[$1.slot], 0)) }
    outputByteCount = program.outputs.reduce(0) { saturatingAdd($0, max(bound.byteCounts[$1.slot], 0)) }
    constantByteCount = plan.constants.byteCount
    imageByteCount = plan.images.reduce(0) { $0 + $1.bytes.count }
    lateTensorCount = program.lateTensorCount
  }
}

extension Program {
  var lateTensorCount: Int {
    pieces.reduce(slots.count { $0.isLate && !$0.isObject }) { $0 + $1.program.lateTensorCount }
  }
}
