import Apus
import ApusCompiler
import ApusCore
import ApusGraph
import ApusImport
import Foundation
import TestSupport
import Testing

/// Profiles of integer inputs whose elements decide sizes.
@Suite struct ProfileValueTests {
  private static let wildcardOrRange = Input(
    "shape", .i64, values: [.fixed([-1, 4]), .range(min: [1, 4], opt: [128, 4], max: [512, 4])])

  private func plans(_ model: Proto, _ inputs: [Input]) throws -> [Plan] {
    let file = try ModelOnDisk(model)
    defer { file.remove() }
    return try buildPlans(
      contentsOf: file.url, inputs: inputs, profileNames: ["any", "sized"], backend: Backend.underTest.name,
      targets: [Backend.ownTarget])
  }

  private static func ints(_ values: [Int]) -> HostTensor {
    HostTensor(.i64, [values.count], int64s: values.map(Int64.init))
  }

  private static func x(_ rows: Int, _ shape: [Int]) -> [String: HostTensor] {
    ["x": RandomTensor.make(.f32, [rows, 8], seed: UInt64(rows)), "shape": ints(shape)]
  }

  // MARK: Declaration

  @Test func elementsAreSymbolsWhereTheyVary() throws {
    let set = try ProfileSet([Self.wildcardOrRange])
    #expect(set.shapes.isEmpty)
    #expect(set.values["shape"] == [Dim(Symbol("shape$0", Interval(-1, 512))), 4])
    #expect(set.profiles.map { $0.ranges.map(\.min) } == [[-1], [1]])
  }

  @Test func namesThatSymbolsCannotHaveAreSpelledOut() {
    #expect(Symbol.name(ofElement: 0, of: "a:b") == "a$3ab$0")
    #expect(Symbol.name(ofElement: 12, of: "/x") == "$2fx$12")
    #expect(Symbol.name(ofElement: 1, of: "0") == "$30$1")
    #expect(Symbol.name(from: "a$\n") == "a$24$0a")
  }

  @Test(
    arguments: [
      ([.fixed([])], "APUS-B-0027 input 'shape'"),
      ([.fixed([Int](repeating: 1, count: 65))], "APUS-B-0027 input 'shape'"),
      ([.fixed([1]), .fixed([1, 2])], "APUS-B-0021 input 'shape', profile 1"),
      ([.range(min: [-2], opt: [-3], max: [4])], "APUS-B-0022 input 'shape', profile 0"),
      ([], "APUS-B-0020 input 'shape'"),
    ] as [([Input.Sizes], String)])
  func mistakesAreNamed(values: [Input.Sizes], expected: String) {
    #expect(problems { _ = try ProfileSet([Input("shape", .i64, values: values)]) }.first == expected)
  }

  @Test func onlyIntegersDecideSizes() {
    let found = problems { _ = try ProfileSet([Input("shape", .f32, values: [.fixed([1])])]) }
    #expect(found == ["APUS-B-0027 input 'shape'"])
    let matrix = problems { _ = try plans(ONNXModel.refold, [Input("x", .i64, values: [.fixed([1])])]) }
    #expect(matrix.count == 1 && matrix[0].hasPrefix("APUS-I-0042"), "\(matrix)")
    let short = problems { _ = try plans(ONNXModel.refold, [Input("shape", .i64, values: [.fixed([1])])]) }
    #expect(short.count == 1 && short[0].hasPrefix("APUS-I-0042"), "\(short)")
  }

  // MARK: Building

  @Test func sizesAreKnownBeforeRunning() throws {
    let built = try plans(ONNXModel.refold, [Self.wildcardOrRange])
    #expect(built.map { $0.inputs[1].values } == [[-1, 4], [Dim(Symbol("shape$0", Interval(1, 512), opt: 128)), 4]])
    for plan in built {
      #expect(plan.runSymbols.isEmpty)
      #expect(!plan.slots.contains { $0.storage == .grown })
    }
  }

  @Test func aFixedWildcardIsAnExpressionOfTheOtherSizes() throws {
    let plan = try plans(ONNXModel.refold, [Self.wildcardOrRange])[0]
    #expect(plan.outputs[0].type.tensor?.shape == [2 * Dim(Symbol("n")), 4])
  }

  /// A file may leave the number of elements open; the declaration says it.
  @Test func theNumberOfElementsIsTheDeclarations() throws {
    let model = ONNXModel.model(
      [ONNXModel.node("Expand", ["x", "shape"], ["y"])],
      inputs: [
        ONNXModel.value("x", ONNXModel.float, [1]), ONNXModel.value("shape", ONNXModel.int64, ["k"]),
      ], outputs: [ONNXModel.value("y", ONNXModel.float, [])])
    let input = Input("shape", .i64, values: [.fixed([2, 3, 4]), .range(min: [1, 3, 4], max: [2, 3, 9])])
    let built = try plans(model, [input])
    #expect(built.map { $0.inputs[1].type } == [ValueType](repeating: .tensor(TensorType(.i64, [3])), count: 2))
    let context = try Engine(plans: built, threads: 1).makeContext()
    let inputs = ["x": RandomTensor.make(.f32, [1], seed: 1), "shape": Self.ints([1, 3, 7])]
    #expect(try context.run(inputs: inputs, profile: "sized")["y"]?.tensor?.shape == [1, 3, 7])
  }

  /// The interpreter takes sizes from values as the runtime does.
  @Test func theInterpreterAgrees() throws {
    let file = try ModelOnDisk(ONNXModel.refold)
    defer { file.remove() }
    let graph = try importModel(file.url.path, values: try ProfileSet([Self.wildcardOrRange]).values).graph
    for shape in [[-1, 4], [12, 4]] {
      let inputs = Self.x(6, shape)
      let y = try Interpreter.run(graph, inputs: ["x", "shape"].compactMap { inputs[$0].map { .tensor($0) } })[0].tensor
      #expect(y?.shape == [12, 4] && y?.doubles == inputs["x"]?.doubles.map { max($0, 0) })
    }
  }

  // MARK: Running

  @Test func automaticTellsProfilesApartByValues() throws {
    let context = try Engine(plans: try plans(ONNXModel.refold, [Self.wildcardOrRange]), threads: 1).makeContext()
    for (shape, profile) in [([-1, 4], 0), ([12, 4], 1), ([-1, 4], 0)] {
      let inputs = Self.x(6, shape)
      let y = try context.run(inputs: inputs, profile: .automatic)["y"]?.tensor
      #expect(y?.shape == [12, 4] && context.activeProfile == profile)
      #expect(y?.doubles == inputs["x"]?.doubles.map { max($0, 0) })
    }
  }

  @Test func valuesOutsideNameInputElementValueAndRanges() throws {
    let context = try Engine(plans: try plans(ONNXModel.refold, [Self.wildcardOrRange]), threads: 1).makeContext()
    let error = #expect(throws: RunError.self) { try context.run(inputs: Self.x(300, [600, 4]), profile: .automatic) }
    #expect(error?.problems.map(\.code) == ["APUS-R-0008"])
    let message = error?.description ?? ""
    for part in ["'shape' holds [600, 4]", "'any' [-1, 4]", "'sized' [shape$0=1…512, 4]"] {
      #expect(message.contains(part), "\(message)")
    }
    let pinned = #expect(throws: RunError.self) { try context.run(inputs: Self.x(300, [600, 4]), profile: "sized") }
    #expect(pinned?.problems.map { "\($0.code) \($0.place)" } == ["APUS-R-0007 input 'shape', element 0"])
    for part in ["is 600, the range is 1…512", "values of 'shape' 'any' [-1, 4], 'sized' [shape$0=1…512, 4]"] {
      #expect(pinned?.description.contains(part) == true, "\(pinned?.description ?? "")")
    }
    let fixed = #expect(throws: RunError.self) { try context.run(inputs: Self.x(6, [12, 4]), profile: "any") }
    #expect(fixed?.problems.map { "\($0.code) \($0.place)" } == ["APUS-R-0005 input 'shape', element 0"])
    #expect(fixed?.description.contains("the value is 12, -1 is expected") == true)
    #expect(try context.run(inputs: Self.x(6, [12, 4]), profile: "sized")["y"]?.tensor?.shape == [12, 4])
  }

  @Test func valuesMayChangeInBoundMemory() throws {
    let context = try Engine(plans: try plans(ONNXModel.refold, [Self.wildcardOrRange]), threads: 1).makeContext()
    let memory = UnsafeMutableBufferPointer<Int64>.allocate(capacity: 2)
    defer { memory.deallocate() }
    _ = memory.initialize(from: [-1, 4])
    try context.bind(input: "shape", to: UnsafeRawBufferPointer(memory), shape: [2])
    for rows in [2, 5] {
      try context.bind(input: "x", to: RandomTensor.make(.f32, [rows, 8], seed: 3))
      for first in [-1, 2 * rows] {
        memory[0] = Int64(first)
        try context.run(profile: .automatic)
        #expect(try context.outputShape("y") == [2 * rows, 4])
        #expect(context.activeProfile == (first == -1 ? 0 : 1))
      }
    }
  }

  @Test func zeroCopiesASize() throws {
    let input = Input("shape", .i64, values: [.range(min: [0, 0], opt: [6, 8], max: [64, 64])])
    let context = try Engine(plans: try plans(ONNXModel.refold, [input]), threads: 1).makeContext()
    for (shape, expected) in [([0, 8], [6, 8]), ([6, 0], [6, 8]), ([0, 0], [6, 8]), ([3, 16], [3, 16])] {
      #expect(try context.run(inputs: Self.x(6, shape))["y"]?.tensor?.shape == expected, "\(shape)")
    }
  }

  @Test func valuesSurviveTheFile() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString).apus")
    defer { try? FileManager.default.removeItem(at: path) }
    try plans(ONNXModel.refold, [Self.wildcardOrRange]).write(to: path)
    let context = try Engine(contentsOf: path, threads: 1).makeContext()
    for (shape, profile) in [([12, 4], 1), ([-1, 4], 0)] {
      #expect(try context.run(inputs: Self.x(6, shape), profile: .automatic)["y"]?.tensor?.shape == [12, 4])
      #expect(context.activeProfile == profile)
    }
  }

  /// Elements decide sizes on both sides of a cut.
  @Test func cutModelsTakeValues() throws {
    let set = try ProfileSet([Self.wildcardOrRange])
    let file = try ModelOnDisk(ONNXModel.refold)
    defer { file.remove() }
    let model = try importModel(file.url.path, values: set.values)
    let options = BuildOptions(profiles: set.profiles, breaks: ["fold"])
    let built = try build(model, for: .underTest, targets: [Backend.ownTarget], options: options).plans
    #expect(built.allSatisfy { $0.steps.count == 2 && $0.runSymbols.isEmpty })
    let context = try Engine(plans: built, threads: 1).makeContext()
    for (shape, profile) in [([12, 4], 1), ([-1, 4], 0)] {
      let inputs = Self.x(6, shape)
      let y = try context.run(inputs: inputs, profile: .automatic)["y"]?.tensor
      #expect(y?.shape == [12, 4] && context.activeProfile == profile)
      #expect(y?.doubles == inputs["x"]?.doubles.map { max($0, 0) })
    }
  }

  @Test func memoryIsForecastForValues() throws {
    let engine = try Engine(plans: try plans(ONNXModel.refold, [Self.wildcardOrRange]), threads: 1)
    let opt = try engine.memoryForecast(shapes: ["x": [64, 8], "shape": [2]], profile: 1)
    #expect(opt.outputByteCount == 128 * 4 * 4)
    let given = try engine.memoryForecast(
      shapes: ["x": [6, 8], "shape": [2]], values: ["shape": [12, 4]], profile: 1)
    #expect(given.outputByteCount == 12 * 4 * 4)
  }

  /// The ranges of values bound the memory that is reserved.
  @Test func memoryIsReservedForAllValues() throws {
    let model = ONNXModel.model(
      [
        ONNXModel.node("Expand", ["x", "shape"], ["e"]), ONNXModel.node("MatMul", ["e", "e"], ["h"]),
        ONNXModel.node("MatMul", ["h", "e"], ["y"]),
      ],
      inputs: [ONNXModel.value("x", ONNXModel.float, [1, 1]), ONNXModel.value("shape", ONNXModel.int64, [2])],
      outputs: [ONNXModel.value("y", ONNXModel.float, ["p", "q"])])
    let input = Input("shape", .i64, values: [.fixed([4, 4]), .range(min: [8, 8], max: [32, 32])])
    let engine = try Engine(plans: try plans(model, [input]), threads: 1)
    let (least, most) = (try engine.workspaceByteCount(profile: 0), try engine.workspaceByteCount(profile: 1))
    #expect(least > 0 && most > least)
    #expect(try engine.workspaceByteCount(shapes: [:], values: ["shape": [32, 32]], profile: 1) <= most)
    let context = try engine.makeContext(memory: .static)
    let held = context.heldByteCount
    for (size, profile) in [(32, 1), (4, 0), (8, 1)] {
      let inputs = ["x": RandomTensor.make(.f32, [1, 1], seed: 1), "shape": Self.ints([size, size])]
      #expect(try context.run(inputs: inputs, profile: .automatic)["y"]?.tensor?.shape == [size, size])
      #expect(context.activeProfile == profile && context.heldByteCount == held)
    }
  }

  /// Inputs that are not declared decide sizes while running, as before.
  @Test func undeclaredInputsDecideSizesWhileRunning() throws {
    let built = try plans(ONNXModel.refold, [])
    #expect(!built[0].runSymbols.isEmpty && built[0].inputs[1].values == nil)
    let context = try Engine(plans: built, threads: 1).makeContext()
    #expect(try context.run(inputs: Self.x(6, [-1, 4]))["y"]?.tensor?.shape == [12, 4])
  }

  // MARK: Every operator that takes sizes

  struct Case: Sendable, CustomTestStringConvertible {
    let name: String
    let nodes: [Proto]
    let inputs: [Proto]
    var constants: [Proto] = []
    let x: [Int]?
    /// Values to declare for input `v`, and values to run with the profile that takes them.
    let values: [Input.Sizes]
    let runs: [(values: [Int], profile: Int, shape: [Int])]
    var isScalar = false
    var testDescription: String { name }
  }

  private static func float(_ name: String, _ dims: [Int]) -> Proto {
    ONNXModel.value(name, ONNXModel.float, dims)
  }
  private static func long(_ name: String, _ dims: [Int]) -> Proto {
    ONNXModel.value(name, ONNXModel.int64, dims)
  }

  static let cases = [
    Case(
      name: "Expand", nodes: [ONNXModel.node("Expand", ["x", "v"], ["y"])],
      inputs: [float("x", [3, 1]), long("v", [3])], x: [3, 1],
      values: [.fixed([1, 3, 1]), .range(min: [1, 3, 2], max: [8, 3, 9])],
      runs: [([1, 3, 1], 0, [1, 3, 1]), ([2, 3, 5], 1, [2, 3, 5]), ([8, 3, 9], 1, [8, 3, 9])]),
    Case(
      name: "Slice", nodes: [ONNXModel.node("Slice", ["x", "v", "end", "axis"], ["y"])],
      inputs: [float("x", [7, 2]), long("v", [1])],
      constants: [ONNXModel.constant("end", [1], ints: [1 << 62]), ONNXModel.constant("axis", [1], ints: [0])],
      x: [7, 2], values: [.fixed([-2]), .range(min: [-7], opt: [-1], max: [3])],
      runs: [([-2], 0, [2, 2]), ([-7], 1, [7, 2]), ([3], 1, [4, 2]), ([0], 1, [7, 2])]),
    Case(
      name: "Range", nodes: [ONNXModel.node("Range", ["zero", "v", "one"], ["y"])], inputs: [long("v", [])],
      constants: [ONNXModel.constant("zero", [], ints: [0]), ONNXModel.constant("one", [], ints: [1])], x: nil,
      values: [.fixed([1]), .range(min: [-4], opt: [8], max: [64])],
      runs: [([1], 0, [1]), ([9], 1, [9]), ([-3], 1, [0])], isScalar: true),
    Case(
      name: "ConstantOfShape",
      nodes: [ONNXModel.node("ConstantOfShape", ["v"], ["z"]), ONNXModel.node("Cos", ["z"], ["y"])],
      inputs: [long("v", [2])], x: nil, values: [.fixed([2, 3]), .range(min: [0, 1], max: [5, 70])],
      runs: [([2, 3], 0, [2, 3]), ([0, 4], 1, [0, 4]), ([5, 70], 1, [5, 70])]),
    Case(
      name: "Resize",
      nodes: [ONNXModel.node("Resize", ["x", "", "", "v"], ["y"], [ONNXModel.attribute("mode", "linear")])],
      inputs: [float("x", [1, 2, 4, 4]), long("v", [4])], x: [1, 2, 4, 4],
      values: [.fixed([1, 2, 8, 8]), .range(min: [1, 2, 1, 1], opt: [1, 2, 6, 6], max: [1, 2, 9, 9])],
      runs: [([1, 2, 8, 8], 0, [1, 2, 8, 8]), ([1, 2, 3, 9], 1, [1, 2, 3, 9])]),
    Case(
      name: "Tile", nodes: [ONNXModel.node("Tile", ["x", "v"], ["y"])], inputs: [float("x", [2, 3]), long("v", [2])],
      x: [2, 3], values: [.fixed([1, 1]), .range(min: [0, 1], max: [4, 4])],
      runs: [([1, 1], 0, [2, 3]), ([0, 2], 1, [0, 6]), ([3, 4], 1, [6, 12])]),
  ]

  /// The results are those of the model built without declaring anything.
  @Test(arguments: cases) func declaredValuesGiveTheSameResults(_ test: Case) throws {
    let output = ONNXModel.value("y", ONNXModel.float, [])
    let model = ONNXModel.model(test.nodes, inputs: test.inputs, outputs: [output], constants: test.constants)
    let built = try plans(model, [Input("v", .i64, values: test.values)])
    #expect(built.allSatisfy { $0.runSymbols.isEmpty })
    let context = try Engine(plans: built, threads: 1).makeContext()
    let free = try Engine(plans: try plans(model, []), threads: 1).makeContext()
    for run in test.runs {
      var inputs = ["v": HostTensor(.i64, test.isScalar ? [] : [run.values.count], int64s: run.values.map(Int64.init))]
      if let x = test.x { inputs["x"] = RandomTensor.make(.f32, x, seed: 5) }
      let found = try context.run(inputs: inputs, profile: .automatic)["y"]?.tensor
      let expected = try free.run(inputs: inputs)["y"]?.tensor
      #expect(found?.shape == run.shape && context.activeProfile == run.profile, "\(run.values)")
      #expect(found?.shape == expected?.shape, "\(run.values)")
      let error = zip(found?.doubles ?? [], expected?.doubles ?? []).map { abs($0 - $1) }.max() ?? 0
      #expect(error < 1e-5, "\(run.values)")
    }
  }
}
