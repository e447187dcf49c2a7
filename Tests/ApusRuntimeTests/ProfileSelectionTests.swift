import ApusCore
import ApusPlan
import ApusRuntime
import Testing

/// Which profile runs: by index, by name, by shape, and by scope.
@Suite struct ProfileSelectionTests {
  private static func plan(_ profile: Profile, _ rows: Dim, _ symbols: [Symbol]) -> Plan {
    var maker = PlanMaker()
    maker.plan.profile = profile
    maker.plan.shapeSymbols = symbols
    let x = maker.input("x", .f32, [rows, 2])
    maker.add(.copy(from: x, to: maker.output("y", .f32, [rows, 2])))
    return maker.finish()
  }

  /// A plan for rows `low ... high`.
  private static func plan(_ name: String, _ low: Int, _ high: Int) -> Plan {
    let profile = Profile(name, ["n": low == high ? .fixed(low) : .range(min: low, max: high)])
    if low == high { return plan(profile, Dim(low), []) }
    let symbol = Symbol("n", Interval(low, high))
    return plan(profile, Dim(symbol), [symbol])
  }

  private static func engine() throws -> Engine {
    try Engine(plans: [plan("decode", 1, 1), plan("prefill", 1, 8), plan("long", 20, 30)], device: NullDevice())
  }

  private static func x(_ rows: Int) -> [String: HostTensor] {
    ["x": HostTensor(.f32, [rows, 2], doubles: (0..<2 * rows).map(Double.init))]
  }

  /// The profile that a call runs, after its result was checked.
  private func ran(
    _ context: borrowing ExecutionContext, _ rows: Int, _ selection: ProfileSelection? = nil
  ) throws -> Int {
    let results = try context.run(inputs: Self.x(rows), profile: selection)
    #expect(results["y"]?.tensor?.doubles == (0..<2 * rows).map(Double.init))
    return context.activeProfile
  }

  @Test func theFirstRunsByDefault() throws {
    let context = try Self.engine().makeContext()
    #expect(try ran(context, 1) == 0)
    #expect(problems { _ = try context.run(inputs: Self.x(2)) } == ["APUS-R-0005 input 'x', axis 0"])
    #expect(try ran(context, 1) == 0)
  }

  @Test func aCallNamesItsProfile() throws {
    let context = try Self.engine().makeContext()
    #expect(try ran(context, 1, .index(1)) == 1)
    #expect(try ran(context, 4, "prefill") == 1)
    #expect(try ran(context, 25, 2) == 2)
    #expect(try ran(context, 1, "decode") == 0)
  }

  /// The result depends on the shapes only, whatever ran before.
  @Test func automaticTakesTheLowestThatFits() throws {
    let context = try Self.engine().makeContext()
    for (rows, profile) in [(1, 0), (4, 1), (1, 0), (25, 2), (8, 1), (1, 0)] {
      #expect(try ran(context, rows, .automatic) == profile)
    }
  }

  @Test func noneFitsSaysTheSameEveryTime() throws {
    let context = try Self.engine().makeContext()
    var messages: Set<String> = []
    for _ in 0..<3 {
      let error = #expect(throws: RunError.self) { try context.run(inputs: Self.x(12), profile: .automatic) }
      messages.insert(error?.description ?? "")
    }
    #expect(messages.count == 1)
    let message = messages.first ?? ""
    for part in ["APUS-R-0008", "'x' is [12, 2]", "'decode' [1, 2]", "'prefill' [n=1…8, 2]", "'long' [n=20…30, 2]"] {
      #expect(message.contains(part), "\(message)")
    }
    #expect(try ran(context, 4, .automatic) == 1)
  }

  @Test(arguments: [ProfileSelection.index(3), .index(-1), .named("Decode"), .named("")])
  func unknownProfilesAreRefused(_ selection: ProfileSelection) throws {
    let engine = try Self.engine()
    let context = try engine.makeContext()
    #expect(problems { _ = try context.run(inputs: Self.x(1), profile: selection) } == ["APUS-R-0020 profile"])
    var isReached = false
    #expect(problems { try engine.withProfile(selection) { isReached = true } } == ["APUS-R-0020 profile"])
    #expect(!isReached)
    #expect(try ran(context, 1) == 0)
  }

  @Test func scopesNestAndEnd() throws {
    struct Stop: Error {}
    let engine = try Self.engine()
    let context = try engine.makeContext()
    var found: [Int] = []
    try engine.withProfile(1) {
      found.append(try ran(context, 1))
      try engine.withProfile(.automatic) {
        found.append(try ran(context, 1))
        found.append(try ran(context, 25))
        found.append(try ran(context, 3, "prefill"))
      }
      found.append(try ran(context, 1))
      do { try engine.withProfile("decode") { throw Stop() } } catch is Stop { found.append(-1) }
      found.append(try ran(context, 1))
    }
    found.append(try ran(context, 1))
    #expect(found == [1, 0, 2, 1, 1, -1, 1, 0])
  }

  @Test func scopesAreOfOneEngine() throws {
    let (engine, other) = (try Self.engine(), try Self.engine())
    let context = try engine.makeContext()
    let otherContext = try other.makeContext()
    var found: [Int] = []
    try engine.withProfile(1) {
      found.append(try ran(otherContext, 1))
      found.append(try ran(context, 1))
    }
    #expect(found == [0, 1])
  }

  /// Two tasks with different scopes on one engine each get theirs.
  @Test func scopesBelongToTheTask() async throws {
    let engine = try Self.engine()
    try await withThrowingTaskGroup(of: Set<Int>.self) { group in
      for task in 0..<8 {
        group.addTask {
          try engine.withProfile(.index(task % 2)) {
            let context = try engine.makeContext()
            var found: Set<Int> = [10 + task % 2]
            for _ in 0..<200 { found.insert(try ran(context, 1)) }
            return found
          }
        }
      }
      for try await found in group { #expect(found == [0, 10] || found == [1, 11]) }
    }
  }

  @Test func boundMemoryServesEveryProfile() throws {
    let context = try Self.engine().makeContext()
    try context.bind(input: "x", to: HostTensor(.f32, [1, 2], doubles: [3, 4]))
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 8, alignment: 64)
    defer { memory.deallocate() }
    try context.bind(output: "y", to: memory)
    for profile in [0, 1, 0, 1] {
      memory.initializeMemory(as: UInt8.self, repeating: 0xAA)
      try context.run(profile: .index(profile))
      #expect(context.activeProfile == profile && memory.load(as: Float.self) == 3)
    }
  }

  @Test func plansOfOneEngineBelongTogether() throws {
    let plan = Self.plan("a", 1, 4)
    func refusal(_ plans: [Plan]) -> [String] { problems { _ = try Engine(plans: plans, device: NullDevice()) } }
    #expect(refusal([]) == ["APUS-E-0008 plans"])
    #expect(refusal([plan, plan]) == ["APUS-E-0008 plans"])
    var maker = PlanMaker()
    _ = maker.input("z", .f32, [2])
    maker.plan.profile.name = "b"
    #expect(refusal([plan, maker.finish()]) == ["APUS-E-0008 plans"])
  }

  @Test func profilesSurviveTheFile() throws {
    let engine = try Self.engine()
    let bytes = try EngineFile.encode(engine.plans)
    let owner = HostStorage(byteCount: bytes.count)
    bytes.withUnsafeBytes { UnsafeMutableRawBufferPointer(start: owner.base, count: $0.count).copyMemory(from: $0) }
    let plans = try EngineFile.decode(UnsafeRawBufferPointer(start: owner.base, count: bytes.count), owner: owner)
    #expect(plans.map(\.profile) == engine.profiles)
    let context = try Engine(plans: plans, device: NullDevice()).makeContext()
    #expect(try ran(context, 25, .automatic) == 2)
    #expect(try ran(context, 1) == 0)
  }

  // MARK: Fastest

  /// Two profiles that hold the same shapes; the second is said to be faster from 4 rows on.
  private static func measured(_ timings: [[Timing]]) throws -> Engine {
    var plans = [plan("flat", 1, 8), plan("steep", 1, 8)]
    for index in plans.indices {
      let n = Dim(Symbol("n", Interval(1, 8)))
      for step in plans[index].steps.indices { plans[index].steps[step].work = 100 * n }
      plans[index].timings = timings[index]
    }
    return try Engine(plans: plans, device: NullDevice())
  }

  @Test func fastestTakesTheLeastPredictedTime() throws {
    let flat = [Timing(work: 100, seconds: 4), Timing(work: 800, seconds: 4)]
    let steep = [Timing(work: 100, seconds: 1), Timing(work: 800, seconds: 8)]
    let context = try Self.measured([flat, steep]).makeContext()
    for (rows, profile) in [(1, 1), (3, 1), (5, 0), (8, 0), (1, 1)] {
      #expect(try ran(context, rows, .fastest) == profile, "\(rows) rows")
    }
    #expect(problems { _ = try context.run(inputs: Self.x(9), profile: .fastest) } == ["APUS-R-0008 inputs"])
  }

  @Test func fastestNeedsTimes() throws {
    let context = try Self.measured([[], []]).makeContext()
    #expect(problems { _ = try context.run(inputs: Self.x(2), profile: .fastest) } == ["APUS-R-0021 profile"])
    #expect(try ran(context, 2, .automatic) == 0)
  }

  @Test func predictionsAreLinesBetweenPoints() {
    let timings = [Timing(work: 10, seconds: 1), Timing(work: 20, seconds: 3)]
    let found = [0, 10, 15, 20, 40].map { timings.seconds(forWork: $0) }
    #expect(found == [1, 1, 2, 3, 6])
    #expect([Timing]().seconds(forWork: 5) == nil)
  }
}
