import ApusCore
import ApusPlan
import Testing

@testable import ApusRuntime

/// What a table of ranges and a request give, without a device that computes.
@Suite struct ProfileTableTests {
  /// Sizes that one input takes: from the first to the last.
  typealias Range = (low: Int, high: Int)

  /// A plan whose input `i` has `rows[i]` rows and 2 columns.
  private static func plan(_ name: String, _ rows: [Range]) -> Plan {
    var maker = PlanMaker()
    maker.plan.profile = Profile(name: name, ranges: [])
    for (index, range) in rows.enumerated() {
      let symbol = Symbol("n\(index)", Interval(range.low, range.high))
      if range.low < range.high { maker.plan.shapeSymbols.append(symbol) }
      _ = maker.input("x\(index)", .f32, [range.low == range.high ? Dim(range.low) : Dim(symbol), 2])
    }
    return maker.finish()
  }

  private static func engine(_ profiles: [[Range]]) throws -> Engine {
    try Engine(plans: profiles.enumerated().map { plan("p\($0)", $1) }, device: NullDevice())
  }

  private func run(
    _ context: borrowing ExecutionContext, _ rows: [Int], _ selection: ProfileSelection? = nil
  ) throws -> Int {
    _ = try context.run(
      ordered: rows.map { .tensor(HostTensor(.f32, [$0, 2], doubles: [Double](repeating: 1, count: 2 * $0))) },
      profile: selection)
    return context.activeProfile
  }

  @Test func withoutARequestTheFirstRunsWhateverTheShapesAre() throws {
    let context = try Self.engine([[(1, 1)], [(2, 8)]]).makeContext()
    #expect(try run(context, [1]) == 0)
    #expect(problems { _ = try run(context, [4]) } == ["APUS-R-0005 input 'x0', axis 0"])
  }

  @Test func aPinIsTakenAsItIs() throws {
    let context = try Self.engine([[(1, 1)], [(2, 8)]]).makeContext()
    #expect(problems { _ = try run(context, [1], 1) } == ["APUS-R-0007 input 'x0', axis 0"])
    #expect(try run(context, [2], 1) == 1)
  }

  @Test func automaticTakesTheOnlyOneThatFits() throws {
    let context = try Self.engine([[(1, 1)], [(2, 8)], [(9, 20)]]).makeContext()
    #expect(try run(context, [9], .automatic) == 2)
  }

  /// Whatever ran before.
  @Test func automaticTakesTheLowestOfSeveral() throws {
    let context = try Self.engine([[(1, 1)], [(1, 8)], [(1, 20)]]).makeContext()
    #expect(try [20, 4, 1, 4, 20, 1].map { try run(context, [$0], .automatic) } == [2, 1, 0, 1, 2, 0])
    #expect(try run(context, [1], 2) == 2)
    #expect(try run(context, [1], .automatic) == 0)
  }

  @Test func automaticSkipsAProfileThatFitsSomeInputsOnly() throws {
    let context = try Self.engine([[(1, 4), (1, 1)], [(1, 4), (1, 4)]]).makeContext()
    #expect(try run(context, [3, 2], .automatic) == 1)
  }

  @Test func automaticRefusesWhatNoneCovers() throws {
    let context = try Self.engine([[(1, 4), (1, 1)], [(1, 1), (1, 4)]]).makeContext()
    #expect(problems { _ = try run(context, [2, 2], .automatic) } == ["APUS-R-0008 inputs"])
  }

  @Test func automaticRefusesARankThatDoesNotMatch() throws {
    let context = try Self.engine([[(1, 4)], [(2, 8)]]).makeContext()
    let vector = HostValue.tensor(HostTensor(.f32, [4], doubles: [1, 2, 3, 4]))
    #expect(problems { _ = try context.run(ordered: [vector], profile: .automatic) } == ["APUS-R-0004 input 'x0'"])
  }

  @Test(arguments: [2, -3]) func pinsPastTheEndsAreRefused(index: Int) throws {
    let context = try Self.engine([[(1, 4)], [(2, 8)]]).makeContext()
    #expect(problems { _ = try run(context, [3], .index(index)) } == ["APUS-R-0020 profile"])
  }

  /// Nothing takes the place of a profile that is not there, of an engine with one as with several.
  @Test(arguments: [1, 2], [true, false]) func noProfileStandsInForAnother(count: Int, isStatic: Bool) throws {
    let engine = try Self.engine([[Range]](repeating: [isStatic ? (3, 3) : (1, 4)], count: count))
    let context = try engine.makeContext()
    #expect(problems { _ = try run(context, [3], .index(count)) } == ["APUS-R-0020 profile"])
    #expect(problems { _ = try run(context, [3], -1) } == ["APUS-R-0020 profile"])
    #expect(try run(context, [3], .index(count - 1)) == count - 1)
  }

  @Test func automaticWithoutInputsTakesTheFirst() throws {
    let context = try Self.engine([[], []]).makeContext()
    #expect(try run(context, [], .automatic) == 0)
  }

  @Test func anEngineWithoutPlansIsRefused() {
    #expect(problems { _ = try Engine(plans: [], device: NullDevice()) } == ["APUS-E-0008 plans"])
  }

  @Test func aProfileWithFewerInputsIsRefused() {
    #expect(problems { _ = try Self.engine([[(1, 4), (1, 4)], [(1, 4)]]) } == ["APUS-E-0008 plans"])
  }

  // MARK: Elements that decide sizes

  /// Copies `x` of `values[0]` rows; `v` holds the number.
  private static func plan(_ name: String, values: Dim, of symbols: [Symbol]) -> Plan {
    var maker = PlanMaker()
    maker.plan.profile = Profile(name: name, ranges: [])
    maker.plan.shapeSymbols = symbols
    _ = maker.input("v", .i32, [1])
    maker.plan.inputs[0].values = [values]
    return maker.finish()
  }

  private static func valued() throws -> Engine {
    let symbol = Symbol("v$0", Interval(-4, 8))
    return try Engine(
      plans: [plan("wildcard", values: -1, of: []), plan("range", values: Dim(symbol), of: [symbol])],
      device: NullDevice())
  }

  @Test(arguments: [(-1, 0), (-4, 1), (0, 1), (8, 1)]) func valuesTellProfilesApart(value: Int, profile: Int) throws {
    let context = try Self.valued().makeContext()
    _ = try context.run(inputs: ["v": HostTensor(.i32, [1], int64s: [Int64(value)])], profile: .automatic)
    #expect(context.activeProfile == profile)
  }

  @Test(arguments: [-5, 9, Int(Int32.min)]) func valuesOutsideAreNamed(value: Int) throws {
    let context = try Self.valued().makeContext()
    let inputs = ["v": HostTensor(.i32, [1], int64s: [Int64(value)])]
    #expect(problems { _ = try context.run(inputs: inputs, profile: .automatic) } == ["APUS-R-0008 inputs"])
    #expect(problems { _ = try context.run(inputs: inputs, profile: 1) } == ["APUS-R-0007 input 'v', element 0"])
    #expect(problems { _ = try context.run(inputs: inputs) } == ["APUS-R-0005 input 'v', element 0"])
  }

  /// Too few elements are a wrong shape, and nothing past them is read.
  @Test func tooFewElementsAreAShapeThatDoesNotFit() throws {
    let context = try Self.valued().makeContext()
    let found = problems { _ = try context.run(inputs: ["v": HostTensor(.i32, [0])], profile: 1) }
    #expect(found.first == "APUS-R-0005 input 'v', axis 0", "\(found)")
  }

  @Test func plansWithOddValuesAreRefused() {
    let symbol = Symbol("v$0", Interval(0, 8))
    func refusal(_ change: (inout Plan) -> Void) -> [String] {
      var plan = Self.plan("p", values: Dim(symbol), of: [symbol])
      change(&plan)
      return problems { try plan.validate() }
    }
    #expect(refusal { _ in } == [])
    #expect(refusal { $0.inputs[0].values = [] } == ["APUS-E-0008 input 'v'"])
    #expect(refusal { $0.inputs[0].values = [1, 2] } == ["APUS-E-0008 input 'v'"])
    #expect(refusal { $0.shapeSymbols = [] } == ["APUS-E-0008 input 'v'"])
    #expect(
      refusal {
        $0.runSymbols = $0.shapeSymbols
        $0.shapeSymbols = []
      } == ["APUS-E-0008 input 'v'"])
  }

  // MARK: Scopes

  /// A scope by name within one by index, and the other way round.
  @Test func theInnermostScopeDecides() throws {
    let engine = try Self.engine([[(1, 4)], [(1, 4)]])
    let context = try engine.makeContext()
    let inner = try engine.withProfile(1) { try engine.withProfile("p0") { try run(context, [2]) } }
    let other = try engine.withProfile("p0") { try engine.withProfile(1) { try run(context, [2]) } }
    #expect(inner == 0 && other == 1)
  }

  // MARK: What a change costs

  /// A profile that ran before is ready: its sizes are not worked out again.
  @Test func changesBindNothingAgain() throws {
    let context = try Self.engine([[(1, 1)], [(1, 8)]]).makeContext()
    for _ in 0..<5 {
      #expect(try run(context, [1], 0) == 0)
      #expect(try run(context, [4], 1) == 1)
      #expect(try run(context, [1], 1) == 1)
    }
    #expect(context.state.boundPlanCount == 3)
  }
}
