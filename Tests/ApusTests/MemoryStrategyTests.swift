import Apus
import ApusCompiler
import ApusCore
import ApusGraph
import ApusImport
import ApusOps
import ApusTesting
import Testing

/// Where a context's working memory comes from, and that its size is known before any is allocated.
@Suite struct MemoryStrategyTests {
  private static let text = """
    graph(%x: f32[seq, 64]) -> (%y) symbols(seq: 1...1024) {
      %w = constant f32[64, 64] random(1)
      %a = matmul(%x, %w) @"a"
      %b = softmax(%a) {axis: -1} @"b"
      %c = matmul(%b, %w) @"c"
      %d = transpose(%c) {perm: [1, 0]} @"d"
      %y = softmax(%d) {axis: -1} @"e"
    }
    """

  private static let profiles = [
    Profile("small", ["seq": .range(min: 1, max: 16)]), Profile("large", ["seq": .range(min: 8, max: 1024)]),
  ]

  private static func engine(
    _ profiles: [Profile] = profiles, text: String = text, breaks: [String] = []
  ) throws -> Engine {
    var graph = try GraphText.parse(text, catalogue: .standard)
    graph.outputNames = ["y"]
    let model = Model(graph: graph, name: "memory", producer: "", opsets: [:], metadata: [:])
    let options = BuildOptions(profiles: profiles, breaks: breaks)
    return try Engine(plans: try build(model, targets: ["x86-64-v3"], options: options).plans, threads: 2)
  }

  private static func x(_ seq: Int) -> [String: HostTensor] {
    ["x": RandomTensor.make(.f32, [seq, 64], seed: UInt64(seq))]
  }

  private func check(_ context: borrowing ExecutionContext, _ seq: Int, _ profile: ProfileSelection) throws {
    var graph = try GraphText.parse(Self.text, catalogue: .standard)
    graph.outputNames = ["y"]
    let expected = try Interpreter.run(graph, inputs: Self.x(seq).values.map { .tensor($0) })[0]
    let found = try #require(try context.run(inputs: Self.x(seq), profile: profile)["y"])
    #expect(Closeness.complaint(found, expected, f32: 1e-5) == nil, "seq \(seq)")
  }

  @Test(arguments: [[], ["b"]]) func sizesAreKnownBeforeAnythingIsAllocated(_ breaks: [String]) throws {
    let engine = try Self.engine(breaks: breaks)
    let small = try engine.workspaceByteCount(profile: "small")
    let large = try engine.workspaceByteCount(profile: "large")
    #expect(small > 0 && large >= 32 * small)
    let one = try engine.workspaceByteCount(shapes: ["x": [9, 64]], profile: "large")
    #expect(one > 0 && one < large)
    let most = try engine.workspaceByteCount(shapes: ["x": [1024, 64]], profile: "large")
    #expect(most <= large)
  }

  @Test func asNeededGrowsToWhatWasRun() throws {
    let engine = try Self.engine()
    let context = try engine.makeContext()
    #expect(context.heldByteCount == 0)
    try check(context, 16, "small")
    let held = context.heldByteCount
    try check(context, 1024, "large")
    #expect(context.heldByteCount > 10 * held)
  }

  @Test(arguments: [[], ["b"]]) func staticReservesForTheLargestProfile(_ breaks: [String]) throws {
    let engine = try Self.engine(breaks: breaks)
    let context = try engine.makeContext(memory: .static)
    let reserved = context.heldByteCount
    #expect(reserved == (try engine.workspaceByteCount(profile: "large")))
    for seq in [1, 1024, 16, 600] { try check(context, seq, .automatic) }
    #expect(context.heldByteCount == reserved)
  }

  @Test func onProfileChangeReservesForTheProfileThatRuns() throws {
    let engine = try Self.engine()
    let context = try engine.makeContext(memory: .onProfileChange)
    #expect(context.heldByteCount == 0)
    for (seq, profile) in [(1, "small"), (16, "small"), (16, "large"), (1024, "large"), (3, "small")] {
      try check(context, seq, .named(profile))
      #expect(context.heldByteCount == (try engine.workspaceByteCount(profile: .named(profile))))
    }
  }

  @Test(arguments: [[], ["b"]]) func theCallerProvides(_ breaks: [String]) throws {
    let engine = try Self.engine(breaks: breaks)
    let context = try engine.makeContext(memory: .userManaged)
    let needed = try engine.workspaceByteCount(shapes: ["x": [100, 64]], profile: "large")
    let none = #expect(throws: RunError.self) { try context.run(inputs: Self.x(100), profile: "large") }
    #expect(none?.problems.map(\.code) == ["APUS-R-0022"])
    #expect(none?.description.contains("\(needed) bytes are needed, none are given") == true)
    let guardCount = 4096
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: needed + guardCount, alignment: 64)
    defer { memory.deallocate() }
    memory.initializeMemory(as: UInt8.self, repeating: 0xA5)
    try context.use(workspace: UnsafeMutableRawBufferPointer(rebasing: memory[..<needed]))
    for seq in [100, 8, 55, 100] { try check(context, seq, "large") }
    #expect(memory[needed...].allSatisfy { $0 == 0xA5 })
    #expect(memory[..<needed].contains { $0 != 0xA5 })
    #expect(context.heldByteCount == 0)
    #expect(throws: RunError.self) { try context.run(inputs: Self.x(101), profile: "large") }
    try check(context, 100, "large")
  }

  /// Two contexts that do not run at the same time share one block.
  @Test func contextsShareMemory() throws {
    let engine = try Self.engine()
    let needed = try engine.workspaceByteCount(profile: "large")
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: needed, alignment: 64)
    defer { memory.deallocate() }
    let first = try engine.makeContext(memory: .userManaged)
    let second = try engine.makeContext(memory: .userManaged)
    try first.use(workspace: memory)
    try second.use(workspace: memory)
    for seq in [1024, 9, 500] {
      try check(first, seq, "large")
      try check(second, 1 + seq % 16, "small")
    }
  }

  @Test func whatHasNoLimitCannotBeReserved() throws {
    let open = Self.text.replacing("symbols(seq: 1...1024)", with: "symbols(seq: 1...)")
    let engine = try Self.engine([], text: open)
    let error = #expect(throws: RunError.self) { try engine.workspaceByteCount() }
    #expect(error?.problems.map(\.code) == ["APUS-R-0023"] && error?.description.contains("'seq'") == true)
    #expect(throws: RunError.self) { _ = try engine.makeContext(memory: .static) }
    try check(try engine.makeContext(), 5, 0)
  }

  @Test func onlyUserManagedTakesMemory() throws {
    let context = try Self.engine().makeContext(memory: .static)
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
    defer { memory.deallocate() }
    #expect(throws: RunError.self) { try context.use(workspace: memory) }
    let managed = try Self.engine().makeContext(memory: .userManaged)
    let odd = UnsafeMutableRawBufferPointer(rebasing: memory[8...])
    let error = #expect(throws: RunError.self) { try managed.use(workspace: odd) }
    #expect(error?.problems.map(\.code) == ["APUS-R-0011"])
  }
}
