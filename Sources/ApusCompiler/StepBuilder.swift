package import ApusCore
package import ApusGraph
package import ApusPlan

/// What the plans of one engine share: constants, and those of one target functions too; equal ones once.
struct SharedParts {
  private(set) var functions: [KernelFunction] = []
  /// Sources of the functions that are in no image yet, the last ones.
  private(set) var sources: [String] = []
  /// A function's name is the hash of its source.
  private var functionByName: [String: Int] = [:]
  var constants: ConstantPool
  private var packed: [PackedKey: (source: HostTensor, offset: Int, type: TensorType)] = [:]

  private struct PackedKey: Hashable {
    let storage: ObjectIdentifier
    let byteOffset: Int
    let shape: [Int]
    let layout: String
  }

  /// Starts with the constants of an engine's plans; empty for none.
  init(continuing plans: [Plan]) { constants = ConstantPool(continuing: plans) }

  /// Goes on to a target, with the functions of its plans that are there already.
  mutating func begin(continuing plans: [Plan]) {
    functions = plans.first?.functions ?? []
    sources = []
    functionByName = [:]
    for (index, function) in functions.enumerated() { functionByName[function.symbol] = index }
  }

  /// Offset and type of a constant in a layout. What lies in a mapped file is packed once for all plans.
  mutating func addPacked(_ tensor: HostTensor, _ layout: PackedLayout) -> (offset: Int, type: TensorType) {
    let key = PackedKey(
      storage: ObjectIdentifier(tensor.storage), byteOffset: tensor.byteOffset, shape: tensor.shape, layout: layout.name
    )
    if let known = packed[key] { return (known.offset, known.type) }
    let result = layout.pack(tensor)
    let offset = constants.add(result)
    // The source is kept, so that no other storage takes its identity.
    if tensor.storage.isBorrowed { packed[key] = (tensor, offset, result.type) }
    return (offset, result.type)
  }

  /// The function that a source defines.
  mutating func function(_ code: KernelCode) -> Int {
    let symbol = "k\(ContentHash.hex([code.source]))"
    if let index = functionByName[symbol] { return index }
    functions.append(
      KernelFunction(image: -1, symbol: symbol, threads: code.threads, sharedByteCount: code.sharedByteCount))
    sources.append(code.source.replacing("KERNEL_NAME", with: symbol))
    functionByName[symbol] = functions.count - 1
    return functions.count - 1
  }

  /// Says which images the new functions are in: one for all, or one for each, behind `earlier` ones.
  mutating func place(in images: [KernelImage], behind earlier: Int) {
    let first = functions.count - sources.count
    for index in sources.indices { functions[first + index].image = earlier + (images.count == 1 ? 0 : index) }
  }

  /// The source of a function, when it is new.
  func source(of function: Int) -> String? {
    let first = functions.count - sources.count
    return function < first ? nil : sources[function - first]
  }
}

/// Collects the slots and steps of a plan, and the functions and constants that it shares with others.
package struct StepBuilder {
  package private(set) var slots: [Slot] = []
  package private(set) var steps: [Step] = []
  private var slotByValue: [ValueID: Int] = [:]
  private(set) var shared: SharedParts
  package private(set) var graph: Graph

  init(_ graph: Graph, sharing shared: SharedParts) {
    self.graph = graph
    self.shared = shared
  }

  // MARK: Slots

  /// The slot of a value that is in memory.
  ///
  /// - Precondition: the value has been placed or is a constant.
  package mutating func slot(_ value: ValueID) -> Int {
    if let slot = slotByValue[value] { return slot }
    guard let constant = graph[value].constant else {
      preconditionFailure("value \(value.index) '\(graph[value].name)' was not computed")
    }
    let slot = addConstant(constant, name: graph[value].name)
    slotByValue[value] = slot
    return slot
  }

  package mutating func place(_ value: ValueID, in slot: Int) { slotByValue[value] = slot }

  package mutating func addSlot(_ name: String, _ type: ValueType, _ storage: Slot.Storage) -> Int {
    slots.append(Slot(name: name, type: type, storage: storage))
    return slots.count - 1
  }

  /// Makes room for a value that a step is about to compute.
  package mutating func allocate(_ value: ValueID) -> Int {
    if let slot = slotByValue[value] { return slot }
    let slot = addSlot(graph[value].name, graph[value].type, storage(for: graph[value].type))
    slotByValue[value] = slot
    return slot
  }

  func isPlaced(_ value: ValueID) -> Bool { slotByValue[value] != nil }

  /// Puts a value that a step is about to compute into a part of a slot.
  mutating func place(_ value: ValueID, inside slot: Int, byteOffset: Dim) -> Int {
    let part = addSlot(graph[value].name, graph[value].type, .view(of: slot, byteOffset: byteOffset))
    slotByValue[value] = part
    parts.insert(part)
    return part
  }

  /// Slots that are computed though their memory is another's.
  private var parts: Set<Int> = []

  /// Whether a value was put into another's slot there.
  func lies(_ value: ValueID, in other: ValueID, byteOffset: Dim) -> Bool {
    guard let slot = slotByValue[value], parts.contains(slot), let base = slotByValue[other] else { return false }
    return slots[slot].storage == .view(of: base, byteOffset: byteOffset)
  }

  /// Memory for bytes that live between two launches of one region.
  package mutating func addTemporary(_ dtype: DType, _ count: Dim) -> Int {
    let type = TensorType(dtype, [count])
    return addSlot("", .tensor(type), storage(for: .tensor(type)))
  }

  private func storage(for type: ValueType) -> Slot.Storage {
    guard let tensor = type.tensor, tensor.dtype != .string else { return .object }
    return tensor.shape.contains { $0.symbols.contains { isRunSymbol($0) } } ? .grown : .arena
  }

  package func isRunSymbol(_ symbol: Symbol) -> Bool { runSymbols.contains(symbol.name) }

  /// Names of the symbols that steps set.
  package var runSymbols: Set<String> = []

  package mutating func addConstant(_ tensor: HostTensor, name: String) -> Int {
    return addSlot(name, .tensor(tensor.type), .constant(offset: shared.constants.add(tensor)))
  }

  /// A constant as a template keeps it.
  package mutating func addPacked(_ tensor: HostTensor, _ layout: PackedLayout, name: String) -> Int {
    let (offset, type) = shared.addPacked(tensor, layout)
    return addSlot(name, .tensor(type), .constant(offset: offset))
  }

  // MARK: Steps

  package mutating func add(_ step: Step) { steps.append(step) }

  /// Slots from this one on came into being with the region that is being computed.
  private var firstOwnSlot = 0

  /// Says that the launches from now on compute a region: of the slots that they name, they write those that are made from now
  /// on, which is where its results and what lies between its launches go.
  mutating func beginRegion() { firstOwnSlot = slots.count }

  /// Adds the launch of a kernel; equal sources share one function.
  ///
  /// - Parameters:
  ///   - writes: positions of the buffers that it writes; nil for all that are the region's own.
  ///   - traffic: bytes that it reads and writes; nil for each of its buffers once.
  package mutating func launch(
    _ code: KernelCode, buffers: [Int], writes: [Int]? = nil, name: String, sources: [String], tactic: String,
    work: Dim,
    traffic: Dim? = nil
  ) {
    let traffic = traffic ?? Dim.sum(Set(buffers).sorted().compactMap { slots[$0].type.tensor?.byteCount })
    var code = code
    if code.asksEarly {
      let small = buffers.enumerated().compactMap { index, slot in
        smallConstantBytes(slot).map { " F(\(index), \($0))" }
      }
      code.source = "#define LAUNCH_CONSTANTS(F)\(small.joined())\n" + code.source
    }
    let launch = Launch(
      function: shared.function(code), buffers: buffers,
      writes: writes ?? buffers.indices.filter { isOwn(buffers[$0]) }, parameters: code.parameters,
      blocks: code.blocks, scratchBytes: code.scratchBytes, maps: code.maps)
    add(Step(.launch(launch), name: name, sources: sources, tactic: tactic, work: work, traffic: traffic))
  }

  private func isOwn(_ slot: Int) -> Bool {
    var slot = slot
    while !parts.contains(slot), let base = slots[slot].viewed { slot = base }
    if case .constant = slots[slot].storage { return false }
    return slot >= firstOwnSlot
  }

  /// The slot whose memory a slot is in.
  func root(of slot: Int) -> Int {
    var slot = slot
    while let base = slots[slot].viewed { slot = base }
    return slot
  }

  /// Bytes of a constant that a launch reads as a whole and can ask for before it may read what other steps make.
  private func smallConstantBytes(_ slot: Int) -> Int? {
    guard case .constant = slots[slot].storage, let bytes = slots[slot].type.tensor?.byteCount.constantValue,
      (16...(32 << 10)).contains(bytes)
    else { return nil }
    return bytes
  }

  /// Adds a call of a library.
  package mutating func call(_ call: LibraryCall, name: String, sources: [String], tactic: String, work: Dim) {
    let traffic = Dim.sum(call.buffers.dropLast().compactMap { slots[$0].type.tensor?.byteCount })
    add(Step(.library(call), name: name, sources: sources, tactic: tactic, work: work, traffic: traffic))
  }

  /// Says in which other ways the steps from `first` on can be computed.
  mutating func offer(_ alternatives: Alternatives, from first: Int) {
    guard steps.indices.contains(first) else { return }
    var alternatives = alternatives
    alternatives.stepCount = steps.count - first
    steps[first].alternatives = alternatives
  }

  /// Runs `body` with an empty step list and gives back what it added.
  package mutating func nested(_ body: (inout StepBuilder) throws(BuildError) -> Void) throws(BuildError) -> [Step] {
    let outer = steps
    steps = []
    defer { steps = outer }
    try body(&self)
    return steps
  }

  /// Works on the values of another graph (a branch or a loop body); slots, functions and constants stay shared.
  package mutating func entering(
    _ body: Graph, _ work: (inout StepBuilder) throws(BuildError) -> Void
  ) throws(BuildError) {
    let (outerGraph, outerSlots) = (graph, slotByValue)
    graph = body
    slotByValue = [:]
    defer { (graph, slotByValue) = (outerGraph, outerSlots) }
    try work(&self)
  }

  package mutating func setStorage(_ slot: Int, _ storage: Slot.Storage) { slots[slot].storage = storage }
}

/// Constant bytes laid out one after the other, 256-byte aligned, equal content once.
package struct ConstantPool {
  package static let alignment = 256

  package private(set) var byteCount: Int
  /// The bytes that were there at the start.
  private let earlier: ConstantSection
  private var tensors: [(offset: Int, tensor: HostTensor)] = []
  private var offsets: [Key: Int] = [:]

  /// Starts with the constants of an engine's plans; empty for none.
  init(continuing plans: [Plan]) {
    earlier = plans.first?.constants ?? ConstantSection()
    byteCount = Self.aligned(earlier.byteCount)
    var known: Set<Int> = []
    for plan in plans.flatMap({ [$0] + $0.pieces.map(\.plan) }) {
      for slot in plan.slots {
        guard case .constant(let offset) = slot.storage, let type = slot.type.tensor,
          let bytes = plan.constantBytes(type, at: offset), known.insert(offset).inserted
        else { continue }
        offsets[Key(bytes)] = offset
      }
    }
  }

  private static func aligned(_ byteCount: Int) -> Int { (byteCount + alignment - 1) / alignment * alignment }

  private struct Key: Hashable {
    let hash: ContentHash
    let byteCount: Int

    init(_ bytes: UnsafeRawBufferPointer) {
      var hash = ContentHash()
      hash.add(bytes)
      self.hash = hash
      byteCount = bytes.count
    }
  }

  package mutating func add(_ given: HostTensor) -> Int {
    let tensor = given.dtype == .string ? Self.encoded(given.strings) : given
    let key = tensor.withUnsafeBytes { Key($0) }
    if let offset = offsets[key] { return offset }
    let offset = byteCount
    tensors.append((offset, tensor))
    offsets[key] = offset
    byteCount = Self.aligned(offset + tensor.byteCount)
    return offset
  }

  private static func encoded(_ strings: [String]) -> HostTensor {
    let bytes = StringConstants.encode(strings)
    return HostTensor(.u8, [bytes.count], elements: bytes)
  }

  /// All constants in one piece of memory; the pool gives each up as it is copied, and takes no more.
  package mutating func makeSection() -> ConstantSection {
    if tensors.isEmpty { return earlier }
    let storage = HostStorage(byteCount: byteCount)
    var filled = 0
    func put(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
      (storage.base + filled).initializeMemory(as: UInt8.self, repeating: 0, count: offset - filled)
      if let base = bytes.baseAddress { (storage.base + offset).copyMemory(from: base, byteCount: bytes.count) }
      filled = offset + bytes.count
    }
    put(earlier.bytes, at: 0)
    for index in tensors.indices {
      let offset = tensors[index].offset
      tensors[index].tensor.withUnsafeBytes { put($0, at: offset) }
      tensors[index].tensor = Self.nothing
    }
    tensors = []
    put(UnsafeRawBufferPointer(start: nil, count: 0), at: byteCount)
    return ConstantSection(storage: storage, byteCount: byteCount)
  }

  private static let nothing = HostTensor(.u8, [0])
}

extension Plan {
  /// The bytes of a constant; nil when its size or its texts do not fit the section.
  func constantBytes(_ type: TensorType, at offset: Int) -> UnsafeRawBufferPointer? {
    guard let shape = type.constantShape, offset >= 0, offset <= constants.byteCount else { return nil }
    let rest = UnsafeRawBufferPointer(rebasing: constants.bytes[offset...])
    var byteCount = shape.reduce(type.dtype.byteCount, saturatingMultiply)
    if type.dtype == .string {
      guard let strings = try? StringConstants.decode(rest, count: shape.reduce(1, saturatingMultiply)) else {
        return nil
      }
      byteCount = StringConstants.encode(strings).count
    }
    return byteCount > rest.count ? nil : UnsafeRawBufferPointer(rebasing: rest[..<byteCount])
  }
}
