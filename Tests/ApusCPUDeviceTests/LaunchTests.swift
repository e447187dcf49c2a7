import ApusCore
import ApusPlan
import ApusRuntime
import CAllocationCounter
import Testing

@testable import ApusCPUDevice

@Suite struct LaunchTests {
  @Test(arguments: [1, 2, 5], [1, 2, 7, 64]) func blocksAreSpreadOverThreads(threads: Int, blocks: Int) throws {
    let plan = try LaunchPlan.chain(depth: 5, blocks: Dim(blocks))
    let context = try Engine(plans: [plan], device: CPUDevice(threads: threads)).makeContext()
    for count in [0, 1, 100, 1000, 100] {
      let x = (0..<count).map { Double($0) / 8 - 3 }
      let y = try context.run(inputs: ["x": HostTensor(.f32, [count], doubles: x)])["y"]?.tensor
      #expect(y?.doubles == LaunchPlan.expected(x, depth: 5))
    }
  }

  @Test func eachThreadHasScratchOfItsOwn() throws {
    let type = ValueType.tensor(TensorType(.i64, [500]))
    let plan = try LaunchPlan.make(
      slots: [Slot(name: "y", type: type, storage: .output(0))], inputs: [],
      outputs: [Binding(name: "y", type: type, slot: 0)],
      steps: [LaunchPlan.launch("sums", [0], [2000], blocks: 500, scratch: 16000)])
    let context = try Engine(plans: [plan], device: CPUDevice(threads: 4)).makeContext()
    for _ in 0..<20 {
      let sums = try context.run(inputs: [String: HostTensor]())["y"]?.tensor?.ints
      #expect(sums == [Int](repeating: 1999 * 1000, count: 500))
    }
  }

  /// Many contexts on threads of their own share one small pool: every block runs exactly once.
  @Test func contextsShareThePool() async throws {
    let blocks = 37
    let runs = 400
    let type = ValueType.tensor(TensorType(.i32, sizes: [blocks]))
    let plan = try LaunchPlan.make(
      slots: [Slot(name: "counts", type: type, storage: .output(0))], inputs: [],
      outputs: [Binding(name: "counts", type: type, slot: 0)],
      steps: [
        LaunchPlan.launch("count", [0], blocks: Dim(blocks)), LaunchPlan.launch("count", [0], blocks: Dim(blocks)),
      ])
    let engine = try Engine(plans: [plan], device: CPUDevice(threads: 3))
    try await withThrowingTaskGroup(of: Bool.self) { group in
      for _ in 0..<8 {
        group.addTask {
          let context = try engine.makeContext()
          let memory = UnsafeMutableBufferPointer<Int32>.allocate(capacity: blocks)
          defer { memory.deallocate() }
          memory.initialize(repeating: 0)
          try context.bind(output: "counts", to: UnsafeMutableRawBufferPointer(memory))
          for _ in 0..<runs { try context.run() }
          return memory.allSatisfy { $0 == 2 * Int32(runs) }
        }
      }
      for try await isRight in group { #expect(isRight) }
    }
  }

  @Test func poolsComeAndGo() throws {
    let plan = try LaunchPlan.chain(depth: 2, blocks: 8)
    let x = HostTensor(.f32, [64], doubles: (0..<64).map(Double.init))
    for round in 0..<40 {
      let engine = try Engine(plans: [plan], device: CPUDevice(threads: 1 + round % 5))
      if round % 3 == 0 { continue }
      let y = try engine.makeContext().run(inputs: ["x": x])["y"]?.tensor?.doubles
      #expect(y == LaunchPlan.expected(x.doubles, depth: 2))
    }
  }

  @Test func sameInputsGiveTheSameBytes() throws {
    let plan = try LaunchPlan.chain(depth: 9, blocks: 16)
    let context = try Engine(plans: [plan], device: CPUDevice(threads: 3)).makeContext()
    let x = HostTensor(.f32, [999], doubles: (0..<999).map { Double($0).squareRoot() * 1e-3 })
    let first = try context.run(inputs: ["x": x])["y"]?.tensor?.elements(as: UInt32.self)
    for _ in 0..<50 { #expect(try context.run(inputs: ["x": x])["y"]?.tensor?.elements(as: UInt32.self) == first) }
  }

  @Test func steadyRunsAllocateNothing() throws {
    let plan = try LaunchPlan.chain(depth: 20, blocks: 4)
    let context = try Engine(plans: [plan], device: CPUDevice(threads: 2)).makeContext()
    let memory = UnsafeMutableBufferPointer<Float>.allocate(capacity: 4096)
    defer { memory.deallocate() }
    memory.initialize(repeating: 0.25)
    let raw = UnsafeMutableRawBufferPointer(memory)
    let halves = [UnsafeRawBufferPointer(rebasing: raw[..<4096]), UnsafeRawBufferPointer(rebasing: raw[4096..<8192])]
    try context.bind(output: "y", to: UnsafeMutableRawBufferPointer(rebasing: raw[8192...]))
    let shapes = [[1000], [900]]
    for round in 0..<4 {
      try context.bind(input: "x", to: halves[round % 2], shape: shapes[round % 2])
      try context.run()
    }
    let before = apus_allocation_count()
    for _ in 0..<100 { try context.run() }
    #expect(apus_allocation_count() - before == 0)
    // Moving inputs and going back to shapes seen before is free of allocations, too.
    let moving = apus_allocation_count()
    for round in 0..<100 {
      try context.bind(input: "x", to: halves[round % 2], shape: shapes[round % 2])
      try context.run()
    }
    #expect(apus_allocation_count() - moving == 0)
    try context.bind(input: "x", to: halves[0], shape: [17])
    try context.run()
    #expect(apus_allocation_count() - moving > 0)
    #expect(memory[2048] == Float(LaunchPlan.expected([0.25], depth: 20)[0]))
  }

  /// Nor do runs whose steps are on lanes: points are there before.
  @Test func steadyRunsOnLanesAllocateNothing() throws {
    var plan = try LaunchPlan.chain(depth: 6, blocks: 2)
    plan.setLanes([0, 1, 1, 0, 2, 0])
    let device = CPUDevice(threads: 2)
    let stream = LaneStream(try device.makeStream())
    let context = try Engine(plans: [plan], device: device).makeContext(stream: stream)
    let x = (0..<64).map(Double.init)
    try context.bind(input: "x", to: HostTensor(.f32, [64], doubles: x))
    for _ in 0..<3 { try context.run() }
    #expect(try context.output("y").tensor?.doubles == LaunchPlan.expected(x, depth: 6))
    for _ in 0..<3 { try context.run() }
    #expect(stream.laneCount == 2 && stream.pointCount == 7)
    stream.crossings = 0
    let before = apus_allocation_count()
    for _ in 0..<100 { try context.run() }
    #expect(apus_allocation_count() - before == 0)
    // Each of the four steps behind one of another lane waits once; nothing is left to join.
    #expect(stream.crossings == 400 && stream.lane == 0)
  }

  @Test func steadyRunsWithOwnOutputsAllocateNothing() throws {
    let plan = try LaunchPlan.chain(depth: 3, blocks: 2)
    let context = try Engine(plans: [plan], device: CPUDevice(threads: 1)).makeContext()
    try context.bind(input: "x", to: HostTensor(.f32, [64], doubles: (0..<64).map(Double.init)))
    for _ in 0..<3 { try context.run() }
    let before = apus_allocation_count()
    for _ in 0..<100 { try context.run() }
    #expect(apus_allocation_count() - before == 0)
    // Nor does writing down shapes that stay.
    context.record(to: try ShapeLog(path: "/dev/null"))
    try context.run()
    let recording = apus_allocation_count()
    for _ in 0..<100 { try context.run() }
    #expect(apus_allocation_count() - recording == 0)
  }

  /// Neither do calls that change between profiles, however the profile is chosen.
  @Test func changesOfProfileAllocateNothing() throws {
    var plans = [try LaunchPlan.chain(depth: 3, blocks: 2), try LaunchPlan.chain(depth: 5, blocks: 4)]
    for index in plans.indices {
      plans[index].profile.name = "p\(index)"
      plans[index].timings = [Timing(work: 1, seconds: Double(2 - index))]
    }
    let engine = try Engine(plans: plans, device: CPUDevice(threads: 2))
    let context = try engine.makeContext()
    try context.bind(input: "x", to: HostTensor(.f32, [64], doubles: (0..<64).map(Double.init)))
    let selections: [ProfileSelection?] = [0, 1, .automatic, "p1", .fastest, nil]
    for selection in selections { try context.run(profile: selection) }
    #expect(try allocations(context, selections) == 0)
    let inside = try engine.withProfile("p1") {
      try context.run()
      return (try allocations(context, [nil]), context.activeProfile)
    }
    #expect(inside == (0, 1))
  }

  /// Heap allocations of runs with each selection in turn.
  private func allocations(_ context: borrowing ExecutionContext, _ selections: [ProfileSelection?]) throws -> Int64 {
    let before = apus_allocation_count()
    for _ in 0..<50 {
      for position in selections.indices { try context.run(profile: selections[position]) }
    }
    return apus_allocation_count() - before
  }

  /// Nor do values that decide sizes, when they were seen before.
  @Test func changesOfValuesAllocateNothing() throws {
    var plan = try LaunchPlan.chain(depth: 2, blocks: 2)
    let symbol = Symbol("v$0", Interval(-9, 9))
    plan.shapeSymbols.append(symbol)
    let type = ValueType.tensor(TensorType(.i64, [1]))
    plan.slots.append(Slot(name: "v", type: type, storage: .input(1)))
    plan.inputs.append(Binding(name: "v", type: type, slot: plan.slots.count - 1, values: [Dim(symbol)]))
    let context = try Engine(plans: [plan], device: CPUDevice(threads: 1)).makeContext()
    let memory = UnsafeMutableBufferPointer<Int64>.allocate(capacity: 1)
    defer { memory.deallocate() }
    try context.bind(input: "x", to: HostTensor(.f32, [64], doubles: (0..<64).map(Double.init)))
    memory.initialize(repeating: 0)
    try context.bind(input: "v", to: UnsafeRawBufferPointer(memory), shape: [1])
    var counts: [Int64] = []
    for _ in 0..<8 {
      let before = apus_allocation_count()
      for value in -3..<3 {
        memory[0] = Int64(value)
        try context.run()
      }
      counts.append(apus_allocation_count() - before)
    }
    #expect(counts[0] > 0 && counts.suffix(5).allSatisfy { $0 == 0 }, "\(counts)")
    memory[0] = 10
    #expect(throws: RunError.self) { try context.run() }
  }

  @Test func launchesCostLittle() throws {
    let depth = 200
    let steps = (0..<depth).map { _ in LaunchPlan.launch("nothing", [0], blocks: 1) }
    let type = ValueType.tensor(TensorType(.f32, [Dim(LaunchPlan.n)]))
    let plan = try LaunchPlan.make(
      slots: [Slot(name: "x", type: type, storage: .input(0))], inputs: [Binding(name: "x", type: type, slot: 0)],
      outputs: [], steps: steps)
    let context = try Engine(plans: [plan], device: CPUDevice(threads: 2)).makeContext()
    try context.bind(input: "x", to: HostTensor(.f32, [4], doubles: [1, 2, 3, 4]))
    try context.run()
    let best = try (0..<20).map { _ in try ContinuousClock().measure { try context.run() } }.min() ?? .zero
    print("launch of one block: \(best / depth)")
    #expect(best / depth < .microseconds(20))
  }
}
