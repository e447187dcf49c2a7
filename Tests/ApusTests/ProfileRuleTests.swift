import Apus
import ApusCompiler
import ApusCore
import ApusGraph
import ApusImport
import ApusOps
import Foundation
import TestSupport
import Testing

/// The rules of profiles that a build and a run show, by their names in the specification (D declaration, U union,
/// X across inputs, E export). The others are in ``InputDeclarationTests``.
@Suite struct ProfileRuleTests {
  /// Plans of `y = relu(x · w)`, `x` of `n` rows and 4 columns.
  private func plans(_ profiles: [Input.Sizes], names: [String] = []) throws -> [Plan] {
    try plans([Input("x", .f32, profiles: profiles, sharedDims: [0: "n"])], names: names)
  }

  private func plans(
    _ inputs: [Input], names: [String] = [], warn: (Diagnostic) -> Void = { _ in }
  ) throws -> [Plan] {
    let file = try ModelOnDisk(ONNXModel.product)
    defer { file.remove() }
    return try buildPlans(
      contentsOf: file.url, inputs: inputs, profileNames: names, backend: Backend.underTest.name,
      targets: [Backend.ownTarget], warn: warn)
  }

  private static func x(_ rows: Int) -> [String: HostTensor] {
    ["x": RandomTensor.make(.f32, [rows, 4], seed: UInt64(rows + 1))]
  }

  private static let range = Input.Sizes.range(min: [0, 4], opt: [8, 4], max: [16, 4])

  @Test(arguments: [true, false]) func d8_d16_emptyTensorsRun(isSingleRange: Bool) throws {
    let input = Input("x", .f32, Self.range)
    let built = isSingleRange ? try plans([input]) : try plans([Self.range])
    let context = try Engine(plans: built, threads: 1).makeContext()
    #expect(try context.run(inputs: Self.x(0))["y"]?.tensor?.shape == [0, 3])
    #expect(try context.run(inputs: Self.x(3))["y"]?.tensor?.shape == [3, 3])
  }

  /// Profiles belong to a build. A model that is built without them takes plain tensors of every size.
  @Test func d18_withoutProfilesEverySizeRuns() throws {
    let file = try ModelOnDisk(ONNXModel.product)
    defer { file.remove() }
    let built = try buildPlans(contentsOf: file.url, backend: Backend.underTest.name, targets: [Backend.ownTarget])
    let engine = try Engine(plans: built, threads: 1)
    #expect(engine.profiles.count == 1 && engine.profiles[0].ranges.isEmpty)
    let context = try engine.makeContext()
    for rows in [0, 1, 77] { #expect(try context.run(inputs: Self.x(rows))["y"]?.tensor?.shape == [rows, 3]) }
  }

  @Test func u2_sizesInGapsAreRefusedWhenRunning() throws {
    let built = try plans([.fixed([1, 4]), .range(min: [10, 4], max: [20, 4])])
    let context = try Engine(plans: built, threads: 1).makeContext()
    #expect(problems { _ = try context.run(inputs: Self.x(5), profile: .automatic) } == ["APUS-R-0008 inputs"])
    #expect(try context.run(inputs: Self.x(15), profile: .automatic)["y"]?.tensor?.shape == [15, 3])
  }

  /// Upstream exports at the first profile's opt, so that the order of profiles decides what is specialised.
  @Test func e3_theOrderOfProfilesChangesNothing() throws {
    let (decode, prefill) = (Input.Sizes.fixed([1, 4]), Input.Sizes.range(min: [1, 4], opt: [8, 4], max: [16, 4]))
    let forward = try plans([decode, prefill], names: ["decode", "prefill"])
    let backward = try plans([prefill, decode], names: ["prefill", "decode"])
    for (plan, other) in zip(forward, backward.reversed()) {
      #expect(plan.profile == other.profile && plan.shapeSymbols == other.shapeSymbols)
      #expect(plan.steps.map(\.name) == other.steps.map(\.name))
      #expect(plan.steps.map(\.tactic) == other.steps.map(\.tactic))
      #expect(plan.steps.map { "\($0.work)" } == other.steps.map { "\($0.work)" })
    }
  }

  @Test func e4_aRangeWiderThanTheModelNamesBoth() throws {
    let wide = Input("x", .f32, profiles: [.range(min: [1, 2], max: [8, 9])])
    let error = #expect(throws: ImportError.self) { try plans([wide]) }
    #expect(error?.problems.map(\.code) == ["APUS-I-0041"])
    #expect(error?.problems.first?.place.hasSuffix("input 'x'") == true)
    #expect(error?.description.contains("dim 1 is 4 in the model, the shape given says 2…9") == true)
  }

  @Test func e4_aSymbolRangeWiderThanTheModelNamesBoth() throws {
    var graph = Graph()
    let n = Dim(Symbol("n", Interval(2, 64)))
    let x = graph.addInput("x", .tensor(TensorType(.f32, [n])))
    graph.outputs = [x]
    graph.outputNames = ["y"]
    let model = Model(graph: graph, name: "m", producer: "", opsets: [:], metadata: [:])
    func refusal(_ range: Profile.Sizes) throws -> String? {
      do throws(BuildError) {
        let options = BuildOptions(profiles: [Profile("p", ["n": range])])
        _ = try build(model, for: .underTest, targets: [Backend.ownTarget], options: options)
        return nil
      } catch { return error.problems.first.map { "\($0.code) \($0.place): \($0.message)" } }
    }
    #expect(
      try refusal(.range(min: 1, opt: 2, max: 65))
        == "APUS-B-0019 profile 'p': 'n' is 1..65@2, the model allows 2…64")
    #expect(try refusal(.range(min: 4, max: 8)) == nil)
  }

  @Test func e4_aNarrowerRangeNarrows() throws {
    let plan = try plans([.range(min: [3, 4], max: [5, 4])])[0]
    #expect(plan.shapeSymbols == [Symbol("n", Interval(3, 5), opt: 4)])
  }

  @Test func e4_symbolsThatTheModelDoesNotHaveAreRefused() throws {
    let file = try ModelOnDisk(ONNXModel.product)
    defer { file.remove() }
    let found = problems {
      _ = try buildPlans(
        contentsOf: file.url, profiles: [Profile("p", ["rows": .fixed(1)])], backend: Backend.underTest.name,
        targets: [Backend.ownTarget])
    }
    #expect(found == ["APUS-B-0018 profile 'p'"])
  }

  @Test func e5_theDefaultOptIsWhatIsTunedFor() throws {
    #expect(try plans([.range(min: [1000, 4], max: [1200, 4])])[0].shapeSymbols.map(\.opt) == [1100])
  }

  /// Upstream fails when weights are moved off the device for a build with profiles. Here a build needs no device, and
  /// weights stay on the host until an engine is loaded.
  @Test func e6_aBuildNeedsNoDevice() throws {
    let file = try ModelOnDisk(ONNXModel.product)
    defer { file.remove() }
    let input = Input("x", .f32, profiles: [.fixed([1, 4]), .fixed([2, 4])])
    let built = try buildPlans(
      contentsOf: file.url, inputs: [input], backend: Backend.underTest.name, targets: [Backend.otherTarget])
    #expect(built.count == 2 && built.allSatisfy { $0.fingerprint.target.hasPrefix(Backend.otherTarget) })
    #expect(built[0].constants.byteCount > 0 && built[1].constants.address == built[0].constants.address)
  }
}

/// Warnings about corners of profiles that a model cannot be computed for.
@Suite struct ProfileWarningTests {
  /// Warnings of a build, or the codes of its error.
  private func warnings(_ graph: Graph, _ profiles: [Profile]) -> [String] {
    let model = Model(graph: graph, name: "m", producer: "", opsets: [:], metadata: [:])
    do throws(BuildError) {
      let options = BuildOptions(profiles: profiles)
      let result = try build(model, for: .underTest, targets: [Backend.ownTarget], options: options)
      return result.warnings.map { "\($0.code) \($0.place): \($0.message)" }
    } catch { return error.problems.map(\.code) }
  }

  private static let n = Dim(Symbol("n", Interval(0, 64)))
  private static let m = Dim(Symbol("m", Interval(0, 64)))

  /// The part of `x` from `start` on.
  private func tail(_ size: Dim, start: Dim) throws -> Graph {
    var graph = Graph()
    let x = graph.addInput("x", .tensor(TensorType(.f32, [Self.n, Self.m])))
    graph.outputs = try graph.add(
      Slice(starts: [start, 0], sizes: [size, Self.m], steps: [1, 1]), [x], name: "tail")
    graph.outputNames = ["y"]
    return graph
  }

  @Test func aNegativeSizeAtMinIsNamed() throws {
    let found = warnings(
      try tail(Self.n - 4, start: 4), [Profile("wide", ["n": .range(min: 0, opt: 8, max: 16), "m": .fixed(1)])])
    #expect(
      found == [
        "APUS-B-0016 profile 'wide': 'tail' has the size n - 4, which lies in -4…12: it is negative at n=0"
      ])
  }

  @Test func aNegativeSizeInAMixedCornerIsNamed() throws {
    let found = warnings(
      try tail(Self.n - Self.m, start: Self.m),
      [Profile("p", ["n": .range(min: 4, opt: 8, max: 16), "m": .range(min: 4, opt: 4, max: 16)])])
    #expect(found.count == 1 && found[0].hasSuffix("it is negative at m=16, n=4"), "\(found)")
  }

  /// The interval of `n − n//2` reaches below zero, the size never does.
  @Test func sizesThatAreNeverNegativeGiveNoWarning() throws {
    let found = warnings(
      try tail(Self.n - Self.n.floorDivided(by: 2), start: 0), [Profile("p", ["n": .range(min: 0, max: 64)])])
    #expect(found == [])
  }

  @Test func profilesThatHoldEverywhereGiveNoWarning() throws {
    let graph = try tail(Self.n - 4, start: 4)
    #expect(warnings(graph, [Profile("p", ["n": .range(min: 4, max: 64)])]) == [])
    #expect(warnings(graph, []) == [])
  }

  /// Only elements that there are can be put into another shape.
  private func folded() throws -> Graph {
    var graph = Graph()
    let x = graph.addInput("x", .tensor(TensorType(.f32, [Self.n])))
    graph.outputs = try graph.add(Reshape([Self.n.floorDivided(by: 4), 4]), [x], name: "fold")
    graph.outputNames = ["y"]
    return graph
  }

  @Test func whatCannotBeComputedAtMaxIsNamed() throws {
    let found = warnings(try folded(), [Profile("p", ["n": .range(min: 4, opt: 8, max: 15)])])
    #expect(found.count == 1 && found[0].hasPrefix("APUS-B-0017 profile 'p': 'fold' cannot be computed"), "\(found)")
    #expect(found.first?.hasSuffix("at max") == true)
  }

  @Test func whatCannotBeComputedAtOptIsAnError() throws {
    #expect(warnings(try folded(), [Profile("p", ["n": .range(min: 4, opt: 9, max: 16)])]) == ["APUS-B-0014"])
  }
}
