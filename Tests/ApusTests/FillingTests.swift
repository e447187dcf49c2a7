import Apus
import ApusCompiler
import ApusCore
import ApusGraph
import ApusImport
import ApusOps
import ApusTesting
import TestSupport
import Testing

@testable import ApusRuntime

/// Batches that are filled up to one of some sizes.
@Suite struct FillingTests {
  private static let steps = Profile("serve", ["n": .filled(to: [1, 2, 4, 8])])

  /// Two layers with a softmax over each row of one head, and an output of two rows for each of the batch.
  private static let layers = """
    graph(%x: f32[n, 6, 4], %m: f32[n, 6]) -> (%y, %z) symbols(n: 1...16) {
      %w = constant f32[4, 4] random(1)
      %h = matmul(%x, %w)
      %s = softmax(%h) {axis: -1}
      %f = reshape(%s) {shape: [6*n, 4]}
      %g = matmul(%f, %w)
      %r = reshape(%g) {shape: [n, 6, 4]}
      %t = transpose(%r) {perm: [1, 0, 2]}
      %u = relu(%t)
      %v = transpose(%u) {perm: [1, 2, 0]}
      %e = reshape(%m) {shape: [n, 1, 6]}
      %y = mul(%v, %e)
      %z = reshape(%y) {shape: [2*n, 12]}
    }
    """

  private static func plans(_ text: String, _ outputs: [String], _ profile: Profile = steps) throws -> [Plan] {
    var graph = try GraphText.parse(text, catalogue: .standard)
    graph.outputNames = outputs
    let model = Model(graph: graph, name: "filling", producer: "", opsets: [:], metadata: [:])
    let options = BuildOptions(profiles: [profile])
    return try build(model, for: .underTest, targets: [Backend.ownTarget], options: options).plans
  }

  /// An engine on the device under test, or on one whose memory is elsewhere and that does everything as late as it may.
  private static func engine(_ plans: [Plan], isElsewhere: Bool) throws -> Engine {
    let device = try Backend.underTest.makeDevice(2)
    return try Engine(
      plans: plans, device: isElsewhere ? DeferredDevice(RemoteDevice(device)) : device,
      hostOperations: CatalogueHostOperations())
  }

  /// A device that is elsewhere by itself needs no stand-in.
  private static let places = Backend.underTest.name == Backend.cpu.name ? [false, true] : [false]

  private static func inputs(_ rows: Int) -> [String: HostTensor] {
    [
      "x": RandomTensor.make(.f32, [rows, 6, 4], seed: UInt64(rows)),
      "m": RandomTensor.make(.f32, [rows, 6], seed: UInt64(100 + rows)),
    ]
  }

  private static func expected(_ rows: Int) throws -> [HostValue] {
    let graph = try GraphText.parse(layers, catalogue: .standard)
    let given = inputs(rows)
    return try Interpreter.run(graph, inputs: ["x", "m"].compactMap { given[$0].map { .tensor($0) } })
  }

  private func isClose(_ found: HostTensor?, _ expected: HostValue) -> Bool {
    found.map { Closeness.complaint(.tensor($0), expected, f32: 1e-5) == nil } ?? false
  }

  @Test(arguments: [false, true], places) func everyBatchRunsAsTheNextSize(isLoaded: Bool, isElsewhere: Bool) throws {
    var plans = try Self.plans(Self.layers, ["y", "z"])
    if isLoaded {
      let bytes = try EngineFile.encode(plans)
      let storage = HostStorage(byteCount: bytes.count)
      storage.base.copyMemory(from: bytes, byteCount: bytes.count)
      plans = try EngineFile.decode(
        UnsafeRawBufferPointer(start: storage.base, count: bytes.count), owner: storage)
    }
    #expect(plans[0].profile == Self.steps)
    let context = try Self.engine(plans, isElsewhere: isElsewhere).makeContext()
    for rows in [5, 8, 1, 6, 7, 3, 2, 4, 5, 5, 8] {
      let expected = try Self.expected(rows)
      let found = try context.run(inputs: Self.inputs(rows))
      #expect(isClose(found["y"]?.tensor, expected[0]) && isClose(found["z"]?.tensor, expected[1]), "\(rows) rows")
    }
    #expect(context.state.boundPlanCount == 4)
  }

  /// No more of the caller's memory is read or written than there are rows.
  @Test(arguments: places) func memoryOfTheCallersIsLeftAlone(isElsewhere: Bool) throws {
    let engine = try Self.engine(try Self.plans(Self.layers, ["y", "z"]), isElsewhere: isElsewhere)
    let context = try engine.makeContext()
    for rows in [5, 7, 8, 3] {
      let given = Self.inputs(rows)
      for (name, tensor) in given {
        try context.bind(input: name, to: try engine.makeBuffer(tensor), shape: tensor.shape)
      }
      let sentinel = HostTensor(.f32, [8, 24], elements: [Float](repeating: 7, count: 192))
      let y = try engine.makeBuffer(sentinel)
      let z = UnsafeMutableRawBufferPointer.allocate(byteCount: rows * 96, alignment: 64)
      defer { z.deallocate() }
      try context.bind(output: "y", to: y)
      try context.bind(output: "z", to: z)
      for _ in 0..<3 { try context.run() }
      let expected = try Self.expected(rows)
      let found = try engine.read(y, as: .f32, [8, 24])
      #expect(isClose(try engine.read(y, as: .f32, [rows, 4, 6]), expected[0]))
      #expect(found.doubles.dropFirst(rows * 24).allSatisfy { $0 == 7 })
      #expect(try context.outputShape("y") == [rows, 4, 6])
      #expect(isClose(try context.output("z").tensor, expected[1]))
      try context.unbind(output: "z")
    }
  }

  @Test func batchesThatDoNotFitAreRefused() throws {
    let context = try Engine(plans: try Self.plans(Self.layers, ["y", "z"]), threads: 1).makeContext()
    #expect(problems { _ = try context.run(inputs: Self.inputs(9)) } == ["APUS-R-0007 input 'x', axis 0"])
    var uneven = Self.inputs(5)
    uneven["m"] = Self.inputs(6)["m"]
    #expect(problems { _ = try context.run(inputs: uneven) } == ["APUS-R-0006 input 'm', axis 0"])
    #expect(problems { _ = try context.run(inputs: Self.inputs(0)) }.first?.hasPrefix("APUS-R-000") == true)
  }

  // MARK: What is legal

  private func refusals(_ body: String, input: String = "f32[n, 4]") -> [String] {
    let text = "graph(%x: \(input)) -> (%y) symbols(n: 1...16) { \(body) }"
    do {
      _ = try Self.plans(text, ["y"])
      return []
    } catch { return (error as? BuildError)?.problems.map { "\($0.code) \($0.message)" } ?? ["\(error)"] }
  }

  @Test(arguments: [
    "%y = reduce_mean(%x) {axes: [0], keep_dims: true}", "%y = softmax(%x) {axis: 0}",
    "%y = transpose(%x) {perm: [1, 0]}", "%t = transpose(%x) {perm: [1, 0]} %y = matmul(%x, %t)",
    "%y = cumsum(%x) {axis: 0, exclusive: false, reverse: false}",
    "%s = reduce_sum(%x) {axes: [0], keep_dims: true} %y = sub(%x, %s)",
  ]) func rowsThatMeetAreRefused(_ body: String) {
    let found = refusals(body)
    #expect(found.count == 1 && found[0].hasPrefix("APUS-B-0060 batches of 'n' cannot be filled up"), "\(found)")
  }

  @Test(arguments: [
    "%y = softmax(%x) {axis: 1}", "%y = reduce_mean(%x) {axes: [1], keep_dims: true}", "%y = relu(%x)",
    "%y = reshape(%x) {shape: [2*n, 2]}", "%w = constant f32[4, 3] random(2) %y = matmul(%x, %w)",
  ]) func rowsThatStayApartAreAccepted(_ body: String) { #expect(refusals(body) == []) }

  /// Convolution, pooling, and a reshape to a size that nodes compute.
  @Test func imagesAreAccepted() throws {
    let model = try ONNXModel.image.bytes.withUnsafeBytes {
      try ONNXImporter().load($0, folder: nil, ImportOptions(catalogue: .standard))
    }
    let options = BuildOptions(profiles: [Self.steps])
    let plans = try build(model, for: .underTest, targets: [Backend.ownTarget], options: options).plans
    let context = try Engine(plans: plans, threads: 2).makeContext()
    for rows in [3, 8, 5] {
      let x = RandomTensor.make(.f32, [rows, 2, 8, 8], seed: UInt64(rows))
      let found = try context.run(inputs: ["x": x])
      let expected = try Interpreter.run(model.graph, inputs: [.tensor(x)])
      #expect(isClose(found["y"]?.tensor, expected[0]) && isClose(found["z"]?.tensor, expected[1]), "\(rows) rows")
    }
  }

  @Test func theBatchIsTheFirstAxis() {
    #expect(refusals("%y = relu(%x)", input: "f32[4, n]").first?.hasPrefix("APUS-B-0060") == true)
  }

  @Test(arguments: [[4, 2], [0, 1], [2, 2]]) func sizesIncrease(_ steps: [Int]) {
    let profile = Profile("p", ["n": .filled(to: steps)])
    let found = problems {
      _ = try Self.plans("graph(%x: f32[n]) -> (%y) symbols(n: 1...16) { %y = relu(%x) }", ["y"], profile)
    }
    #expect(found == ["APUS-B-0019 profile 'p'"])
  }
}
