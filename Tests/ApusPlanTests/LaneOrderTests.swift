import ApusCore
import Testing

@testable import ApusPlan

/// Where lanes wait for one another.
@Suite struct LaneOrderTests {
  private struct Case {
    var accesses: [StepAccess]
    var lanes: [Int]

    init(seed: UInt64) {
      var generator = Numbers(state: seed &* 977 &+ 5)
      let (slots, laneCount) = (Int.random(in: 2...12, using: &generator), Int.random(in: 1...4, using: &generator))
      accesses = (0..<Int.random(in: 1...40, using: &generator)).map { _ in
        let reads = (0..<Int.random(in: 0...3, using: &generator)).map { _ in
          Int.random(in: 0..<slots, using: &generator)
        }
        return StepAccess(reads: reads, writes: [Int.random(in: 0..<slots, using: &generator)])
      }
      lanes = accesses.map { _ in Int.random(in: 0..<laneCount, using: &generator) }
    }

    var order: LaneOrder { LaneOrder(lanes: lanes, dependences: StepAccess.dependences(accesses)) }

    /// Pairs of steps that touch the same slot, one of which writes it.
    var conflicts: [(Int, Int)] {
      accesses.indices.flatMap { later in
        (0..<later).filter { earlier in
          let (a, b) = (accesses[earlier], accesses[later])
          return !Set(a.writes).isDisjoint(with: b.reads + b.writes) || !Set(b.writes).isDisjoint(with: a.reads)
        }.map { ($0, later) }
      }
    }
  }

  private struct Numbers: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return (state ^ (state >> 29)) &* 0x9E37_79B9_7F4A_7C15
    }
  }

  /// The steps in an order that the waits allow: of the lanes that can go on the one that `choose` takes does. Nil where none can.
  private static func run(
    _ order: LaneOrder, without missing: Int? = nil, choose: ([Int]) -> Int
  ) -> [Int]? {
    var reached: Set<Int> = [LaneOrder.start]
    var queues = (0..<order.laneCount).map { lane in
      order.entries.indices.filter { order.entries[$0].lane == lane }[...]
    }
    var done: [Int] = []
    while queues.contains(where: { !$0.isEmpty }) {
      let open = queues.indices.filter { lane in
        guard let step = queues[lane].first else { return false }
        return order.entries[step].waits.allSatisfy { $0 == missing || reached.contains(order.waits[$0]) }
      }
      if open.isEmpty { return nil }
      let step = queues[choose(open)].removeFirst()
      if order.entries[step].point >= 0 { reached.insert(order.entries[step].point) }
      done.append(step)
    }
    return done
  }

  @Test(arguments: 0..<200 as Range<UInt64>) func everyOrderKeepsWhatStepsNeed(_ seed: UInt64) throws {
    let one = Case(seed: seed)
    let order = one.order
    var generator = Numbers(state: seed)
    let choices: [([Int]) -> Int] = [
      { $0[0] }, { $0[$0.count - 1] }, { $0[Int.random(in: 0..<$0.count, using: &generator)] },
    ]
    for choose in choices {
      let done = try #require(Self.run(order, choose: choose))
      var position = [Int](repeating: 0, count: done.count)
      for (index, step) in done.enumerated() { position[step] = index }
      for (earlier, later) in one.conflicts {
        #expect(position[earlier] < position[later] && order.isBefore(earlier, later))
      }
      for later in done.indices {
        for earlier in 0..<later where order.isBefore(earlier, later) { #expect(position[earlier] < position[later]) }
      }
    }
    for lane in order.lanes { #expect(order.entries.first { $0.lane == lane }?.waits.isEmpty == false) }
    #expect(order.pointCount >= order.laneCount)
  }

  /// Without any one of the waits that are for a step, some order breaks what steps need.
  @Test(arguments: 0..<60 as Range<UInt64>) func noWaitIsSuperfluous(_ seed: UInt64) throws {
    let one = Case(seed: seed)
    let order = one.order
    for wait in order.waits.indices where order.waits[wait] != LaneOrder.start {
      // The lane that waits goes on whenever it can, the one that it waits for when no other can.
      let eager = try #require(order.entries.first { $0.waits.contains(wait) }?.lane)
      let late = try #require(order.entries.first { $0.point == order.waits[wait] }?.lane)
      let done = try #require(
        Self.run(order, without: wait) { open in
          open.contains(eager) ? eager : open.first { $0 != late } ?? late
        })
      let position = Dictionary(uniqueKeysWithValues: done.enumerated().map { ($1, $0) })
      #expect(one.conflicts.contains { (position[$0.0] ?? 0) > (position[$0.1] ?? 0) }, "wait \(wait)")
    }
  }

  @Test func oneLaneWaitsForNothing() {
    let order = LaneOrder(lanes: [0, 0, 0], dependences: [[], [0], [0, 1]])
    #expect(order.waits == [] && order.joins == [] && order.lanes == [])
  }

  @Test func branchesForkAndJoinOnce() {
    // 0 → 1 → 2 on the lane beside, 0 → 3, then 4 needs both.
    let order = LaneOrder(lanes: [0, 1, 1, 0, 0], dependences: [[], [0], [1], [0], [2, 3]])
    #expect(order.waits == [2, 3] && order.joins == [] && order.pointCount == 4)
    #expect(!order.isBefore(2, 3) && order.isBefore(1, 4))
    // Nobody needs the lane: it is waited for at the end.
    let open = LaneOrder(lanes: [0, 1, 0], dependences: [[], [], []])
    #expect(open.waits == [LaneOrder.start] && open.joins == [1])
  }

  @Test func whatIsReadTwiceIsReadSideBySide() {
    let dependences = StepAccess.dependences([
      StepAccess(reads: [], writes: [0]), StepAccess(reads: [0], writes: [1]), StepAccess(reads: [0], writes: [2]),
      StepAccess(reads: [1], writes: [0]), StepAccess(reads: [], writes: [StepAccess.scratch, 3]),
      StepAccess(reads: [], writes: [StepAccess.scratch, 4]),
    ])
    #expect(dependences == [[], [0], [0], [0, 1, 2], [], [4]])
  }

  // MARK: Files

  /// Complaints about a plan that is wrong in one way.
  private static func complaints(_ change: (inout Plan) -> Void) -> [String] {
    var plan = SamplePlan.make()
    change(&plan)
    do throws(EngineFileError) {
      try plan.validate()
      return []
    } catch { return error.problems.map { "\($0.code) \($0.place): \($0.message)" } }
  }

  private static func launch(_ change: (inout Launch) -> Void) -> [String] {
    complaints { plan in
      guard case .launch(var launch) = plan.steps[0].action else { return }
      change(&launch)
      plan.steps[0].action = .launch(launch)
    }
  }

  @Test func hostilePlansAreRefused() {
    #expect(Self.complaints { _ in } == [])
    let step = "APUS-E-0008 step 0 'matmul'"
    #expect(Self.complaints { $0.steps[0].lane = 9 } == ["\(step): lane 9 is none that it can be on"])
    #expect(Self.complaints { $0.steps[0].lane = -1 } == ["\(step): lane -1 is none that it can be on"])
    #expect(
      Self.complaints { $0.steps[3].lane = 1 } == ["APUS-E-0008 step 3 'nonzero': lane 1 is none that it can be on"])
    #expect(Self.complaints { $0.steps[5].lane = 1 } == ["APUS-E-0008 step 5 'loop': lane 1 is none that it can be on"])
    #expect(Self.launch { $0.writes = [3] } == ["\(step): it writes buffer 3: there are 3"])
    #expect(Self.launch { $0.writes = [-1] } == ["\(step): it writes buffer -1: there are 3"])
    #expect(Self.launch { $0.writes = [2, 2] } == ["\(step): the buffers that it writes are not in order"])
    #expect(Self.launch { $0.writes = [0] } == ["\(step): it writes buffer 0, which is an input or a constant"])
    #expect(Self.launch { $0.writes = [1, 2] } == ["\(step): it writes buffer 1, which is an input or a constant"])
    #expect(
      Self.complaints { $0.auxiliaryLanes = 9 }
        == ["APUS-E-0008 profile 'small': steps may have 9 lanes, 8 at most"])
    #expect(
      Self.complaints { $0.slots[4].lastStep = 1 }
        == ["APUS-E-0008 slot 4 'h': it lives from step 0 to 1, steps 0 to 8 use it"])
  }

  @Test func lanesSurviveTheFile() throws {
    let plan = SamplePlan.make()
    let read = try decode(EngineFile.encode([plan]))[0]
    #expect(read.steps[0].lane == 1 && read.auxiliaryLanes == 2)
    guard case .launch(let launch) = read.steps[0].action else {
      Issue.record("no launch")
      return
    }
    #expect(launch.writes == [2])
  }
}
