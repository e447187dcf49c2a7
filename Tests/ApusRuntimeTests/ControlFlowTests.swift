import ApusCore
import ApusPlan
import Testing

@testable import ApusRuntime

@Suite struct ControlFlowTests {
  static let found = Symbol("found", Interval(0, 1000))
  static let count = Symbol("count", Interval(0, 1_000_000))

  static func run(_ plan: Plan, _ inputs: [String: HostTensor]) throws -> [String: HostValue] {
    let engine = try Engine(plans: [plan], device: NullDevice(), hostOperations: ClosureOperations.common)
    return try engine.makeContext().run(inputs: inputs)
  }

  @Test func sizesFoundWhileRunningReachTheOutputs() throws {
    var maker = PlanMaker()
    maker.plan.runSymbols = [Self.found]
    let x = maker.input("x", .f32, [6])
    let p = maker.slot("p", .f32, [Dim(Self.found)], .grown)
    let head = maker.slot("head", .f32, [Dim(Self.found) - 1], .view(of: p, byteOffset: 4))
    let sum = maker.slot("sum", .f32, [Dim(Self.found)], .grown)
    let y = maker.output("y", .f32, [Dim(Self.found)])
    let z = maker.output("z", .f32, [Dim(Self.found) - 1])
    maker.host("positives", [x], [p], bound: ["found"])
    maker.host("add", [p, p], [sum])
    maker.add(.copy(from: sum, to: y))
    maker.add(.copy(from: head, to: z))
    let engine = try Engine(plans: [maker.finish()], device: NullDevice(), hostOperations: ClosureOperations.common)
    let context = try engine.makeContext()
    let first = try context.run(inputs: ["x": floats([6], [1, -1, 2, 3, -4, 5])])
    #expect(first["y"]?.tensor?.doubles == [2, 4, 6, 10])
    #expect(first["z"]?.tensor?.doubles == [2, 3, 5])
    let second = try context.run(inputs: ["x": floats([6], [-1, -1, 7, -3, -4, -5])])
    #expect(second["y"]?.tensor?.doubles == [14] && second["z"]?.tensor?.shape == [0])
    let all = try context.run(inputs: ["x": floats([6], [1, 2, 3, 4, 5, 6])])
    #expect(all["y"]?.tensor?.doubles == [2, 4, 6, 8, 10, 12])
    #expect(first["y"]?.tensor?.doubles == [2, 4, 6, 10])
    #expect(
      problems { _ = try context.run(inputs: ["x": floats([6], [-1, -1, -1, -1, -1, -1])]) }
        == ["APUS-R-0012 slot 'head'"])
  }

  @Test func sizesAreReadFromTensors() throws {
    var maker = PlanMaker()
    maker.plan.runSymbols = [Self.found, Self.count]
    let sizes = maker.input("sizes", .i64, [2])
    let x = maker.input("x", .f32, [8])
    let y = maker.output("y", .f32, [Dim(Self.found)])
    let part = maker.slot("part", .f32, [Dim(Self.found)], .view(of: x, byteOffset: Dim(Self.count) * 4))
    maker.add(.bind(slot: sizes, symbols: ["found", "count"]))
    maker.add(.copy(from: part, to: y))
    let plan = maker.finish()
    let x8 = floats([8], [0, 1, 2, 3, 4, 5, 6, 7])
    func run(_ found: Int64, _ count: Int64) throws -> [Double]? {
      try Self.run(plan, ["sizes": HostTensor(.i64, [2], int64s: [found, count]), "x": x8])["y"]?.tensor?.doubles
    }
    #expect(try run(3, 2) == [2, 3, 4])
    #expect(problems { _ = try run(-3, 2) } == ["APUS-R-0015 step 0"])
    #expect(problems { _ = try run(1001, 2) } == ["APUS-R-0015 step 0"])
    #expect(problems { _ = try run(4, 5) } == ["APUS-R-0013 slot 'part'"])
  }

  @Test func definedSizesChangeTogether() throws {
    var maker = PlanMaker()
    maker.plan.runSymbols = [Self.found, Self.count]
    let x = maker.input("x", .f32, [8])
    let y = maker.output("y", .f32, [Dim(Self.found) * 2 + Dim(Self.count)])
    let part = maker.slot("part", .f32, [Dim(Self.found) * 2 + Dim(Self.count)], .view(of: x, byteOffset: 0))
    maker.add(.define([Definition(symbol: "found", size: 1), Definition(symbol: "count", size: 3)]))
    maker.add(
      .define([
        Definition(symbol: "found", size: Dim(Self.count)), Definition(symbol: "count", size: Dim(Self.found)),
      ]))
    maker.add(.copy(from: part, to: y))
    #expect(
      try Self.run(maker.finish(), ["x": floats([8], [0, 1, 2, 3, 4, 5, 6, 7])])["y"]?.tensor?.shape == [7])
  }

  @Test func branchesRunOneSide() throws {
    var maker = PlanMaker()
    let a = maker.input("a", .f32, [1])
    let b = maker.input("b", .f32, [1])
    let less = maker.slot("less", .bool, [])
    let y = maker.output("y", .f32, [1])
    maker.host("less", [a, b], [less])
    maker.add(
      .branch(
        condition: less, then: [Step(.copy(from: a, to: y), name: "a", tactic: "")],
        else: [
          PlanMaker.hostStep("add", [a, b], [y]), PlanMaker.hostStep("add", [y, b], [y]),
        ]))
    let plan = maker.finish()
    #expect(try Self.run(plan, ["a": floats([1], [1]), "b": floats([1], [2])])["y"]?.tensor?.doubles == [1])
    #expect(try Self.run(plan, ["a": floats([1], [3]), "b": floats([1], [2])])["y"]?.tensor?.doubles == [7])
  }

  /// Fibonacci: (a, b) → (b, a + b), each a stacked, while a + b < limit, at most `trips` times.
  static func fibonacci() -> Plan {
    var maker = PlanMaker()
    maker.plan.runSymbols = [count]
    let trips = maker.input("trips", .i64, [])
    let limit = maker.input("limit", .f32, [1])
    let one = maker.constant("one", floats([1], [1]))
    let yes = maker.constant("yes", HostTensor(.bool, [], elements: [UInt8(1)]))
    let a = maker.slot("a", .f32, [1])
    let b = maker.slot("b", .f32, [1])
    let sum = maker.slot("sum", .f32, [1])
    let goesOn = maker.slot("goesOn", .bool, [])
    let stack = maker.output("stack", .f32, [Dim(count), 1])
    let last = maker.output("last", .f32, [1])
    var loop = Loop(body: [
      PlanMaker.hostStep("add", [a, b], [sum]), PlanMaker.hostStep("less", [sum, limit], [goesOn]),
    ])
    loop.tripCount = trips
    loop.condition = yes
    loop.nextCondition = goesOn
    loop.carried = [
      Loop.Carried(initial: one, current: b, next: sum, result: last),
      Loop.Carried(initial: one, current: a, next: b, result: nil),
    ]
    loop.stacked = [Loop.Stacked(element: a, stacked: stack)]
    loop.countSymbol = "count"
    maker.add(.loop(loop))
    return maker.finish()
  }

  @Test func loopsCarryAndStack() throws {
    let plan = Self.fibonacci()
    func run(_ trips: Int64, _ limit: Float) throws -> [String: HostValue] {
      try Self.run(plan, ["trips": HostTensor(.i64, [], int64s: [trips]), "limit": floats([1], [limit])])
    }
    #expect(try run(.max, 30)["stack"]?.tensor?.doubles == [1, 1, 2, 3, 5, 8, 13])
    #expect(try run(.max, 30)["last"]?.tensor?.doubles == [34])
    #expect(try run(4, 1e9)["stack"]?.tensor?.doubles == [1, 1, 2, 3])
    #expect(try run(0, 1e9)["stack"]?.tensor?.shape == [0, 1])
    #expect(try run(-5, 1e9)["last"]?.tensor?.doubles == [1])
    #expect(try run(.max, 1e9)["stack"]?.tensor?.shape == [43, 1])
  }

  @Test func scansReadRowsAndWriteRows() throws {
    let n = Symbol("n", Interval(0, 100))
    var maker = PlanMaker()
    maker.plan.shapeSymbols = [n]
    let x = maker.input("x", .f32, [Dim(n), 2])
    let zero = maker.constant("zero", floats([2], [0, 0]))
    let row = maker.slot("row", .f32, [2])
    let state = maker.slot("state", .f32, [2])
    let next = maker.slot("next", .f32, [2])
    let iteration = maker.slot("i", .i64, [])
    let sums = maker.output("sums", .f32, [Dim(n), 2])
    let steps = maker.output("steps", .i64, [Dim(n)])
    var loop = Loop(body: [PlanMaker.hostStep("add", [state, row], [next])])
    loop.tripDim = Dim(n)
    loop.iteration = iteration
    loop.sliced = [Loop.Sliced(source: x, element: row)]
    loop.carried = [Loop.Carried(initial: zero, current: state, next: next, result: nil)]
    loop.stacked = [Loop.Stacked(element: next, stacked: sums), Loop.Stacked(element: iteration, stacked: steps)]
    maker.add(.loop(loop))
    let plan = maker.finish()
    let results = try Self.run(plan, ["x": floats([3, 2], [1, 2, 3, 4, 5, 6])])
    #expect(results["sums"]?.tensor?.doubles == [1, 2, 4, 6, 9, 12])
    #expect(results["steps"]?.tensor?.ints == [0, 1, 2])
    #expect(try Self.run(plan, ["x": HostTensor(.f32, [0, 2])])["sums"]?.tensor?.shape == [0, 2])
  }

  @Test func carriedValuesMaySwap() throws {
    var maker = PlanMaker()
    let x = maker.input("x", .f32, [2])
    let y = maker.input("y", .f32, [2])
    let a = maker.slot("a", .f32, [2])
    let b = maker.slot("b", .f32, [2])
    let first = maker.output("first", .f32, [2])
    let second = maker.output("second", .f32, [2])
    var loop = Loop(body: [])
    loop.tripDim = 3
    loop.carried = [
      Loop.Carried(initial: x, current: a, next: b, result: first),
      Loop.Carried(initial: y, current: b, next: a, result: second),
    ]
    maker.add(.loop(loop))
    let results = try Self.run(maker.finish(), ["x": floats([2], [1, 2]), "y": floats([2], [3, 4])])
    #expect(results["first"]?.tensor?.doubles == [3, 4] && results["second"]?.tensor?.doubles == [1, 2])
  }

  @Test func valuesFromOutsideLiveThroughTheLoop() throws {
    var maker = PlanMaker()
    let x = maker.input("x", .f32, [4])
    let outside = maker.slot("outside", .f32, [4])
    let state = maker.slot("state", .f32, [4])
    let next = maker.slot("next", .f32, [4])
    let scrap = maker.slot("scrap", .f32, [4])
    let y = maker.output("y", .f32, [4])
    maker.host("add", [x, x], [outside])
    var loop = Loop(body: [
      PlanMaker.hostStep("add", [state, outside], [next]), PlanMaker.hostStep("add", [next, next], [scrap]),
    ])
    loop.tripDim = 3
    loop.carried = [Loop.Carried(initial: x, current: state, next: next, result: y)]
    maker.add(.loop(loop))
    let plan = maker.finish()
    #expect(plan.slots[outside].firstStep == 0 && plan.slots[outside].lastStep == 3)
    #expect(plan.slots[scrap].firstStep == 3 && plan.slots[scrap].lastStep == 3)
    #expect(try Self.run(plan, ["x": floats([4], [1, 2, 3, 4])])["y"]?.tensor?.doubles == [7, 14, 21, 28])
  }
}
