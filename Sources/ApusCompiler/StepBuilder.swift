package import ApusCore
package import ApusGraph
package import ApusPlan

/// What the plans of one engine share: functions and constants, equal ones once.
struct SharedParts {
  private(set) var functions: [KernelFunction] = []
  private(set) var sources: [String] = []
  private var functionBySource: [String: Int] = [:]
  var constants = ConstantPool()

  /// The function that a source defines.
  mutating func function(_ source: String) -> Int {
    if let index = functionBySource[source] { return index }
    let symbol = "k\(ContentHash.hex([source]))"
    functions.append(KernelFunction(image: 0, symbol: symbol))
    sources.append(source.replacing("KERNEL_NAME", with: symbol))
    functionBySource[source] = functions.count - 1
    return functions.count - 1
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

  // MARK: Steps

  package mutating func add(_ step: Step) { steps.append(step) }

  /// Adds the launch of a kernel; equal sources share one function.
  package mutating func launch(
    _ code: KernelCode, buffers: [Int], name: String, sources: [String], tactic: String, work: Dim
  ) {
    let traffic = Dim.sum(Set(buffers).sorted().compactMap { slots[$0].type.tensor?.byteCount })
    let launch = Launch(
      function: shared.function(code.source), buffers: buffers, parameters: code.parameters, blocks: code.blocks,
      scratchBytes: code.scratchBytes)
    add(Step(.launch(launch), name: name, sources: sources, tactic: tactic, work: work, traffic: traffic))
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

  package private(set) var byteCount = 0
  private var tensors: [(offset: Int, tensor: HostTensor)] = []
  private var offsets: [Key: Int] = [:]

  private struct Key: Hashable {
    let hash: ContentHash
    let byteCount: Int
  }

  package mutating func add(_ given: HostTensor) -> Int {
    let tensor = given.dtype == .string ? Self.encoded(given.strings) : given
    var hash = ContentHash()
    tensor.withUnsafeBytes { hash.add($0) }
    let key = Key(hash: hash, byteCount: tensor.byteCount)
    if let offset = offsets[key] { return offset }
    let offset = byteCount
    tensors.append((offset, tensor))
    offsets[key] = offset
    byteCount = (offset + tensor.byteCount + Self.alignment - 1) / Self.alignment * Self.alignment
    return offset
  }

  private static func encoded(_ strings: [String]) -> HostTensor {
    let bytes = StringConstants.encode(strings)
    return HostTensor(.u8, [bytes.count], elements: bytes)
  }

  package func section() -> ConstantSection {
    let storage = HostStorage(byteCount: byteCount)
    storage.base.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
    for (offset, tensor) in tensors {
      tensor.withUnsafeBytes { bytes in
        if let base = bytes.baseAddress { (storage.base + offset).copyMemory(from: base, byteCount: bytes.count) }
      }
    }
    return ConstantSection(storage: storage, byteCount: byteCount)
  }
}
