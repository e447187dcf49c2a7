import ApusCore

/// Reads what ``PlanEncoder`` wrote, from bytes that may be anything. Indices of slots and functions are checked
/// afterwards by ``Plan/validate()``.
struct PlanDecoder {
  /// Deepest nesting of steps, types and dims, and the most parts one dim may have when written out.
  static let depthLimit = 64
  static let dimSizeLimit = 1 << 14

  private var reader: ByteReader
  private var symbols: [Symbol] = []
  private var dims: [Dim] = []
  /// What the plans of a target have in common.
  private var shared: Plan

  /// The fingerprints of the targets, each of which occurs once.
  static func fingerprints(_ reader: consuming ByteReader) throws(EngineFileError) -> [Fingerprint] {
    let fingerprints = try reader.list(minimumSize: 24) { reader throws(EngineFileError) in
      let format = try reader.int()
      let compiler = try reader.text()
      let backend = try reader.text()
      let target = try reader.text()
      return Fingerprint(
        format: format, compiler: compiler, backend: backend, target: target, features: try reader.texts())
    }
    if fingerprints.isEmpty { throw reader.malformed("the engine has no target") }
    if Set(fingerprints).count < fingerprints.count { throw reader.malformed("a target is there twice") }
    try reader.finish()
    return fingerprints
  }

  /// The plans of each target.
  static func plans(_ reader: ByteReader, _ fingerprints: [Fingerprint]) throws(EngineFileError) -> [[Plan]] {
    var decoder = PlanDecoder(reader: reader, fingerprint: fingerprints[0])
    try decoder.readSymbols()
    try decoder.readDims()
    try decoder.readShared()
    let count = try decoder.reader.count(minimumSize: 8)
    if count != fingerprints.count {
      throw decoder.reader.malformed("plans of \(fingerprints.count) targets are expected, those of \(count) are given")
    }
    var targets: [[Plan]] = []
    for fingerprint in fingerprints {
      decoder.shared.fingerprint = fingerprint
      decoder.shared.functions = try decoder.functions()
      let plans = try decoder.list(29) { decoder throws(EngineFileError) in try decoder.plan() }
      if plans.isEmpty { throw decoder.reader.malformed("target '\(fingerprint.target)' has no plan") }
      targets.append(plans)
    }
    try decoder.reader.finish()
    return targets
  }

  private init(reader: ByteReader, fingerprint: Fingerprint) {
    self.reader = reader
    shared = Plan(name: "", fingerprint: fingerprint)
  }

  private mutating func readShared() throws(EngineFileError) {
    shared.name = try reader.text()
    shared.modelHash = try reader.text()
    for _ in 0..<(try reader.count(minimumSize: 8)) {
      let key = try reader.text()
      shared.metadata[key] = try reader.text()
    }
  }

  private mutating func functions() throws(EngineFileError) -> [KernelFunction] {
    try list(16) { decoder throws(EngineFileError) in
      KernelFunction(
        image: try decoder.slotIndex(), symbol: try decoder.reader.text(), threads: try decoder.slotIndex(),
        sharedByteCount: try decoder.slotIndex())
    }
  }

  private mutating func plan() throws(EngineFileError) -> Plan {
    var plan = shared
    plan.profile = try profile()
    plan.auxiliaryLanes = Int(try reader.tag())
    plan.timings = try list(16) { decoder throws(EngineFileError) in
      Timing(work: try decoder.reader.int(), seconds: Double(bitPattern: try decoder.reader.read(UInt64.self)))
    }
    try readContent(of: &plan, depth: 0)
    return plan
  }

  private mutating func readContent(of plan: inout Plan, depth: Int) throws(EngineFileError) {
    plan.shapeSymbols = try list(4) { decoder throws(EngineFileError) in try decoder.symbol() }
    plan.runSymbols = try list(4) { decoder throws(EngineFileError) in try decoder.symbol() }
    plan.inputs = try list(10) { decoder throws(EngineFileError) in try decoder.binding() }
    plan.outputs = try list(10) { decoder throws(EngineFileError) in try decoder.binding() }
    plan.slots = try list(22) { decoder throws(EngineFileError) in try decoder.slot() }
    plan.steps = try steps(depth: depth)
  }

  private mutating func list<Element>(
    _ minimumSize: Int, _ element: (inout PlanDecoder) throws(EngineFileError) -> Element
  ) throws(EngineFileError) -> [Element] {
    let count = try reader.count(minimumSize: minimumSize)
    var elements: [Element] = []
    elements.reserveCapacity(count)
    for _ in 0..<count { elements.append(try element(&self)) }
    return elements
  }

  private mutating func slotIndex() throws(EngineFileError) -> Int { Int(try reader.read(UInt32.self)) }

  private mutating func slotIndices() throws(EngineFileError) -> [Int] {
    try list(4) { decoder throws(EngineFileError) in try decoder.slotIndex() }
  }

  /// A list of exactly `count` indices.
  private mutating func slotIndices(exactly count: Int) throws(EngineFileError) -> [Int] {
    let indices = try slotIndices()
    if indices.count != count { throw reader.malformed("\(count) slots are expected, \(indices.count) are given") }
    return indices
  }

  private mutating func flag() throws(EngineFileError) -> Bool {
    switch try reader.tag() {
    case 0: return false
    case 1: return true
    case let other: throw reader.malformed("0 or 1 is expected, \(other) is found")
    }
  }

  private mutating func optionalIndex() throws(EngineFileError) -> Int? { try flag() ? try slotIndex() : nil }

  // MARK: Sizes

  private mutating func readSymbols() throws(EngineFileError) {
    symbols = try list(21) { decoder throws(EngineFileError) in
      let name = try decoder.reader.text()
      let lower = try decoder.reader.int()
      let upper = try decoder.reader.int()
      if lower > upper { throw decoder.reader.malformed("symbol '\(name)' has the empty range \(lower)…\(upper)") }
      let opt = try decoder.flag() ? try decoder.reader.int() : nil
      return Symbol(name, Interval(lower, upper), opt: opt)
    }
  }

  private mutating func symbol() throws(EngineFileError) -> Symbol {
    symbols[try reader.index(below: symbols.count, "symbol")]
  }

  private mutating func readDims() throws(EngineFileError) {
    let count = try reader.count(minimumSize: 12)
    dims.reserveCapacity(count)
    var measures: [(depth: Int, size: Int)] = []
    measures.reserveCapacity(count)
    for _ in 0..<count {
      var measure = (depth: 0, size: 1)
      dims.append(try dimRecord(measures, &measure))
      measures.append(measure)
    }
  }

  private mutating func dimRecord(
    _ measures: [(depth: Int, size: Int)], _ measure: inout (depth: Int, size: Int)
  ) throws(EngineFileError) -> Dim {
    let constant = try reader.int()
    var summands: [Dim.Summand] = []
    for _ in 0..<(try reader.count(minimumSize: 12)) {
      let coefficient = try reader.int()
      var factors: [Dim.Factor] = []
      for _ in 0..<(try reader.count(minimumSize: 5)) {
        measure.size += 1
        factors.append(try factor(measures, &measure))
      }
      summands.append(Dim.Summand(coefficient: coefficient, factors: factors))
    }
    if measure.depth > Self.depthLimit || measure.size > Self.dimSizeLimit {
      throw reader.malformed("a size expression is nested too deep or too large")
    }
    return Dim(constantTerm: constant, summands: summands)
  }

  private mutating func factor(
    _ measures: [(depth: Int, size: Int)], _ measure: inout (depth: Int, size: Int)
  ) throws(EngineFileError) -> Dim.Factor {
    let tag = try reader.tag()
    if tag == 0 { return .symbol(try symbol()) }
    let a = try reader.index(below: measures.count, "size expression")
    let b = try reader.index(below: measures.count, "size expression")
    measure.depth = max(measure.depth, 1 + max(measures[a].depth, measures[b].depth))
    measure.size += measures[a].size + measures[b].size
    switch tag {
    case 1: return .quotient(dims[a], dims[b])
    case 2: return .minimum(dims[a], dims[b])
    case 3: return .maximum(dims[a], dims[b])
    default: throw reader.malformed("unknown part \(tag) of a size expression")
    }
  }

  private mutating func dim() throws(EngineFileError) -> Dim {
    dims[try reader.index(below: dims.count, "size expression")]
  }

  // MARK: Types and slots

  private mutating func type(depth: Int = 0) throws(EngineFileError) -> ValueType {
    if depth > 16 { throw reader.malformed("a type is nested too deep") }
    switch try reader.tag() {
    case 0:
      let dtype = try dtype()
      return .tensor(TensorType(dtype, try list(4) { decoder throws(EngineFileError) in try decoder.dim() }))
    case 1: return .sequence(try type(depth: depth + 1))
    case 2: return .optional(try type(depth: depth + 1))
    case let other: throw reader.malformed("unknown kind of type \(other)")
    }
  }

  private mutating func dtype() throws(EngineFileError) -> DType {
    let name = try reader.text()
    guard let dtype = DType(rawValue: name) else { throw reader.malformed("unknown element type '\(name)'") }
    return dtype
  }

  private mutating func map() throws(EngineFileError) -> TensorMap {
    var map = TensorMap(
      buffer: try slotIndex(), dtype: try dtype(),
      sizes: try list(4) { decoder throws(EngineFileError) in try decoder.dim() },
      strides: try list(4) { decoder throws(EngineFileError) in try decoder.dim() }, box: try slotIndices())
    if try flag() {
      // One for each axis but the innermost and the outermost.
      let count = max(map.sizes.count - 2, 0)
      var windows = TensorMap.Windows(lower: [], upper: [], steps: [])
      for _ in 0..<count { windows.lower.append(try reader.int()) }
      for _ in 0..<count { windows.upper.append(try dim()) }
      windows.steps = try slotIndices(exactly: count)
      map.windows = windows
    }
    return map
  }

  private mutating func binding() throws(EngineFileError) -> Binding {
    var binding = Binding(name: try reader.text(), type: try type(), slot: try slotIndex())
    if try flag() { binding.values = try list(4) { decoder throws(EngineFileError) in try decoder.dim() } }
    return binding
  }

  private mutating func slot() throws(EngineFileError) -> Slot {
    let name = try reader.text()
    let type = try type()
    let storage: Slot.Storage
    switch try reader.tag() {
    case 0: storage = .input(try slotIndex())
    case 1: storage = .output(try slotIndex())
    case 2: storage = .constant(offset: try reader.int())
    case 3: storage = .arena
    case 4: storage = .view(of: try slotIndex(), byteOffset: try dim())
    case 5: storage = .grown
    case 6: storage = .object
    case let other: throw reader.malformed("unknown kind of storage \(other)")
    }
    return Slot(name: name, type: type, storage: storage, firstStep: try reader.int(), lastStep: try reader.int())
  }

  private mutating func profile() throws(EngineFileError) -> Profile {
    let name = try reader.text()
    let ranges = try list(32) { decoder throws(EngineFileError) in
      Profile.Range(
        symbol: try decoder.reader.text(), min: try decoder.reader.int(), opt: try decoder.reader.int(),
        max: try decoder.reader.int(),
        steps: try decoder.list(8) { decoder throws(EngineFileError) in try decoder.reader.int() })
    }
    return Profile(name: name, ranges: ranges)
  }

  // MARK: Steps

  private mutating func steps(depth: Int) throws(EngineFileError) -> [Step] {
    if depth > Self.depthLimit { throw reader.malformed("steps are nested too deep") }
    return try list(23) { decoder throws(EngineFileError) in try decoder.step(depth: depth) }
  }

  private mutating func step(depth: Int) throws(EngineFileError) -> Step {
    let action = try action(depth: depth)
    let lane = Int(try reader.tag())
    return Step(
      action, name: try reader.text(), sources: try reader.texts(), tactic: try reader.text(), work: try dim(),
      traffic: try dim(), alternatives: try flag() ? try alternatives() : nil, lane: lane)
  }

  private mutating func alternatives() throws(EngineFileError) -> Alternatives {
    let region = try reader.text()
    let constants = try list(5) { decoder throws(EngineFileError) -> TensorType in
      guard let type = try decoder.type().tensor else { throw decoder.reader.malformed("a constant is no tensor") }
      return type
    }
    return Alternatives(
      region: region, constants: constants, tactics: try reader.texts(), chosen: try reader.text(),
      stepCount: try slotIndex())
  }

  private mutating func action(depth: Int) throws(EngineFileError) -> Step.Action {
    switch try reader.tag() {
    case 0:
      return .launch(
        Launch(
          function: try slotIndex(), buffers: try slotIndices(), writes: try slotIndices(),
          parameters: try list(4) { decoder throws(EngineFileError) in try decoder.dim() }, blocks: try dim(),
          scratchBytes: try dim(), maps: try list(20) { decoder throws(EngineFileError) in try decoder.map() }))
    case 1: return .copy(from: try slotIndex(), to: try slotIndex())
    case 2:
      return .host(
        HostCall(
          operation: try reader.text(), attributes: try reader.text(), inputs: try slotIndices(),
          outputs: try slotIndices(), boundSymbols: try reader.texts()))
    case 3: return .bind(slot: try slotIndex(), symbols: try reader.texts())
    case 4:
      return .branch(
        condition: try slotIndex(), then: try steps(depth: depth + 1), else: try steps(depth: depth + 1))
    case 5: return .loop(try loop(depth: depth + 1))
    case 6:
      return .define(
        try list(8) { decoder throws(EngineFileError) in
          Definition(symbol: try decoder.reader.text(), size: try decoder.dim())
        })
    case 7: return .piece(try piece(depth: depth + 1))
    case 8: return .library(try libraryCall())
    case let other: throw reader.malformed("unknown kind of step \(other)")
    }
  }

  private mutating func libraryCall() throws(EngineFileError) -> LibraryCall {
    let tag = try reader.tag()
    guard let library = Library(rawValue: UInt8(truncatingIfNeeded: tag)) else {
      throw reader.malformed("unknown library \(tag)")
    }
    let operation: LibraryCall.Operation
    switch library {
    case .cublasLt: operation = .matmul(try libraryMatmul())
    case .cudnn: operation = .convolution(try libraryConvolution())
    }
    return LibraryCall(
      operation, rank: try slotIndex(), buffers: try slotIndices(),
      sizes: try list(4) { decoder throws(EngineFileError) in try decoder.dim() })
  }

  private mutating func libraryMatmul() throws(EngineFileError) -> LibraryMatmul {
    var matmul = LibraryMatmul(
      dtype: try dtype(), resultDType: try dtype(), isTransposed: try flag(), hasAddend: try flag(),
      hasBias: try flag())
    let tag = try reader.tag()
    guard let activation = LibraryMatmul.Activation(rawValue: UInt8(truncatingIfNeeded: tag)) else {
      throw reader.malformed("unknown activation \(tag)")
    }
    matmul.activation = activation
    return matmul
  }

  private mutating func libraryConvolution() throws(EngineFileError) -> LibraryConvolution {
    let dtype = try dtype()
    let counts = try slotIndices(exactly: 3)
    return LibraryConvolution(
      dtype: dtype, channels: counts[0], outputs: counts[1], groups: counts[2], kernel: try slotIndices(),
      strides: try slotIndices(), dilations: try slotIndices(), pads: try slotIndices(), hasAddend: try flag(),
      hasBias: try flag(), isRectified: try flag())
  }

  private mutating func piece(depth: Int) throws(EngineFileError) -> Piece {
    let (inputs, outputs) = (try slotIndices(), try slotIndices())
    let symbols = try reader.texts()
    var plan = shared
    plan.name = try reader.text()
    try readContent(of: &plan, depth: depth)
    return Piece(plan: plan, inputs: inputs, outputs: outputs, boundSymbols: symbols)
  }

  private mutating func loop(depth: Int) throws(EngineFileError) -> Loop {
    var loop = Loop(body: [])
    loop.tripCount = try optionalIndex()
    if try flag() { loop.tripDim = try dim() }
    loop.condition = try optionalIndex()
    loop.iteration = try optionalIndex()
    loop.bodyCondition = try optionalIndex()
    loop.nextCondition = try optionalIndex()
    loop.carried = try list(17) { decoder throws(EngineFileError) in
      let slots = try decoder.slotIndices(exactly: 3)
      return Loop.Carried(initial: slots[0], current: slots[1], next: slots[2], result: try decoder.optionalIndex())
    }
    loop.stacked = try list(12) { decoder throws(EngineFileError) in
      let slots = try decoder.slotIndices(exactly: 2)
      return Loop.Stacked(element: slots[0], stacked: slots[1])
    }
    loop.sliced = try list(12) { decoder throws(EngineFileError) in
      let slots = try decoder.slotIndices(exactly: 2)
      return Loop.Sliced(source: slots[0], element: slots[1])
    }
    if try flag() { loop.countSymbol = try reader.text() }
    loop.body = try steps(depth: depth)
    return loop
  }
}
