import Apus
import ApusCompiler
import ApusCore
import ApusGraph
import ApusImport
import ApusOps
import ApusTesting
import Foundation
import TestSupport
import Testing

/// Engines with several profiles, from model to result.
@Suite struct ProfileBuildTests {
  private static let decode = Profile("decode", ["n": .fixed(1)])
  private static let prefill = Profile("prefill", ["n": .range(min: 1, opt: 8, max: 16)])

  private static func plans(_ profiles: [Profile]) throws -> [Plan] {
    let model = try ONNXModel.product.bytes.withUnsafeBytes {
      try ONNXImporter().load($0, folder: nil, ImportOptions(catalogue: .standard))
    }
    return try build(model, for: .underTest, targets: [Backend.ownTarget], options: BuildOptions(profiles: profiles))
      .plans
  }

  private static func x(_ rows: Int) -> HostTensor { RandomTensor.make(.f32, [rows, 4], seed: UInt64(rows)) }

  @Test func everyProfileGivesTheSameResult() throws {
    let context = try Engine(plans: try Self.plans([Self.decode, Self.prefill]), threads: 2).makeContext()
    let single = try Engine(plans: try Self.plans([]), threads: 2).makeContext()
    for rows in [1, 5, 16, 1, 2] {
      let expected = try single.run(inputs: ["x": Self.x(rows)])["y"]?.tensor?.doubles
      for selection in [ProfileSelection.automatic, "prefill"] {
        let found = try context.run(inputs: ["x": Self.x(rows)], profile: selection)["y"]?.tensor?.doubles
        let error = zip(found ?? [], expected ?? []).map { abs($0 - $1) }.max() ?? .infinity
        #expect(found?.count == expected?.count && error < 1e-5, "\(rows) rows, \(selection)")
        #expect(context.activeProfile == (selection == .automatic && rows == 1 ? 0 : 1))
      }
    }
  }

  @Test func fixedSizesAreConstants() throws {
    let plans = try Self.plans([Self.decode, Self.prefill])
    #expect(plans[0].shapeSymbols.isEmpty && plans[0].inputs[0].type == .tensor(TensorType(.f32, [1, 4])))
    #expect(plans[1].shapeSymbols == [Symbol("n", Interval(1, 16), opt: 8)])
    for step in plans[0].steps {
      #expect(step.work.isConstant && step.traffic.isConstant)
      guard case .launch(let launch) = step.action else { continue }
      let open = launch.parameters.filter { !$0.isConstant }
      #expect(open.isEmpty, "\(step.name)")
    }
  }

  /// Equal kernels and equal weights are there once.
  @Test func profilesShare() throws {
    let one = try Self.plans([Self.prefill])
    var twin = Self.prefill
    twin.name = "twin"
    let two = try Self.plans([Self.prefill, twin])
    #expect(two[0].functions == one[0].functions && two[1].functions == one[0].functions)
    #expect(two[0].constants.byteCount == one[0].constants.byteCount)
    #expect(two[1].constants.address == two[0].constants.address)
  }

  @Test func profilesAreTimedWhereTheyAreBuilt() throws {
    let plans = try Self.plans([Self.decode, Self.prefill])
    #expect(plans.map(\.timings.count) == [1, 3])
    #expect(plans.flatMap(\.timings).allSatisfy { $0.seconds > 0 && $0.work > 0 })
    #expect(try Self.plans([Self.prefill])[0].timings.isEmpty)
  }

  @Test func sizesOutsideAreNamed() throws {
    let context = try Engine(plans: try Self.plans([Self.decode, Self.prefill]), threads: 1).makeContext()
    let error = #expect(throws: RunError.self) { try context.run(inputs: ["x": Self.x(17)], profile: "prefill") }
    #expect(error?.problems.map(\.code) == ["APUS-R-0007"])
    #expect(error?.description.contains("'n' is 17, the range is 1…16") == true)
    let none = #expect(throws: RunError.self) { try context.run(inputs: ["x": Self.x(17)], profile: .automatic) }
    #expect(none?.problems.map(\.code) == ["APUS-R-0008"])
  }

  @Test func theMiddleIsTheDefaultOpt() {
    let profile = Profile("p", ["n": .range(min: 1000, max: 1200)])
    #expect(profile.ranges == [.init(symbol: "n", min: 1000, opt: 1100, max: 1200)])
  }

  @Test func impossibleSizesAtOptAreRefused() throws {
    var graph = Graph()
    let x = graph.addInput("x", .tensor(TensorType(.f32, [Dim(Symbol("n", Interval(0, 64)))])))
    let n = Dim(Symbol("n", Interval(0, 64)))
    let part = try graph.add(Slice(starts: [4], sizes: [n - 4], steps: [1]), [x], name: "tail")
    graph.outputs = part
    graph.outputNames = ["y"]
    let model = Model(graph: graph, name: "tail", producer: "", opsets: [:], metadata: [:])
    let options = BuildOptions(profiles: [Profile("small", ["n": .range(min: 0, opt: 2, max: 8)])])
    let error = #expect(throws: BuildError.self) {
      try build(model, for: .underTest, targets: [Backend.ownTarget], options: options)
    }
    #expect(error?.problems.map(\.code) == ["APUS-B-0014"])
    #expect(error?.description.contains("profile 'small'") == true)
  }

  @Test func declaredInputsBecomeProfiles() throws {
    let file = try ModelOnDisk(ONNXModel.product)
    defer { file.remove() }
    let sizes: [Input.Sizes] = [.fixed([1, 4]), .range(min: [1, 4], opt: [8, 4], max: [16, 4])]
    let input = Input("x", .f32, profiles: sizes, sharedDims: [0: "rows"])
    let plans = try buildPlans(
      contentsOf: file.url, inputs: [input], profileNames: ["decode", "prefill"], backend: Backend.underTest.name)
    #expect(plans.map(\.profile.name) == ["decode", "prefill"])
    #expect(plans[1].shapeSymbols == [Symbol("rows", Interval(1, 16), opt: 8)])
    let context = try Engine(plans: plans, threads: 1).makeContext()
    for (rows, profile) in [(1, 0), (7, 1)] {
      let result = try context.run(inputs: ["x": Self.x(rows)], profile: .automatic)["y"]?.tensor
      #expect(result?.shape == [rows, 3] && context.activeProfile == profile)
    }
    let wrong = Input("x", .f16, profiles: sizes)
    let error = #expect(throws: BuildError.self) { try buildPlans(contentsOf: file.url, inputs: [wrong]) }
    #expect(error?.problems.map { "\($0.code) \($0.place)" } == ["APUS-B-0026 input 'x'"])
  }
}
