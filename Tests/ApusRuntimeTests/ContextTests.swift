import ApusCore
import ApusPlan
import Testing

@testable import ApusRuntime

@Suite struct ContextTests {
  static let n = Symbol("n", Interval(0, 1 << 40))

  /// y = (x + w) + x, the first sum through the arena.
  static func sums() throws -> Engine {
    var maker = PlanMaker()
    maker.plan.shapeSymbols = [n]
    let x = maker.input("x", .f32, [Dim(n)])
    let h = maker.slot("h", .f32, [Dim(n)])
    let y = maker.output("y", .f32, [Dim(n)])
    maker.host("add", [x, x], [h])
    maker.host("add", [h, x], [y])
    return try Engine(plans: [maker.finish()], device: NullDevice(), hostOperations: ClosureOperations.common)
  }

  @Test func valuesGoThroughNamedAndOrderedRuns() throws {
    let context = try Self.sums().makeContext()
    let x = floats([3], [1, -2, 0.5])
    #expect(try context.run(inputs: ["x": x])["y"]?.tensor?.doubles == [3, -6, 1.5])
    #expect(try context.run(ordered: [.tensor(x)])[0].tensor?.doubles == [3, -6, 1.5])
    #expect(try context.run(inputs: ["x": floats([0], [])])["y"]?.tensor?.shape == [0])
    #expect(problems { _ = try context.run(ordered: [.tensor(x), .tensor(x)]) } == ["APUS-R-0002 inputs"])
  }

  @Test func notANumberAndInfinityPassThrough() throws {
    let context = try Self.sums().makeContext()
    let y = try context.run(inputs: ["x": floats([3], [.nan, .infinity, -.infinity])])["y"]?.tensor?.doubles ?? []
    #expect(y[0].isNaN && y[1] == .infinity && y[2] == -.infinity)
  }

  @Test func resultsStayWhenTheContextRunsAgain() throws {
    let context = try Self.sums().makeContext()
    let first = try context.run(inputs: ["x": floats([2], [1, 2])])["y"]?.tensor
    let second = try context.run(inputs: ["x": floats([2], [10, 20])])["y"]?.tensor
    #expect(first?.doubles == [3, 6] && second?.doubles == [30, 60])
    try context.bind(input: "x", to: floats([1], [5]))
    try context.run()
    let kept = try context.output("y").tensor
    try context.bind(input: "x", to: floats([1], [6]))
    try context.run()
    #expect(kept?.doubles == [15])
    #expect(try context.output("y").tensor?.doubles == [18])
    #expect(try context.outputShape("y") == [1])
  }

  @Test func memoryOfTheCallerIsUsedInPlace() throws {
    let context = try Self.sums().makeContext()
    let memory = UnsafeMutableBufferPointer<Float>.allocate(capacity: 8)
    defer { memory.deallocate() }
    memory.initialize(repeating: 0)
    memory[0] = 4
    memory[1] = 5
    let raw = UnsafeMutableRawBufferPointer(memory)
    try context.bind(input: "x", to: UnsafeRawBufferPointer(rebasing: raw[..<8]), shape: [2])
    try context.bind(output: "y", to: UnsafeMutableRawBufferPointer(rebasing: raw[16...]))
    try context.run()
    #expect(memory[4] == 12 && memory[5] == 15 && memory[6] == 0)
    memory[0] = 1
    try context.run()
    #expect(memory[4] == 3)
    try context.bind(output: "y", to: UnsafeMutableRawBufferPointer(rebasing: raw[..<4]))
    #expect(problems { try context.run() } == ["APUS-R-0011 output 'y'"])
    try context.unbind(output: "y")
    try context.run()
    #expect(try context.output("y").tensor?.doubles == [3, 15])
  }

  @Test func manyShapesTakeTurns() throws {
    let context = try Self.sums().makeContext()
    for round in 0..<40 {
      let count = (round * 7) % 13 + 1
      let values = (0..<count).map { Float($0 + round) }
      let y = try context.run(inputs: ["x": floats([count], values)])["y"]?.tensor
      #expect(y?.doubles == values.map { Double($0) * 3 })
    }
  }

  @Test func sizesBeyondTheMachineAreRefused() throws {
    var maker = PlanMaker()
    maker.plan.shapeSymbols = [Self.n]
    let x = maker.input("x", .u8, [Dim(Self.n)])
    let y = maker.output("y", .u8, [Dim(Self.n) * Dim(1 << 40)])
    let z = maker.slot("z", .f64, [Dim(Self.n) * Dim(Int.max / 2), 5])
    maker.add(.copy(from: x, to: y))
    maker.add(.copy(from: z, to: z))
    let plan = maker.finish()
    let context = try Engine(plans: [plan], device: NullDevice(memoryByteCount: 1 << 33)).makeContext()
    #expect(problems { _ = try context.run(inputs: ["x": HostTensor(.u8, [3])]) } == ["APUS-R-0010 slot 'z'"])
    maker = PlanMaker()
    maker.plan.shapeSymbols = [Self.n]
    let small = maker.input("x", .u8, [Dim(Self.n)])
    let negative = maker.slot("h", .u8, [Dim(Self.n) - 5])
    maker.add(.copy(from: small, to: negative))
    let other = try Engine(plans: [maker.finish()], device: NullDevice()).makeContext()
    #expect(problems { _ = try other.run(inputs: ["x": HostTensor(.u8, [3])]) } == ["APUS-R-0012 slot 'h'"])
    #expect(problems { _ = try other.run(inputs: ["x": HostTensor(.u8, [7])]) } == ["APUS-R-0017 step 0"])
  }

  @Test func viewsLieInWhatTheyLookAt() throws {
    var maker = PlanMaker()
    maker.plan.shapeSymbols = [Self.n]
    let x = maker.input("x", .f32, [Dim(Self.n)])
    let tail = maker.slot("tail", .f32, [2], .view(of: x, byteOffset: (Dim(Self.n) - 2) * 4))
    let last = maker.slot("last", .f32, [1], .view(of: tail, byteOffset: 4))
    let y = maker.output("y", .f32, [1])
    maker.add(.copy(from: last, to: y))
    let context = try Engine(plans: [maker.finish()], device: NullDevice()).makeContext()
    #expect(try context.run(inputs: ["x": floats([3], [7, 8, 9])])["y"]?.tensor?.doubles == [9])
    #expect(try context.run(inputs: ["x": floats([5], [7, 8, 9, 10, 11])])["y"]?.tensor?.doubles == [11])
    #expect(problems { _ = try context.run(inputs: ["x": floats([1], [7])]) } == ["APUS-R-0013 slot 'tail'"])
  }

  @Test func constantsAndTextAreReadInPlace() throws {
    var maker = PlanMaker()
    let w = maker.constant("w", floats([2], [0.5, -0.25]))
    let words = maker.constant("words", HostTensor(strings: ["grün", "", "c"], shape: [3]))
    let y = maker.output("y", .f32, [2])
    maker.output("text", slot: words)
    maker.output("same", slot: w)
    maker.add(.copy(from: w, to: y))
    let context = try Engine(plans: [maker.finish()], device: NullDevice()).makeContext()
    let results = try context.run(inputs: [String: HostTensor]())
    #expect(results["y"]?.tensor?.doubles == [0.5, -0.25] && results["same"]?.tensor?.doubles == [0.5, -0.25])
    #expect(results["text"]?.tensor?.strings == ["grün", "", "c"])
  }

  @Test func sequencesHoldTheirOwnBytes() throws {
    var maker = PlanMaker()
    let x = maker.input("x", .f32, [2])
    let h = maker.slot("h", .f32, [2])
    let type = ValueType.sequence(.tensor(TensorType(.f32, [2])))
    let list = maker.slot("list", type, .object)
    maker.output("list", slot: list)
    maker.add(.copy(from: x, to: h))
    maker.host("wrap", [h], [list])
    maker.host("add", [h, h], [h])
    let engine = try Engine(plans: [maker.finish()], device: NullDevice(), hostOperations: ClosureOperations.common)
    guard case .sequence(let elements, _)? = try engine.makeContext().run(inputs: ["x": floats([2], [1, 2])])["list"]
    else {
      Issue.record("no sequence")
      return
    }
    #expect(elements[0].tensor?.doubles == [1, 2])
  }

  @Test func failuresOfHostCallsNameTheStep() throws {
    var maker = PlanMaker()
    let x = maker.input("x", .f32, [2])
    let y = maker.output("y", .f32, [3])
    maker.host("view", [x], [y])
    let engine = try Engine(plans: [maker.finish()], device: NullDevice(), hostOperations: ClosureOperations.common)
    let context = try engine.makeContext()
    #expect(problems { _ = try context.run(inputs: ["x": floats([2], [1, 2])]) } == ["APUS-R-0014 step 0 'view'"])
    maker.plan.steps = [PlanMaker.hostStep("fail", [x], [y])]
    let failing = try Engine(plans: [maker.finish()], device: NullDevice(), hostOperations: ClosureOperations.common)
    #expect(
      problems { _ = try failing.makeContext().run(inputs: ["x": floats([2], [1, 2])]) }
        == ["APUS-V-0042 step 0 'fail'"])
    let plan = maker.finish()
    #expect(problems { _ = try Engine(plans: [plan], device: NullDevice()) } == ["APUS-E-0014 step 0 'fail'"])
  }

  @Test func stepsAreTimed() throws {
    let engine = try Self.sums()
    let context = try engine.makeContext()
    let profiler = LayerProfiler(plan: engine.plans[0])
    context.time(with: profiler)
    for _ in 0..<3 { _ = try context.run(inputs: ["x": floats([2], [1, 2])]) }
    #expect(profiler.runCount == 3)
    #expect(profiler.layers.map(\.name) == ["add", "add"] && profiler.layers.map(\.count) == [3, 3])
    #expect(profiler.layers.allSatisfy { $0.median > .zero })
  }
}
