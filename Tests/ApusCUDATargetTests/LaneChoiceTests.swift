import ApusCUDATarget
import ApusCore
import ApusGraph
import ApusOps
import ApusPlan
import ApusRuntime
import ApusTesting
import Testing

@testable import ApusCompiler

/// Which branches run side by side, without a GPU.
@Suite struct LaneChoiceTests {
  private static func build(_ text: String, streams: Int = 2) throws -> (plan: Plan, log: String) {
    var graph = try GraphText.parse(text, catalogue: .standard)
    graph.outputNames = graph.outputs.indices.map { "y\($0)" }
    let result = try Builder.build(
      graph, name: "branches", targets: [try UncompiledTarget("sm_90a")],
      options: BuildOptions(auxiliaryStreams: streams))
    return (result.plans[0], result.log.text.split(separator: "\n").filter { $0.contains("-> lanes") }.joined())
  }

  private static func lanes(_ plan: Plan) -> Set<Int> { Set(plan.allSteps.map(\.lane)) }

  /// A convolution, then branches of some convolutions each, the first of which may be longer, then their sum.
  private static func branches(_ count: Int, depth: Int, first: Int? = nil, size: Int, channels: Int = 64) -> String {
    let depths = (0..<count).map { $0 == 0 ? first ?? depth : depth }
    let type = "f16[1, \(size), \(size), \(channels)]"
    var text = "graph(%x: \(type)) -> (%z) {"
    var weights = 0
    func convolution(_ from: String, _ to: String) {
      text += " %w\(weights) = constant f16[\(channels), 3, 3, \(channels)] random(\(weights))"
      text += " %c\(to) = conv(%\(from), %w\(weights)) {strides: [1, 1], pads_begin: [1, 1], pads_end: [1, 1],"
      text += " dilations: [1, 1], groups: 1, layout: \"nhwc\"} %\(to) = relu(%c\(to))"
      weights += 1
    }
    convolution("x", "h")
    for branch in 0..<count {
      for layer in 0..<depths[branch] {
        convolution(layer == 0 ? "h" : "b\(branch)_\(layer - 1)", "b\(branch)_\(layer)")
      }
    }
    var sum = "b0_\((first ?? depth) - 1)"
    for branch in 1..<max(count, 1) {
      text += " %s\(branch) = add(%\(sum), %b\(branch)_\(depth - 1))"
      sum = "s\(branch)"
    }
    return text + " %z = sigmoid(%\(sum)) }"
  }

  @Test func branchesThatLeaveTheDeviceIdleRunSideBySide() throws {
    let (plan, log) = try Self.build(Self.branches(3, depth: 3, size: 14))
    #expect(Self.lanes(plan) == [0, 1, 2], "\(log)")
    #expect(log.hasPrefix("taken ") && log.contains("3 lanes: ") && log.contains("us predicted"), "\(log)")
    #expect(plan.auxiliaryLanes == 2)
    // Branches stay whole: each lane waits for the first step, and the first lane for the ends of both.
    let steps = plan.allSteps
    let order = LaneOrder(
      lanes: steps.map(\.lane), dependences: StepAccess.dependences(steps.compactMap { plan.access(of: $0) }))
    #expect(order.waits.count + order.joins.count == 4)
  }

  @Test func nothingIsForkedWhereThatDoesNotPay() throws {
    // One after the other, too short, filling the device, and not asked for.
    #expect(Self.lanes(try Self.build(Self.branches(1, depth: 6, size: 14)).plan) == [0])
    let small =
      "graph(%x: f16[4, 8], %y: f16[4, 8]) -> (%z) { %a = softmax(%x) {axis: 1} %b = softmax(%y) {axis: 0} %z = add(%a, %b) }"
    #expect(Self.lanes(try Self.build(small).plan) == [0])
    let (large, log) = try Self.build(Self.branches(3, depth: 3, size: 224))
    #expect(Self.lanes(large) == [0], "\(log)")
    // A shortcut of one convolution, as ResNet has them.
    let (shortcut, promise) = try Self.build(Self.branches(2, depth: 1, first: 3, size: 14))
    #expect(Self.lanes(shortcut) == [0] && promise.hasPrefix("refused"), "\(promise)")
    let (off, silence) = try Self.build(Self.branches(3, depth: 3, size: 14), streams: 0)
    #expect(Self.lanes(off) == [0] && silence.isEmpty && off.auxiliaryLanes == 0)
  }

  @Test func noMoreLanesThanAskedFor() throws {
    #expect(Self.lanes(try Self.build(Self.branches(5, depth: 3, size: 14), streams: 1).plan) == [0, 1])
    #expect(Self.lanes(try Self.build(Self.branches(5, depth: 3, size: 14), streams: 8).plan).count <= 5)
  }

  @Test func decisionsAreTheSameEachTime() throws {
    let text = Self.branches(4, depth: 2, size: 28)
    let (first, second) = (try Self.build(text).plan, try Self.build(text).plan)
    #expect(first.allSteps.map(\.lane) == second.allSteps.map(\.lane))
    #expect(try EngineFile.encode([first]) == EngineFile.encode([second]))
  }

  /// Lanes hold more memory at a time, but never much more.
  @Test(arguments: [2, 3, 6]) func theArenaStaysSmall(count: Int) throws {
    let (plan, log) = try Self.build(Self.branches(count, depth: 4, size: 40), streams: 8)
    let before = try #require(plan.withoutLanes.arenaByteCount(symbols: []))
    let after = try #require(plan.arenaByteCount(symbols: []))
    #expect(after <= before + max(before / 5, 4 << 20), "\(log)")
    #expect(plan.largestArenaByteCount == after)
  }

  /// A simulated device: two chains that each leave most of it idle take as long as one and the crossings.
  @Test func sharesOfTheDeviceAddUp() {
    func duration(_ share: Double, _ lanes: [Int]) -> Double {
      LaneSimulation(
        costs: [StepCost](repeating: StepCost(microseconds: 10, share: share), count: 4),
        dependences: [[], [0], [], [2]], crossing: 2
      ).duration(lanes)
    }
    #expect(duration(0.4, [0, 0, 0, 0]) == 40)
    #expect(abs(duration(0.4, [0, 0, 1, 1]) - 24) < 1e-9)
    #expect(duration(1, [0, 0, 1, 1]) > 39)
    #expect(duration(0.75, [0, 0, 1, 1]) > 24)
  }

  // MARK: What steps write

  /// Every buffer that a step reads was written by one before, in all plans of all samples: whoever emits a launch says what
  /// it writes.
  @Test func everySlotIsWrittenBeforeItIsRead() throws {
    let target = try UncompiledTarget("sm_90a")
    for graph in try SampleGroup.all.flatMap({ try $0.graphs() }) {
      let plan = try Builder.build(graph, name: "samples", targets: [target], options: BuildOptions()).plans[0]
      var found = PlanReads(plan).found
      for piece in plan.pieces { found += PlanReads(piece.plan).found }
      #expect(found == [])
    }
  }
}

/// Slots that are read before a step writes them.
private struct PlanReads {
  private let plan: Plan
  private var written: Set<Int> = []
  private(set) var found: [String] = []

  init(_ plan: Plan) {
    self.plan = plan
    for (index, slot) in plan.slots.enumerated() {
      if case .input = slot.storage { written.insert(index) }
      if slot.holdsObject { written.insert(index) }
    }
    visit(plan.steps)
    for output in plan.outputs where !written.contains(plan.root(of: output.slot)) {
      if case .constant = plan.slots[plan.root(of: output.slot)].storage { continue }
      found.append("output '\(output.name)' is not written")
    }
  }

  private mutating func visit(_ steps: [Step]) {
    for step in steps {
      if let access = plan.access(of: step) {
        for slot in access.reads where !written.contains(slot) {
          found.append("'\(step.name)' [\(step.tactic)] reads slot \(slot)")
        }
        written.formUnion(access.writes)
      }
      switch step.action {
      case .host(let call): written.formUnion(call.outputs.map { plan.root(of: $0) })
      case .piece(let piece): written.formUnion(piece.outputs.map { plan.root(of: $0) })
      case .loop(let loop):
        written.formUnion(loop.carried.flatMap { [$0.current] + ($0.result.map { [$0] } ?? []) })
        written.formUnion(loop.stacked.map(\.stacked) + loop.sliced.map(\.element))
        written.formUnion([loop.iteration, loop.bodyCondition].compactMap { $0 })
        visit(loop.body)
      case .branch(_, let then, let otherwise):
        visit(then)
        visit(otherwise)
      case .launch, .library, .copy, .bind, .define: break
      }
    }
  }
}
