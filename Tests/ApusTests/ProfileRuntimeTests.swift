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

extension Backend: CustomTestStringConvertible {
  public var testDescription: String { name }
}

/// Profiles of a small perceptron and of a model with two inputs. A case never names a backend.
@Suite struct ProfileRuntimeTests {
  static let backends = [Backend.underTest]

  // MARK: Models

  /// 16 → 32 → 16 with ReLU, batch 4, `seq` positions.
  private static let perceptron = ONNXModel.model(
    [
      ONNXModel.node("MatMul", ["x", "w1"], ["h"], name: "up"), ONNXModel.node("Relu", ["h"], ["a"], name: "act"),
      ONNXModel.node("MatMul", ["a", "w2"], ["y"], name: "down"),
    ], inputs: [ONNXModel.value("x", ONNXModel.float, [4, "seq", 16])],
    outputs: [ONNXModel.value("y", ONNXModel.float, [4, "seq", 16])],
    constants: [
      ONNXModel.constant("w1", [16, 32], floats: weights(512, step: 37)),
      ONNXModel.constant("w2", [32, 16], floats: weights(512, step: 53)),
    ])

  /// `y = x · relu(x + mask)`, both of `seq` positions.
  private static let masked = ONNXModel.model(
    [
      ONNXModel.node("Add", ["x", "mask"], ["s"], name: "sum"), ONNXModel.node("Relu", ["s"], ["r"], name: "act"),
      ONNXModel.node("Mul", ["x", "r"], ["y"], name: "gate"),
    ], inputs: [ONNXModel.value("x", ONNXModel.float, [1, "a"]), ONNXModel.value("mask", ONNXModel.float, [1, "b"])],
    outputs: [ONNXModel.value("y", ONNXModel.float, [1, "c"])])

  private static func weights(_ count: Int, step: Int) -> [Float] {
    (0..<count).map { Float(($0 * step) % 101) / 101 - 0.5 }
  }

  private static let perceptronInputs = [
    Input(
      "x", .f32, profiles: [.fixed([4, 1, 16]), .range(min: [4, 1, 16], opt: [4, 48, 16], max: [4, 64, 16])],
      sharedDims: [1: "seq"])
  ]

  private static let maskedInputs = ["x", "mask"].map {
    Input(
      $0, .f32,
      profiles: [
        .range(min: [1, 1], opt: [1, 128], max: [1, 512]), .range(min: [1, 1], opt: [1, 1], max: [1, 16]),
      ],
      sharedDims: [1: "seq"])
  }

  /// An engine with the graph that says what is right.
  struct Fixture: Sendable {
    let graph: Graph
    let engine: Engine

    init(_ model: Proto, _ inputs: [Input], names: [String], _ backend: Backend) throws {
      let set = try ProfileSet(inputs, names: names)
      let read = try model.bytes.withUnsafeBytes {
        try ONNXImporter().load($0, folder: nil, ImportOptions(shapes: set.shapes, catalogue: .standard))
      }
      graph = read.graph
      let plans = try build(read, for: backend, options: BuildOptions(profiles: set.profiles)).plans
      engine = try Self.engine(plans, backend)
    }

    static func engine(_ plans: [Plan], _ backend: Backend) throws -> Engine {
      try Engine(plans: plans, device: backend.makeDevice(2), hostOperations: CatalogueHostOperations())
    }
  }

  private static let perceptrons = Dictionary(
    uniqueKeysWithValues: backends.map { backend in
      (backend.name, Result { try Fixture(perceptron, perceptronInputs, names: ["decode", "prefill"], backend) })
    })

  private static let maskeds = Dictionary(
    uniqueKeysWithValues: backends.map { backend in
      (backend.name, Result { try Fixture(masked, maskedInputs, names: ["prefill", "decode"], backend) })
    })

  private func perceptron(_ backend: Backend) throws -> Fixture {
    try #require(Self.perceptrons[backend.name]).get()
  }

  private func masked(_ backend: Backend) throws -> Fixture { try #require(Self.maskeds[backend.name]).get() }

  /// The profile that a call runs, after shape and result were compared with the interpreter's.
  private func ran(
    _ fixture: Fixture, _ context: borrowing ExecutionContext, _ positions: Int, _ selection: ProfileSelection? = nil
  ) throws -> Int {
    let inputs = fixture.graph.inputs.enumerated().map { index, id in
      let rank = fixture.graph.type(id).tensor?.rank
      return RandomTensor.make(
        .f32, rank == 3 ? [4, positions, 16] : [1, positions], seed: UInt64(100 * positions + index))
    }
    let expected = try Interpreter.run(fixture.graph, inputs: inputs.map { .tensor($0) })[0].tensor
    let found = try context.run(ordered: inputs.map { .tensor($0) }, profile: selection)[0].tensor
    #expect(found?.shape == expected?.shape)
    let error = zip(found?.doubles ?? [], expected?.doubles ?? []).map { abs($0 - $1) }.max() ?? .infinity
    #expect(error < 1e-4)
    return context.activeProfile
  }

  // MARK: One input

  @Test(arguments: backends) func anEngineHasItsProfiles(_ backend: Backend) throws {
    #expect(try perceptron(backend).engine.profiles.map(\.name) == ["decode", "prefill"])
  }

  @Test(arguments: backends) func aPinByIndexRunsDecode(_ backend: Backend) throws {
    let fixture = try perceptron(backend)
    let context = try fixture.engine.makeContext()
    #expect(try ran(fixture, context, 1, 0) == 0)
  }

  @Test(arguments: backends) func aPinByIndexRunsPrefill(_ backend: Backend) throws {
    let fixture = try perceptron(backend)
    let context = try fixture.engine.makeContext()
    #expect(try ran(fixture, context, 32, 1) == 1)
  }

  @Test(arguments: backends) func automaticRunsBothRegimes(_ backend: Backend) throws {
    let fixture = try perceptron(backend)
    let context = try fixture.engine.makeContext()
    #expect(try [1, 32].map { try ran(fixture, context, $0, .automatic) } == [0, 1])
  }

  /// Profiles overlap, and decode is first: it is taken again after prefill.
  @Test(arguments: backends) func automaticReturnsToDecodeAfterPrefill(_ backend: Backend) throws {
    let fixture = try perceptron(backend)
    let context = try fixture.engine.makeContext()
    #expect(try [64, 1, 2, 1].map { try ran(fixture, context, $0, .automatic) } == [1, 0, 1, 0])
  }

  @Test(arguments: backends) func aPinHoldsForEveryCallOfItsScope(_ backend: Backend) throws {
    let fixture = try perceptron(backend)
    let context = try fixture.engine.makeContext()
    try fixture.engine.withProfile(1) {
      let found = try [1, 32, 1].map { try ran(fixture, context, $0) }
      #expect(found == [1, 1, 1])
    }
  }

  @Test(arguments: backends) func aScopeLeavesTheDefaultBehind(_ backend: Backend) throws {
    let fixture = try perceptron(backend)
    let context = try fixture.engine.makeContext()
    #expect(try ran(fixture, context, 1) == 0)
    let inside = try fixture.engine.withProfile("prefill") { try ran(fixture, context, 1) }
    #expect(inside == 1)
    #expect(try ran(fixture, context, 1) == 0)
  }

  @Test(arguments: backends, [ProfileSelection.index(99), .index(2), .index(-1), "decoder"])
  func profilesThatAreNotThereAreRefused(_ backend: Backend, _ selection: ProfileSelection) throws {
    let fixture = try perceptron(backend)
    let context = try fixture.engine.makeContext()
    #expect(problems { _ = try ran(fixture, context, 1, selection) } == ["APUS-R-0020 profile"])
    #expect(problems { try fixture.engine.withProfile(selection) {} } == ["APUS-R-0020 profile"])
    #expect(try ran(fixture, context, 1) == 0)
  }

  @Test(arguments: backends) func profilesAreInTheFile(_ backend: Backend) throws {
    let fixture = try perceptron(backend)
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString).apus")
    defer { try? FileManager.default.removeItem(at: path) }
    try fixture.engine.plans.write(to: path)
    let loaded = Fixture(graph: fixture.graph, engine: try Fixture.engine(try EngineFile.read(path.path), backend))
    #expect(loaded.engine.profiles == fixture.engine.profiles)
    #expect(loaded.engine.profiles.map { $0.ranges.map { [$0.min, $0.max] } } == [[[1, 1]], [[1, 64]]])
    let context = try loaded.engine.makeContext()
    #expect(try [1, 32].map { try ran(loaded, context, $0, .automatic) } == [0, 1])
    let pinned = try loaded.engine.withProfile(1) { try ran(loaded, context, 1) }
    #expect(pinned == 1)
  }

  @Test(arguments: backends) func nothingFitsSaysSoOnEveryRetry(_ backend: Backend) throws {
    let fixture = try perceptron(backend)
    let context = try fixture.engine.makeContext()
    let long = ["x": RandomTensor.make(.f32, [4, 65, 16], seed: 1)]
    for _ in 0..<3 {
      #expect(problems { _ = try context.run(inputs: long, profile: .automatic) } == ["APUS-R-0008 inputs"])
    }
    #expect(try ran(fixture, context, 64, .automatic) == 1)
  }

  @Test(arguments: backends) func ranksThatDoNotMatchAreRefused(_ backend: Backend) throws {
    let context = try perceptron(backend).engine.makeContext()
    let x = RandomTensor.make(.f32, [1, 16], seed: 1)
    #expect(problems { _ = try context.run(inputs: ["x": x], profile: .automatic) } == ["APUS-R-0004 input 'x'"])
  }

  /// A constant axis is checked as the others are.
  @Test(arguments: backends) func constantAxesAreChecked(_ backend: Backend) throws {
    let context = try perceptron(backend).engine.makeContext()
    let x = RandomTensor.make(.f32, [5, 1, 16], seed: 1)
    #expect(problems { _ = try context.run(inputs: ["x": x], profile: .automatic) } == ["APUS-R-0008 inputs"])
    #expect(problems { _ = try context.run(inputs: ["x": x], profile: 1) } == ["APUS-R-0005 input 'x', axis 0"])
  }

  /// A context that is made within a scope runs the scope's profile, as one from before does.
  @Test(arguments: backends) func aPinHoldsForContextsMadeLater(_ backend: Backend) throws {
    let fixture = try perceptron(backend)
    try fixture.engine.withProfile("prefill") {
      for _ in 0..<2 {
        let context = try fixture.engine.makeContext()
        let found = try ran(fixture, context, 1)
        #expect(found == 1)
      }
    }
  }

  @Test(arguments: backends) func tasksKeepTheirPins(_ backend: Backend) async throws {
    let fixture = try perceptron(backend)
    try await withThrowingTaskGroup(of: Bool.self) { group in
      for task in 0..<10 {
        group.addTask {
          try fixture.engine.withProfile(.index(task % 2)) {
            let context = try fixture.engine.makeContext()
            return try (0..<10).allSatisfy { _ in try ran(fixture, context, 1) == task % 2 }
          }
        }
      }
      for try await isRight in group { #expect(isRight) }
    }
  }

  // MARK: Two inputs

  @Test(arguments: backends) func aSharedAxisIsOneSymbol(_ backend: Backend) throws {
    let plan = try masked(backend).engine.plans[0]
    let axes = plan.inputs.map { $0.type.tensor?.shape[1] }
    #expect(axes[0]?.asSymbol?.name == "seq" && axes[1] == axes[0])
    #expect(plan.shapeSymbols.count == 1)
  }

  @Test(arguments: backends, [(1, 1), (8, 1), (256, 0)])
  func aSharedAxisRunsInBothProfiles(_ backend: Backend, _ positions: (count: Int, decode: Int)) throws {
    let fixture = try masked(backend)
    let context = try fixture.engine.makeContext()
    #expect(try ran(fixture, context, positions.count, .automatic) == 0)
    #expect(try ran(fixture, context, positions.count, .index(positions.decode)) == positions.decode)
  }

  @Test(arguments: backends) func sizesOfOneSymbolMustAgree(_ backend: Backend) throws {
    let context = try masked(backend).engine.makeContext()
    let inputs = [3, 4].map { HostValue.tensor(RandomTensor.make(.f32, [1, $0], seed: 1)) }
    #expect(
      problems { _ = try context.run(ordered: inputs, profile: 0) } == ["APUS-R-0006 input 'mask', axis 1"])
    #expect(problems { _ = try context.run(ordered: inputs, profile: .automatic) } == ["APUS-R-0008 inputs"])
  }

  // MARK: Bounds

  /// `C − s`: the bound falls where the size grows.
  @Test(arguments: backends) func decreasingSizesHaveExactBounds(_ backend: Backend) throws {
    var graph = Graph()
    let s = Dim(Symbol("s", Interval(0, 16)))
    let x = graph.addInput("x", .tensor(TensorType(.f32, [s])))
    let table = graph.addConstant(RandomTensor.make(.f32, [16], seed: 9))
    let rest = try graph.add(Slice(starts: [s], sizes: [16 - s], steps: [1]), [table], name: "rest")
    graph.outputs = [try graph.add(try Catalogue.standard.make("concat", ["axis": .int(0)]), rest + [x])[0], rest[0]]
    graph.outputNames = ["y", "rest"]
    let model = Model(graph: graph, name: "m", producer: "", opsets: [:], metadata: [:])
    let profiles = [Profile("decode", ["s": .fixed(1)]), Profile("prefill", ["s": .range(min: 1, max: 8)])]
    let result = try build(model, for: backend, options: BuildOptions(profiles: profiles))
    #expect(result.warnings.isEmpty)
    #expect(result.plans.map { $0.outputs[1].type.tensor?.shape[0].range } == [Interval(15, 15), Interval(8, 15)])
    let context = try Fixture.engine(result.plans, backend).makeContext()
    for size in [1, 5, 8] {
      let found = try context.run(
        inputs: ["x": RandomTensor.make(.f32, [size], seed: 2)], profile: .automatic)["rest"]?.tensor
      #expect(found?.shape == [16 - size])
    }
  }

  @Test(arguments: backends) func oneAxisMayBeFixedAndAnotherVary(_ backend: Backend) throws {
    let inputs = [
      Input(
        "x", .f32, profiles: [.range(min: [1, 4], max: [8, 4]), .range(min: [3, 4], max: [3, 4])], sharedDims: [0: "n"])
    ]
    let fixture = try Fixture(ONNXModel.product, inputs, names: ["vary", "fixed"], backend)
    #expect(fixture.engine.plans.map(\.shapeSymbols.count) == [1, 0])
    let context = try fixture.engine.makeContext()
    for (rows, profile) in [(3, 1), (3, 0), (8, 0)] {
      let x = RandomTensor.make(.f32, [rows, 4], seed: 4)
      #expect(try context.run(inputs: ["x": x], profile: .index(profile))["y"]?.tensor?.shape == [rows, 3])
    }
  }

  /// What is the same in every profile takes any of their pins.
  @Test(arguments: backends) func aStaticModelTakesEveryPin(_ backend: Backend) throws {
    let inputs = [Input("x", .f32, profiles: [.fixed([2, 4]), .fixed([2, 4])])]
    let fixture = try Fixture(ONNXModel.product, inputs, names: [], backend)
    let context = try fixture.engine.makeContext()
    let x = RandomTensor.make(.f32, [2, 4], seed: 4)
    for profile in [0, 1] {
      try fixture.engine.withProfile(.index(profile)) {
        let y = try context.run(inputs: ["x": x])["y"]?.tensor
        #expect(y?.shape == [2, 3] && context.activeProfile == profile)
      }
    }
    #expect(problems { try fixture.engine.withProfile(2) {} } == ["APUS-R-0020 profile"])
  }
}

extension ProfileRuntimeTests.Fixture {
  init(graph: Graph, engine: Engine) {
    self.graph = graph
    self.engine = engine
  }
}
