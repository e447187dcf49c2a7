import ApusCore
import ApusPlan

/// A plan laid out for running: steps in one flat list, sizes as nodes, slots with their roots. Immutable and shared by
/// all contexts of an engine.
struct Program: Sendable {
  let plan: Plan
  private(set) var dims: DimProgram
  private(set) var slots: [SlotRecord] = []
  /// All steps in order of listing; a branch or loop is followed by the steps it holds.
  private(set) var steps: [StepRecord] = []
  private(set) var launches: [LaunchRecord] = []
  private(set) var calls: [CallRecord] = []
  private(set) var copies: [(from: Int, to: Int)] = []
  private(set) var hostCalls: [HostRecord] = []
  private(set) var binds: [BindRecord] = []
  private(set) var definitions: [DefineRecord] = []
  private(set) var loops: [LoopRecord] = []
  private(set) var pieces: [PieceRecord] = []
  /// Slots of all launches' and library calls' buffers, and nodes of all launches' integer arguments, one after the other.
  private(set) var launchSlots: [Int] = []
  private(set) var launchParameters: [Int] = []
  /// Maps of all launches, with the nodes of their numbers.
  private(set) var maps: [MapRecord] = []
  /// Runs of neighbouring steps that are launches and copies whose sizes are known before a run: what can be recorded.
  private(set) var segments: [Segment] = []
  /// The segment that begins at a step; −1 for none.
  private(set) var segmentAt: [Int] = []
  /// When slots in the arena are in use, where steps of segments are on several lanes.
  private(set) var spans: [LaneSpan?] = []
  /// For each input the rules of its axes, then those of its elements that decide sizes.
  private(set) var inputAxes: [[AxisRule]] = []
  /// By input, whether a step reads more of it than its sizes.
  private(set) var readsInput: [Bool] = []
  private(set) var outputs: [OutputRecord] = []
  /// Symbols whose sizes are filled up.
  private(set) var fillings: [Filling] = []
  /// Slots in an order in which a view comes after what it looks at.
  private(set) var viewOrder: [Int] = []
  /// Slots in the caller's memory, their views, and the positions in `launchSlots` that name either.
  private(set) var externalSlots: [Int] = []
  private(set) var externalViews: [Int] = []
  private(set) var externalBuffers: [Int] = []

  /// The plan must be valid.
  init(_ plan: Plan) {
    self.plan = plan
    dims = DimProgram(shapeSymbols: plan.shapeSymbols, runSymbols: plan.runSymbols)
    addSlots()
    for step in plan.steps { add(step) }
    for input in plan.inputs {
      inputAxes.append(((input.type.tensor?.shape ?? []) + (input.values ?? [])).map { axisRule($0) })
    }
    let touched = plan.touchedSlots()
    readsInput = plan.inputs.map { touched.contains(plan.root(of: $0.slot)) }
    for (index, output) in plan.outputs.enumerated() {
      outputs.append(
        OutputRecord(
          slot: output.slot, isDirect: plan.slots[output.slot].storage == .output(index),
          isObject: plan.slots[output.slot].holdsObject))
    }
    let isExternal = slots.map { record in
      switch slots[record.root].storage {
      case .input, .output: !record.isObject
      default: false
      }
    }
    externalSlots = slots.indices.filter { isExternal[$0] && slots[$0].root == $0 }
    externalViews = viewOrder.filter { isExternal[$0] && slots[$0].root != $0 }
    externalBuffers = launchSlots.indices.filter { isExternal[launchSlots[$0]] }
    fillings = plan.profile.ranges.filter { !$0.steps.isEmpty }.map { Filling($0, of: plan) }
    segmentAt = [Int](repeating: -1, count: steps.count)
    addSegments(from: 0, to: steps.count)
    segments = Segment.ordered(segments, of: plan)
    if segments.contains(where: { $0.order != nil }) { spans = LaneSpan.spans(of: plan, segments) }
  }
}

extension Program {
  /// The sizes of each input, of those of all inputs.
  func shapes(of sizes: [Int]) -> [[Int]] {
    var rest = sizes[...]
    return inputAxes.map { rules in
      defer { rest = rest.dropFirst(rules.count) }
      return Array(rest.prefix(rules.count))
    }
  }
}

/// Steps that can be recorded together.
struct Segment: Sendable {
  var first: Int
  var end: Int
  /// How steps on several lanes keep to their order; nil where all are on the first.
  var order: LaneOrder?
}

struct SlotRecord: Sendable {
  var dtype: DType
  var isObject: Bool
  /// Nodes of the sizes; empty for host values that are not tensors.
  var shape: [Int]
  var storage: Slot.Storage
  /// The slot whose memory this one lies in.
  var root: Int
  /// Node of a view's byte offset.
  var viewOffset: Int
  /// Whether size or address are known only when a step that uses it is reached.
  var isLate: Bool
}

struct StepRecord: Sendable {
  enum Kind: Sendable { case launch, library, copy, host, bind, define, branch, loop, piece }
  var kind: Kind
  /// Index into the table of its kind; the condition's slot for a branch.
  var index: Int
  /// First step of a branch's else part.
  var middle: Int
  /// The step after this one and all it holds.
  var end: Int
  var work: Int
  var traffic: Int
}

struct LaunchRecord: Sendable {
  var function: Int
  var firstBuffer: Int
  var bufferCount: Int
  var firstParameter: Int
  var parameterCount: Int
  var firstMap: Int
  var mapCount: Int
  var blocks: Int
  var scratch: Int
  var scratchBytes: Dim
  var isLate: Bool
  var step: Int
}

struct CallRecord: Sendable {
  var call: LibraryCall
  var firstBuffer: Int
  /// Nodes of the sizes.
  var sizes: [Int]
  var isLate: Bool
  var step: Int
}

struct MapRecord: Sendable {
  var map: TensorMap
  /// Sizes, then strides, then where windows end.
  var nodes: [Int]
}

struct HostRecord: Sendable {
  var call: HostCall
  /// For each result the axes whose real size sets a symbol, with its node.
  var bound: [[(axis: Int, node: Int)]]
  var step: Int
}

struct BindRecord: Sendable {
  var slot: Int
  var nodes: [Int]
}

struct DefineRecord: Sendable {
  var nodes: [Int]
  var sizes: [Int]
}

struct LoopRecord: Sendable {
  var loop: Loop
  var tripNode: Int?
  var countNode: Int?
  /// Whether a `next` is another value's `current`, so that all must be read before any is written.
  var needsStaging: Bool
}

struct PieceRecord: Sendable {
  var program: Program
  var inputs: [Int]
  var outputs: [Int]
  /// For each of the piece's shape symbols the node that has its value.
  var symbolNodes: [Int]
  /// Nodes in the piece and around it of the symbols that the piece sets.
  var bound: [(inner: Int, outer: Int)]
}

struct OutputRecord: Sendable {
  var slot: Int
  /// Whether steps write straight into the output's memory; else it is copied there at the end.
  var isDirect: Bool
  var isObject: Bool
}

/// How the size of an input's axis, or an element that decides sizes, is checked or used.
enum AxisRule: Sendable {
  case constant(Int)
  case symbol(node: Int)
  /// `coefficient · symbol + constant`.
  case linear(symbol: Int, coefficient: Int, constant: Int, node: Int)
  case computed(node: Int)
}

// MARK: Laying out

extension Program {
  /// The names of all steps in order of listing.
  var stepNames: [String] {
    func names(_ steps: [Step]) -> [String] {
      steps.flatMap { (step: Step) -> [String] in [step.name] + step.action.nested.flatMap { names($0) } }
    }
    return names(plan.steps)
  }

  private mutating func addSlots() {
    for slot in plan.slots {
      var viewOffset = 0
      if case .view(_, let offset) = slot.storage { viewOffset = dims.add(offset) }
      let shape = slot.type.tensor?.shape.map { dims.add($0) } ?? []
      slots.append(
        SlotRecord(
          dtype: slot.type.tensor?.dtype ?? .u8, isObject: slot.holdsObject, shape: shape, storage: slot.storage,
          root: 0, viewOffset: viewOffset, isLate: shape.contains { dims.isLate[$0] } || slot.storage == .grown))
    }
    var depths: [(depth: Int, slot: Int)] = []
    for index in slots.indices {
      var depth = 0
      var slot = index
      while case .view(let next, _) = slots[slot].storage {
        depth += 1
        if dims.isLate[slots[slot].viewOffset] { slots[index].isLate = true }
        slot = next
      }
      slots[index].root = slot
      if slots[slot].isLate { slots[index].isLate = true }
      depths.append((depth, index))
    }
    viewOrder = depths.sorted { $0 < $1 }.map(\.slot)
  }

  private mutating func add(_ step: Step) {
    let number = steps.count
    steps.append(
      StepRecord(
        kind: .launch, index: 0, middle: 0, end: 0, work: dims.add(step.work), traffic: dims.add(step.traffic)))
    switch step.action {
    case .launch(let launch):
      steps[number].index = launches.count
      add(launch, step: number)
    case .library(let call):
      steps[number].kind = .library
      steps[number].index = calls.count
      let sizes = call.sizes.map { dims.add($0) }
      calls.append(
        CallRecord(
          call: call, firstBuffer: launchSlots.count, sizes: sizes,
          isLate: call.buffers.contains { slots[$0].isLate } || sizes.contains { dims.isLate[$0] }, step: number))
      launchSlots += call.buffers
    case .copy(let from, let to):
      steps[number].kind = .copy
      steps[number].index = copies.count
      copies.append((from, to))
    case .host(let call):
      steps[number].kind = .host
      steps[number].index = hostCalls.count
      hostCalls.append(HostRecord(call: call, bound: boundAxes(call), step: number))
    case .bind(let slot, let symbols):
      steps[number].kind = .bind
      steps[number].index = binds.count
      binds.append(BindRecord(slot: slot, nodes: symbols.compactMap { dims.node(ofSymbol: $0) }))
    case .define(let list):
      steps[number].kind = .define
      steps[number].index = definitions.count
      definitions.append(
        DefineRecord(
          nodes: list.compactMap { dims.node(ofSymbol: $0.symbol) }, sizes: list.map { dims.add($0.size) }))
    case .branch(let condition, let then, let otherwise):
      steps[number].kind = .branch
      steps[number].index = condition
      for step in then { add(step) }
      steps[number].middle = steps.count
      for step in otherwise { add(step) }
    case .loop(let loop):
      steps[number].kind = .loop
      steps[number].index = loops.count
      let record = record(loop)
      loops.append(record)
      for step in loop.body { add(step) }
    case .piece(let piece):
      steps[number].kind = .piece
      steps[number].index = pieces.count
      let record = record(piece)
      pieces.append(record)
      // The piece runs its steps by itself: here they only keep the numbering.
      steps += [StepRecord](repeating: steps[number], count: record.program.steps.count)
    }
    steps[number].end = steps.count
  }

  /// Finds the segments of steps of one level, and of those that they hold.
  private mutating func addSegments(from first: Int, to end: Int) {
    var start = first
    var step = first
    func isRecordable(_ record: StepRecord) -> Bool {
      switch record.kind {
      case .launch: !launches[record.index].isLate
      case .library: !calls[record.index].isLate
      case .copy:
        ![copies[record.index].from, copies[record.index].to].contains { slots[$0].isLate || slots[$0].isObject }
      case .host, .bind, .define, .branch, .loop, .piece: false
      }
    }
    func close() {
      guard step - start > 1 else { return }
      segmentAt[start] = segments.count
      segments.append(Segment(first: start, end: step))
    }
    while step < end {
      let record = steps[step]
      if isRecordable(record) {
        step = record.end
        continue
      }
      close()
      switch record.kind {
      case .branch:
        addSegments(from: step + 1, to: record.middle)
        addSegments(from: record.middle, to: record.end)
      case .loop: addSegments(from: step + 1, to: record.end)
      case .launch, .library, .copy, .host, .bind, .define, .piece: break
      }
      step = record.end
      start = step
    }
    close()
  }

  private mutating func add(_ launch: Launch, step: Int) {
    let blocks = dims.add(launch.blocks)
    let scratch = dims.add(launch.scratchBytes)
    let parameters = launch.parameters.map { dims.add($0) }
    let records = launch.maps.map { map in MapRecord(map: map, nodes: map.dims.map { dims.add($0) }) }
    let isLate =
      launch.buffers.contains { slots[$0].isLate }
      || (parameters + [blocks, scratch] + records.flatMap(\.nodes)).contains { dims.isLate[$0] }
    launches.append(
      LaunchRecord(
        function: launch.function, firstBuffer: launchSlots.count, bufferCount: launch.buffers.count,
        firstParameter: launchParameters.count, parameterCount: parameters.count, firstMap: maps.count,
        mapCount: records.count, blocks: blocks, scratch: scratch,
        scratchBytes: launch.scratchBytes, isLate: isLate, step: step))
    launchSlots += launch.buffers
    launchParameters += parameters
    maps += records
  }

  private func boundAxes(_ call: HostCall) -> [[(axis: Int, node: Int)]] {
    call.outputs.map { slot in
      let shape = plan.slots[slot].type.tensor?.shape ?? []
      return shape.enumerated().compactMap { axis, dim in
        guard let symbol = dim.asSymbol, call.boundSymbols.contains(symbol.name),
          let node = dims.node(ofSymbol: symbol.name)
        else { return nil }
        return (axis, node)
      }
    }
  }

  private mutating func record(_ loop: Loop) -> LoopRecord {
    let roots = loop.carried.map { plan.root(of: $0.current) }
    let needsStaging = loop.carried.indices.contains { index in
      roots[..<index].contains(plan.root(of: loop.carried[index].next))
    }
    return LoopRecord(
      loop: loop, tripNode: loop.tripDim.map { dims.add($0) },
      countNode: loop.countSymbol.flatMap { dims.node(ofSymbol: $0) }, needsStaging: needsStaging)
  }

  private func record(_ piece: Piece) -> PieceRecord {
    let program = Program(piece.plan)
    return PieceRecord(
      program: program, inputs: piece.inputs, outputs: piece.outputs,
      symbolNodes: piece.plan.shapeSymbols.compactMap { dims.node(ofSymbol: $0.name) },
      bound: piece.boundSymbols.compactMap { name in
        guard let inner = program.dims.node(ofSymbol: name), let outer = dims.node(ofSymbol: name) else { return nil }
        return (inner, outer)
      })
  }

  private mutating func axisRule(_ dim: Dim) -> AxisRule {
    if let value = dim.constantValue { return .constant(value) }
    let node = dims.add(dim)
    if dim.asSymbol != nil { return .symbol(node: node) }
    let summands = dim.summands
    if summands.count == 1, summands[0].factors.count == 1, summands[0].coefficient != 0,
      case .symbol(let symbol) = summands[0].factors[0], let symbolNode = dims.node(ofSymbol: symbol.name)
    {
      return .linear(
        symbol: symbolNode, coefficient: summands[0].coefficient, constant: dim.constantTerm, node: node)
    }
    return .computed(node: node)
  }
}
