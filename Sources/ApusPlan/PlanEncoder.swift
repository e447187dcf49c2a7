import ApusCore

/// Writes the section of an engine's plans: what all share, then for each target what its plans share and each of them.
///
/// Sizes are kept once each: a table of symbols, a table of dims whose parts come before them, then everything else,
/// which names dims by index.
struct PlanEncoder {
  private var symbols: [Symbol: Int] = [:]
  private var symbolTable = ByteWriter()
  private var dims: [Dim: Int] = [:]
  private var dimTable = ByteWriter()
  private var body = ByteWriter()

  /// - Parameter targets: the plans of each target; there is at least one.
  static func encode(_ targets: [[Plan]]) -> [UInt8] {
    var encoder = PlanEncoder()
    encoder.writeShared(targets[0][0])
    encoder.list(targets) { encoder, plans in
      encoder.write(plans[0].functions)
      encoder.list(plans) { $0.write($1) }
    }
    var section = ByteWriter()
    section.append(count: encoder.symbols.count)
    section.append(bytes: encoder.symbolTable.bytes)
    section.append(count: encoder.dims.count)
    section.append(bytes: encoder.dimTable.bytes)
    section.append(bytes: encoder.body.bytes)
    return section.bytes
  }

  static func encode(_ fingerprints: [Fingerprint]) -> [UInt8] {
    var writer = ByteWriter()
    writer.append(count: fingerprints.count)
    for fingerprint in fingerprints {
      writer.append(fingerprint.format)
      writer.append(fingerprint.compiler)
      writer.append(fingerprint.backend)
      writer.append(fingerprint.target)
      writer.append(fingerprint.features)
    }
    return writer.bytes
  }

  private mutating func writeShared(_ plan: Plan) {
    body.append(plan.name)
    body.append(plan.modelHash)
    body.append(count: plan.metadata.count)
    for (key, value) in plan.metadata.sorted(by: { $0.key < $1.key }) {
      body.append(key)
      body.append(value)
    }
  }

  private mutating func write(_ functions: [KernelFunction]) {
    list(functions) { encoder, function in
      encoder.body.append(count: function.image)
      encoder.body.append(function.symbol)
      encoder.body.append(count: function.threads)
      encoder.body.append(count: function.sharedByteCount)
    }
  }

  private mutating func write(_ plan: Plan) {
    write(plan.profile)
    body.append(UInt8(plan.auxiliaryLanes))
    list(plan.timings) { encoder, timing in
      encoder.body.append(timing.work)
      encoder.body.append(timing.seconds.bitPattern)
    }
    writeContent(plan)
  }

  private mutating func writeContent(_ plan: Plan) {
    list(plan.shapeSymbols) { $0.body.append(count: $0.index(of: $1)) }
    list(plan.runSymbols) { $0.body.append(count: $0.index(of: $1)) }
    list(plan.inputs) { $0.write($1) }
    list(plan.outputs) { $0.write($1) }
    list(plan.slots) { $0.write($1) }
    list(plan.steps) { $0.write($1) }
  }

  private mutating func list<Element>(_ elements: [Element], _ write: (inout PlanEncoder, Element) -> Void) {
    body.append(count: elements.count)
    for element in elements { write(&self, element) }
  }

  private mutating func slots(_ indices: [Int]) { list(indices) { $0.body.append(count: $1) } }

  private mutating func optional(_ index: Int?) {
    body.append(UInt8(index == nil ? 0 : 1))
    if let index { body.append(count: index) }
  }

  // MARK: Sizes

  private mutating func index(of symbol: Symbol) -> Int {
    if let index = symbols[symbol] { return index }
    let index = symbols.count
    symbols[symbol] = index
    symbolTable.append(symbol.name)
    symbolTable.append(symbol.range.lower)
    symbolTable.append(symbol.range.upper)
    symbolTable.append(UInt8(symbol.opt == nil ? 0 : 1))
    if let opt = symbol.opt { symbolTable.append(opt) }
    return index
  }

  private mutating func index(of dim: Dim) -> Int {
    if let index = dims[dim] { return index }
    var record = ByteWriter()
    record.append(dim.constantTerm)
    let summands = dim.summands
    record.append(count: summands.count)
    for summand in summands {
      record.append(summand.coefficient)
      record.append(count: summand.factors.count)
      for factor in summand.factors {
        switch factor {
        case .symbol(let symbol):
          record.append(UInt8(0))
          record.append(count: index(of: symbol))
        case .quotient(let a, let b): pair(1, a, b, into: &record)
        case .minimum(let a, let b): pair(2, a, b, into: &record)
        case .maximum(let a, let b): pair(3, a, b, into: &record)
        }
      }
    }
    let index = dims.count
    dims[dim] = index
    dimTable.append(bytes: record.bytes)
    return index
  }

  private mutating func pair(_ tag: UInt8, _ a: Dim, _ b: Dim, into record: inout ByteWriter) {
    let first = index(of: a)
    let second = index(of: b)
    record.append(tag)
    record.append(count: first)
    record.append(count: second)
  }

  private mutating func write(_ dim: Dim) { body.append(count: index(of: dim)) }

  // MARK: Types and slots

  private mutating func write(_ type: ValueType) {
    switch type {
    case .tensor(let tensor):
      body.append(UInt8(0))
      body.append(tensor.dtype.rawValue)
      list(tensor.shape) { $0.write($1) }
    case .sequence(let element):
      body.append(UInt8(1))
      write(element)
    case .optional(let element):
      body.append(UInt8(2))
      write(element)
    }
  }

  private mutating func write(_ binding: Binding) {
    body.append(binding.name)
    write(binding.type)
    body.append(count: binding.slot)
    body.append(UInt8(binding.values == nil ? 0 : 1))
    if let values = binding.values { list(values) { $0.write($1) } }
  }

  private mutating func write(_ slot: Slot) {
    body.append(slot.name)
    write(slot.type)
    switch slot.storage {
    case .input(let index):
      body.append(UInt8(0))
      body.append(count: index)
    case .output(let index):
      body.append(UInt8(1))
      body.append(count: index)
    case .constant(let offset):
      body.append(UInt8(2))
      body.append(offset)
    case .arena: body.append(UInt8(3))
    case .view(let of, let byteOffset):
      body.append(UInt8(4))
      body.append(count: of)
      write(byteOffset)
    case .grown: body.append(UInt8(5))
    case .object: body.append(UInt8(6))
    }
    body.append(slot.firstStep)
    body.append(slot.lastStep)
  }

  private mutating func write(_ profile: Profile) {
    body.append(profile.name)
    list(profile.ranges) { encoder, range in
      encoder.body.append(range.symbol)
      encoder.body.append(range.min)
      encoder.body.append(range.opt)
      encoder.body.append(range.max)
      encoder.list(range.steps) { $0.body.append($1) }
    }
  }

  // MARK: Steps

  private mutating func write(_ step: Step) {
    write(step.action)
    body.append(UInt8(step.lane))
    body.append(step.name)
    body.append(step.sources)
    body.append(step.tactic)
    write(step.work)
    write(step.traffic)
    body.append(UInt8(step.alternatives == nil ? 0 : 1))
    guard let alternatives = step.alternatives else { return }
    body.append(alternatives.region)
    list(alternatives.constants) { $0.write(.tensor($1)) }
    body.append(alternatives.tactics)
    body.append(alternatives.chosen)
    body.append(count: alternatives.stepCount)
  }

  private mutating func write(_ action: Step.Action) {
    switch action {
    case .launch(let launch):
      body.append(UInt8(0))
      body.append(count: launch.function)
      slots(launch.buffers)
      slots(launch.writes)
      list(launch.parameters) { $0.write($1) }
      write(launch.blocks)
      write(launch.scratchBytes)
      list(launch.maps) { encoder, map in
        encoder.body.append(count: map.buffer)
        encoder.body.append(map.dtype.rawValue)
        encoder.list(map.sizes) { $0.write($1) }
        encoder.list(map.strides) { $0.write($1) }
        encoder.slots(map.box)
        encoder.body.append(UInt8(map.windows == nil ? 0 : 1))
        if let windows = map.windows {
          for value in windows.lower { encoder.body.append(Int64(value)) }
          for dim in windows.upper { encoder.write(dim) }
          encoder.slots(windows.steps)
        }
      }
    case .library(let call):
      body.append(UInt8(8))
      write(call)
    case .copy(let from, let to):
      body.append(UInt8(1))
      body.append(count: from)
      body.append(count: to)
    case .host(let call):
      body.append(UInt8(2))
      body.append(call.operation)
      body.append(call.attributes)
      slots(call.inputs)
      slots(call.outputs)
      body.append(call.boundSymbols)
    case .bind(let slot, let symbols):
      body.append(UInt8(3))
      body.append(count: slot)
      body.append(symbols)
    case .define(let definitions):
      body.append(UInt8(6))
      list(definitions) { encoder, definition in
        encoder.body.append(definition.symbol)
        encoder.write(definition.size)
      }
    case .branch(let condition, let then, let otherwise):
      body.append(UInt8(4))
      body.append(count: condition)
      list(then) { $0.write($1) }
      list(otherwise) { $0.write($1) }
    case .loop(let loop):
      body.append(UInt8(5))
      write(loop)
    case .piece(let piece):
      body.append(UInt8(7))
      slots(piece.inputs)
      slots(piece.outputs)
      body.append(piece.boundSymbols)
      body.append(piece.plan.name)
      writeContent(piece.plan)
    }
  }

  private mutating func write(_ call: LibraryCall) {
    body.append(call.library.rawValue)
    switch call.operation {
    case .matmul(let matmul):
      body.append(matmul.dtype.rawValue)
      body.append(matmul.resultDType.rawValue)
      for flag in [matmul.isTransposed, matmul.hasAddend, matmul.hasBias] { body.append(UInt8(flag ? 1 : 0)) }
      body.append(matmul.activation.rawValue)
    case .convolution(let convolution):
      body.append(convolution.dtype.rawValue)
      slots([convolution.channels, convolution.outputs, convolution.groups])
      for list in [convolution.kernel, convolution.strides, convolution.dilations, convolution.pads] { slots(list) }
      for flag in [convolution.hasAddend, convolution.hasBias, convolution.isRectified] {
        body.append(UInt8(flag ? 1 : 0))
      }
    }
    body.append(count: call.rank)
    slots(call.buffers)
    list(call.sizes) { $0.write($1) }
  }

  private mutating func write(_ loop: Loop) {
    optional(loop.tripCount)
    body.append(UInt8(loop.tripDim == nil ? 0 : 1))
    if let trip = loop.tripDim { write(trip) }
    optional(loop.condition)
    optional(loop.iteration)
    optional(loop.bodyCondition)
    optional(loop.nextCondition)
    list(loop.carried) { encoder, carried in
      encoder.slots([carried.initial, carried.current, carried.next])
      encoder.optional(carried.result)
    }
    list(loop.stacked) { $0.slots([$1.element, $1.stacked]) }
    list(loop.sliced) { $0.slots([$1.source, $1.element]) }
    body.append(UInt8(loop.countSymbol == nil ? 0 : 1))
    if let symbol = loop.countSymbol { body.append(symbol) }
    list(loop.body) { $0.write($1) }
  }
}
