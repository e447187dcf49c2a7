import ApusCompiler
import ApusCore
import ApusGraph
import ApusOps
import ApusPlan
import ApusTesting
import Testing

@testable import ApusRuntime

/// Steps on lanes by chance, on a device that does what lanes have to do in orders of its own choice.
@Suite(.serialized) struct LaneTests {
  private static let choices: [LaneChoice] = [.first, .last, .random(seed: 3)]
  private static let trialCount = 2

  private static func inputs(_ graph: Graph, _ trial: Int) -> [HostValue] {
    RandomInputs.make(graph, trial: trial, seed: UInt64(trial + 1)).inputs
  }

  /// Several graphs side by side that have results for the inputs of all trials.
  private static func graph(_ seeds: Range<UInt64>, _ count: Int) throws -> Graph {
    var graph = Graph()
    var found = 0
    for seed in seeds where found < count {
      var longer = graph
      RandomGraph.append(seed: seed, to: &longer)
      let isDefined = (0..<trialCount).allSatisfy { trial in
        (try? Interpreter.run(longer, inputs: inputs(longer, trial))) != nil
      }
      if !isDefined { continue }
      graph = longer
      found += 1
    }
    #expect(found == count)
    try Verifier.verify(graph)
    return graph
  }

  /// Outputs that are not what the interpreter gives, and outputs in all.
  private static func wrong(
    _ graph: Graph, _ form: GraphRunner.Form, _ choice: LaneChoice, change: (inout Plan) -> Void
  ) throws -> [String] {
    let runner = try GraphRunner(
      graph, form, target: Machine.target(), device: DeferredDevice(RemoteDevice(Machine.device), lanes: choice),
      change: change)
    var wrong: [String] = []
    for trial in 0..<trialCount {
      let inputs = inputs(graph, trial)
      let expected = try Interpreter.run(graph, inputs: inputs)
      let (outputs, overrun) = try runner.run(inputs, expected: expected)
      #expect(overrun.isEmpty, "wrote beyond \(overrun)")
      for (index, name) in graph.outputNames.enumerated() {
        if Closeness.complaint(outputs[index], expected[index], f32: 1e-4) != nil { wrong.append(name) }
      }
    }
    return wrong
  }

  /// The runs of a runner are one that queues step by step, one that records and one that plays: all give the same.
  @Test(arguments: 0..<12 as Range<UInt64>) func everyOrderGivesTheSame(_ batch: UInt64) throws {
    let graph = try Self.graph(1000 + batch * 20..<1020 + batch * 20, 6)
    for (index, form) in [GraphRunner.Form.raw, .optimised, .cut].enumerated() {
      let choice = Self.choices[(index + Int(batch)) % Self.choices.count]
      let wrong = try Self.wrong(graph, form, choice) { $0.spread(over: 4, seed: batch + UInt64(index)) }
      #expect(wrong == [], "\(form), \(choice)")
    }
  }

  /// Without what steps write they do not wait for one another, and that shows.
  @Test(arguments: [LaneChoice.last, .random(seed: 5)]) func waitsThatAreMissingShow(_ choice: LaneChoice) throws {
    // Longer than values of one run last in the next ones.
    var text = "graph(%x0: i32[5]) -> (%x20) {"
    for step in 1...20 { text += " %x\(step) = \(step % 2 == 0 ? "add" : "mul")(%x\(step - 1), %x0)" }
    var graph = try GraphText.parse(text + " }", catalogue: .standard)
    graph.outputNames = ["y"]
    let wrong = try Self.wrong(graph, .raw, choice) { plan in
      plan.updateLaunches { $0.writes = [] }
      plan.spread(over: 4, seed: 7)
    }
    #expect(!wrong.isEmpty)
  }

  /// A lane that nobody waited for, or that waited for nobody, is a fault of whoever queued it.
  @Test func theDeviceTellsOfLanesThatGoOn() throws {
    let device = DeferredDevice(Machine.device, lanes: .last)
    let buffer = try device.allocate(byteCount: 64)
    let stream = try device.makeStream()
    #expect(try stream.makeLanes(1, points: 3))
    stream.enter(lane: 1)
    stream.fill(buffer.base, with: 1, byteCount: 8)
    stream.enter(lane: 0)
    #expect(throws: DeviceError.self) { try stream.synchronize() }
    func fork(_ join: Bool) {
      stream.reach(point: 0)
      stream.enter(lane: 1)
      stream.wait(point: 0)
      stream.fill(buffer.base, with: 1, byteCount: 8)
      if join { stream.reach(point: 1) }
      stream.enter(lane: 0)
      if join { stream.wait(point: 1) }
    }
    let other = try device.makeStream()
    #expect(try other.makeLanes(1, points: 3))
    try other.synchronize()
    fork(true)
    _ = try? stream.synchronize()
    fork(true)
    try stream.synchronize()
    fork(false)
    #expect(throws: DeviceError.self) { try stream.synchronize() }
  }

  // MARK: What callers do

  /// Whoever has an output written over an input gets what steps in the order of listing give.
  @Test func outputsMayLieOverInputs() throws {
    var graph = try GraphText.parse(
      "graph(%x: f32[8]) -> (%a, %b) { %c = constant f32[8] random(1) %a = neg(%x) %b = add(%x, %c) }",
      catalogue: .standard)
    graph.outputNames = ["a", "b"]
    var plan = try Builder.build(
      graph, name: "over", targets: [Machine.target()], options: BuildOptions(passes: [], fuses: false)
    ).plans[0]
    plan.setLanes([1, 2])
    func results(_ choice: LaneChoice?) throws -> [[Double]] {
      let engine = try Engine(plans: [plan], device: DeferredDevice(Machine.device, lanes: choice))
      let context = try engine.makeContext()
      let x = try engine.makeBuffer(HostTensor(.f32, [8], doubles: (0..<8).map { Double($0) }))
      let b = try engine.makeBuffer(byteCount: 32)
      try context.bind(input: "x", to: x, shape: [8])
      try context.bind(output: "a", to: x)
      try context.bind(output: "b", to: b)
      var found: [[Double]] = []
      for _ in 0..<4 {
        try context.run()
        found.append(try engine.read(x, as: .f32, [8]).doubles + engine.read(b, as: .f32, [8]).doubles)
      }
      return found
    }
    let expected = try results(nil)
    for choice in Self.choices { #expect(try results(choice) == expected, "\(choice)") }
  }

  /// A run that fails on the way leaves no lane going on, and the next one tells of its own error.
  @Test func lanesEndWhereARunFails() throws {
    func type(_ count: Int) -> ValueType { .tensor(TensorType(.f32, sizes: [count])) }
    var plan = Plan(name: "fails", fingerprint: Fingerprint(backend: "cpu", target: "x86-64", features: []))
    plan.slots = [
      Slot(name: "x", type: type(4), storage: .input(0)), Slot(name: "y", type: type(5), storage: .output(0)),
      Slot(name: "h", type: type(4), storage: .arena),
    ]
    plan.inputs = [Binding(name: "x", type: type(4), slot: 0)]
    plan.outputs = [Binding(name: "y", type: type(5), slot: 1)]
    plan.steps = [
      Step(.copy(from: 0, to: 2), name: "copy", tactic: "copy", lane: 1),
      Step(.copy(from: 2, to: 1), name: "copy", tactic: "copy", lane: 2),
    ]
    plan.assignLifetimes()
    let engine = try Engine(plans: [plan], device: DeferredDevice(Machine.device, lanes: .last))
    let context = try engine.makeContext()
    try context.bind(input: "x", to: HostTensor(.f32, [4], doubles: [1, 2, 3, 4]))
    for _ in 0..<3 {
      do {
        try context.run()
        Issue.record("no error")
      } catch { #expect(error.problems.map(\.code) == ["APUS-R-0017"]) }
    }
  }

  // MARK: Memory

  /// Buffers whose bytes meet are in use one after the other, whatever the lanes do.
  @Test(arguments: 0..<20 as Range<UInt64>) func unorderedStepsShareNoBytes(_ seed: UInt64) throws {
    let graph = try Self.graph(3000 + seed * 20..<3020 + seed * 20, 5)
    let runner = try GraphRunner(graph, .raw, target: Machine.target(), device: NullDevice()) {
      $0.spread(over: 2 + Int(seed % 3), seed: seed)
    }
    let plan = runner.plan
    let program = Program(plan)
    let symbols = plan.shapeSymbols.map { min(max(3, $0.range.lower), $0.range.upper) }
    let bound = try BoundPlan(piece: program, symbols: symbols, memoryLimit: .max / 4)
    let uses = plan.stepsBySlot()
    let slots = plan.slots.indices.filter { plan.slots[$0].storage == .arena && bound.byteCounts[$0] > 0 }
    var meetings = 0
    for (position, a) in slots.enumerated() {
      for b in slots[(position + 1)...] {
        let (x, y) = (bound.arenaOffsets[a], bound.arenaOffsets[b])
        guard x < y + bound.byteCounts[b], y < x + bound.byteCounts[a] else { continue }
        meetings += 1
        let (first, second) = (uses[a] ?? [], uses[b] ?? [])
        let isOrdered =
          first.allSatisfy { one in second.allSatisfy { Self.isBefore(one, $0, program) } }
          || second.allSatisfy { one in first.allSatisfy { Self.isBefore(one, $0, program) } }
        #expect(isOrdered, "slots \(a) and \(b) of steps \(first) and \(second)")
      }
    }
    #expect(meetings > 0)
    // What is forecast is what is planned.
    #expect(bound.arena.lowerBound <= bound.arena.byteCount && bound.arena.byteCount <= bound.arena.sum)
  }

  private static func isBefore(_ one: Int, _ other: Int, _ program: Program) -> Bool {
    guard one < other else { return false }
    guard let segment = program.segments.first(where: { ($0.first..<$0.end).contains(other) }), one >= segment.first,
      let order = segment.order
    else { return true }
    return order.isBefore(one - segment.first, other - segment.first)
  }

  // MARK: Insight

  /// Steps are timed one after the other, which the profiler says; results stay the same.
  @Test func timedStepsComeOneAfterTheOther() throws {
    let graph = try Self.graph(10..<30, 4)
    let runner = try GraphRunner(graph, .raw, target: Machine.target(), device: NullDevice()) {
      $0.spread(over: 3, seed: 1)
    }
    #expect(LayerProfiler(plan: runner.plan).serialisesLanes)
    var plain = runner.plan
    plain.setLanes(plain.allSteps.map { _ in 0 })
    #expect(!LayerProfiler(plan: plain).serialisesLanes)
  }
}
