import Apus
import ApusCompiler
import ApusCore
import ApusGraph
import ApusImport
import ApusOps
import ApusTesting
import CAllocationCounter
import Foundation
import Testing

/// Models cut into pieces: one selection drives them all, and sizes cross the cuts exactly.
@Suite struct GraphBreakTests {
  private static let profiles = [
    Profile("decode", ["seq": .fixed(1)]), Profile("prefill", ["seq": .range(min: 1, opt: 48, max: 64)]),
  ]

  /// Two layers, their inner values reshaped so that a cut meets the size `16*seq`.
  private static let layers = """
    graph(%x: f32[4, seq, 16]) -> (%y) symbols(seq: 1...64) {
      %w = constant f32[16, 32] random(1)
      %v = constant f32[32, 16] random(2)
      %h = matmul(%x, %w) @"first"
      %r = relu(%h) @"relu"
      %f = reshape(%r) {shape: [32*seq, 4]} @"flatten"
      %s = sin(%f) @"sin"
      %b = reshape(%s) {shape: [4, seq, 32]} @"unflatten"
      %y = matmul(%b, %v) @"second"
    }
    """

  private static func plans(
    _ text: String = layers, _ profiles: [Profile] = profiles, breaks: [String] = [], atHost: Bool = false
  ) throws -> [Plan] {
    var graph = try GraphText.parse(text, catalogue: .standard)
    graph.outputNames = graph.outputs.map { graph[$0].name }
    let model = Model(graph: graph, name: "layers", producer: "", opsets: [:], metadata: [:])
    let options = BuildOptions(profiles: profiles, breaks: breaks, breaksAtHost: atHost)
    return try build(model, targets: ["x86-64-v3"], options: options).plans
  }

  private static func x(_ seq: Int) -> [String: HostTensor] {
    ["x": RandomTensor.make(.f32, [4, seq, 16], seed: UInt64(seq))]
  }

  private static func expected(_ seq: Int) throws -> HostTensor {
    let graph = try GraphText.parse(layers, catalogue: .standard)
    let inputs = x(seq).values.map { HostValue.tensor($0) }
    return try #require(try Interpreter.run(graph, inputs: inputs)[0].tensor)
  }

  private func check(_ context: borrowing ExecutionContext, _ seq: Int, _ selection: ProfileSelection) throws {
    let found = try #require(try context.run(inputs: Self.x(seq), profile: selection)["y"]?.tensor)
    #expect(Closeness.complaint(.tensor(found), .tensor(try Self.expected(seq)), f32: 1e-5) == nil)
  }

  @Test func everyPieceIsBuiltForEveryProfile() throws {
    let plans = try Self.plans(breaks: ["relu", "sin"])
    #expect(plans.map { $0.pieces.count } == [3, 3])
    for plan in plans { #expect(plan.pieces.allSatisfy { $0.plan.profile == plan.profile }) }
    #expect(plans[0].pieces.allSatisfy { $0.plan.shapeSymbols.isEmpty })
  }

  @Test func oneSelectionDrivesAllPieces() throws {
    let context = try Engine(plans: try Self.plans(breaks: ["relu", "sin"]), threads: 2).makeContext()
    for (seq, profile) in [(1, 0), (32, 1), (1, 0), (64, 1), (7, 1), (1, 0)] {
      try check(context, seq, .automatic)
      #expect(context.activeProfile == profile)
    }
    try check(context, 1, "prefill")
    #expect(context.activeProfile == 1)
  }

  /// A size derived at a cut has the bounds that its expression has over the profile's ranges.
  @Test func boundsCrossTheCut() throws {
    let plans = try Self.plans(breaks: ["flatten"])
    let inputs = plans.map { $0.pieces[1].plan.inputs[0].type.tensor?.shape ?? [] }
    #expect(inputs[0] == [32, 4])
    #expect(inputs[1][0].description == "32*seq" && inputs[1][0].range == Interval(32, 2048))
  }

  /// Multiples, quotients, differences with their decreasing sense, products, minima and maxima of sizes.
  @Test func everyKindOfSizeCrossesTheCut() throws {
    let text = """
      graph(%x: f32[seq, b], %w: f32[512]) -> (%a, %c, %d, %e, %f, %g) symbols(seq: 1...256, b: 1...8) {
        %x1 = reshape(%x) {shape: [seq*b]} @"before"
        %half = slice(%x1) {starts: [0], sizes: [seq//2], steps: [1]} @"before"
        %rest = slice(%w) {starts: [seq], sizes: [512 - seq], steps: [1]} @"before"
        %less = slice(%w) {starts: [0], sizes: [min(seq, 100)], steps: [1]} @"before"
        %more = slice(%w) {starts: [0], sizes: [max(seq, 100)], steps: [1]} @"before"
        %wide = broadcast_to(%x) {shape: [16, seq, b]} @"before"
        %flat = reshape(%wide) {shape: [16*seq, b]} @"before"
        %n0 = neg(%x1) @"cut"
        %n1 = neg(%half) @"cut"
        %n2 = neg(%rest) @"cut"
        %n3 = neg(%less) @"cut"
        %n4 = neg(%more) @"cut"
        %n5 = neg(%flat) @"cut"
        %a = exp(%n0) @"after"
        %c = exp(%n1) @"after"
        %d = exp(%n2) @"after"
        %e = exp(%n3) @"after"
        %f = exp(%n4) @"after"
        %g = exp(%n5) @"after"
      }
      """
    let profiles = [
      Profile("narrow", ["seq": .range(min: 1, opt: 2, max: 5), "b": .fixed(3)]),
      Profile("wide", ["seq": .range(min: 20, max: 200), "b": .range(min: 2, max: 4)]),
    ]
    let plans = try Self.plans(text, profiles, breaks: ["cut"])
    func bounds(_ plan: Plan) -> [Interval] {
      plan.pieces[1].plan.inputs.map { $0.type.tensor?.shape[0].range ?? .all }
    }
    #expect(
      bounds(plans[0]) == [
        Interval(3, 15), Interval(0, 2), Interval(507, 511), Interval(1, 5), Interval(100, 100), Interval(16, 80),
      ])
    #expect(
      bounds(plans[1]) == [
        Interval(40, 800), Interval(10, 100), Interval(312, 492), Interval(20, 100), Interval(100, 200),
        Interval(320, 3200),
      ])
    let context = try Engine(plans: plans, threads: 2).makeContext()
    let graph = try GraphText.parse(text, catalogue: .standard)
    for (seq, b) in [(5, 3), (20, 2), (199, 4), (1, 3)] {
      let inputs = [
        HostValue.tensor(RandomTensor.make(.f32, [seq, b], seed: 4)), .tensor(RandomTensor.make(.f32, [512], seed: 5)),
      ]
      let found = try context.run(ordered: inputs, profile: .automatic)
      for (result, expected) in zip(found, try Interpreter.run(graph, inputs: inputs)) {
        #expect(Closeness.complaint(result, expected, f32: 1e-5) == nil, "seq \(seq), b \(b)")
      }
    }
  }

  /// The second piece reads a size that none of its inputs shows.
  @Test func sizesThatNoInputShows() throws {
    let text = """
      graph(%x: f32[seq]) -> (%y) symbols(seq: 1...64) {
        %s = reduce_sum(%x) {axes: [0], keep_dims: true} @"sum"
        %b = broadcast_to(%s) {shape: [2, seq]} @"spread"
        %y = exp(%b) @"exp"
      }
      """
    let plans = try Self.plans(text, [Profile("all", ["seq": .range(min: 1, max: 64)])], breaks: ["sum"])
    #expect(plans[0].pieces[1].plan.inputs.map(\.type) == [.tensor(TensorType(.f32, [1]))])
    let context = try Engine(plans: plans, threads: 1).makeContext()
    for size in [3, 9, 3] {
      let x = HostTensor(.f32, [size], doubles: (0..<size).map { -Double($0) })
      let y = try context.run(inputs: ["x": x])["y"]?.tensor
      #expect(y?.shape == [2, size])
      let sum = exp(-Double(size * (size - 1)) / 2)
      #expect(y?.doubles.allSatisfy { abs($0 - sum) <= 1e-6 * sum } == true)
    }
  }

  /// Sizes that a run tells are handed on to later pieces.
  @Test func sizesFoundWhileRunningCrossTheCut() throws {
    let text = """
      graph(%x: f32[12]) -> (%y) {
        %n = nonzero(%x) {count: count} @"nonzero"
        %f = cast(%n) {to: f32, saturate: true} @"cast"
        %y = exp(%f) @"exp"
      }
      """
    let graph = try GraphText.parse(text, catalogue: .standard)
    for breaks in [["nonzero"], ["nonzero", "cast"]] {
      let context = try Engine(plans: try Self.plans(text, [], breaks: breaks), threads: 1).makeContext()
      for count in [5, 0, 12, 5] {
        let x = HostTensor(.f32, [12], doubles: (0..<12).map { $0 < count ? Double($0) + 0.5 : 0 })
        let expected = try Interpreter.run(graph, inputs: [.tensor(x)])[0]
        let found = try #require(try context.run(inputs: ["x": x])["y"])
        #expect(found.tensor?.shape == [1, count])
        #expect(Closeness.complaint(found, expected, f32: 1e-5) == nil)
      }
    }
  }

  @Test func aStaticPieceToleratesAnyPin() throws {
    let text = """
      graph(%x: f32[4, seq], %k: f32[8]) -> (%y, %z) symbols(seq: 1...64) {
        %k1 = exp(%k) @"static"
        %y = neg(%x) @"dynamic"
        %z = neg(%k1) @"static end"
      }
      """
    let plans = try Self.plans(text, Self.profiles, breaks: ["static", "dynamic"])
    #expect(plans.map { $0.pieces.count } == [3, 3])
    let engine = try Engine(plans: plans, threads: 1)
    let context = try engine.makeContext()
    for (index, seq) in [(1, 20), (0, 1), (1, 1)] {
      let inputs = ["x": RandomTensor.make(.f32, [4, seq], seed: 1), "k": RandomTensor.make(.f32, [8], seed: 2)]
      try engine.withProfile(.index(index)) {
        let results = try context.run(inputs: inputs)
        #expect(results["y"]?.tensor?.shape == [4, seq] && results["z"]?.tensor?.shape == [8])
        #expect(context.activeProfile == index)
      }
    }
  }

  /// A pin that does not exist is refused before any piece runs; what was in force stays.
  @Test func badPinsLeaveNothingSwitched() throws {
    let engine = try Engine(plans: try Self.plans(breaks: ["relu"]), threads: 1)
    let context = try engine.makeContext()
    try engine.withProfile("prefill") {
      try check(context, 3, .automatic)
      for selection in [ProfileSelection.index(2), .index(-1), .named("train")] {
        #expect(throws: RunError.self) { try engine.withProfile(selection) { Issue.record("it runs") } }
        #expect(throws: RunError.self) { try context.run(inputs: Self.x(3), profile: selection) }
      }
      #expect(context.activeProfile == 1)
      _ = try context.run(inputs: Self.x(9))
      #expect(context.activeProfile == 1)
    }
  }

  @Test func piecesAreInTheEngineFile() throws {
    let plans = try Self.plans(breaks: ["relu", "sin"])
    let bytes = try EngineFile.encode(plans)
    let read = try bytes.withUnsafeBytes { try EngineFile.decode($0, owner: Keeper(bytes)) }
    #expect(try EngineFile.encode(read) == bytes)
    let context = try Engine(plans: read, threads: 2).makeContext()
    try check(context, 1, .automatic)
    try check(context, 33, "prefill")
  }

  private final class Keeper {
    let bytes: [UInt8]
    init(_ bytes: [UInt8]) { self.bytes = bytes }
  }

  /// Weights and kernels of all pieces and profiles are stored once.
  @Test func piecesShareWeights() throws {
    let (whole, cut) = (try Self.plans(), try Self.plans(breaks: ["relu", "sin"]))
    #expect(cut[0].constants.byteCount == whole[0].constants.byteCount)
    #expect(cut[1].pieces[2].plan.constants.address == cut[0].constants.address)
  }

  @Test func steadyRunsOfPiecesAllocateNothing() throws {
    let engine = try Engine(plans: try Self.plans(breaks: ["relu", "sin"]), threads: 1)
    let context = try engine.makeContext()
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 2 * 4 * 64 * 64, alignment: 64)
    defer { memory.deallocate() }
    for index in 0..<memory.count / 4 {
      memory.storeBytes(of: Float(index % 7), toByteOffset: 4 * index, as: Float.self)
    }
    try context.bind(output: "y", to: UnsafeMutableRawBufferPointer(rebasing: memory[(memory.count / 2)...]))
    let input = UnsafeRawBufferPointer(rebasing: memory[..<(memory.count / 2)])
    let shapes = [[4, 1, 16], [4, 32, 16], [4, 7, 16]]
    for shape in shapes + shapes {
      try context.bind(input: "x", to: input, shape: shape)
      try context.run(profile: .automatic)
    }
    let before = apus_allocation_count()
    for round in 0..<90 {
      try context.bind(input: "x", to: input, shape: shapes[round % 3])
      try context.run(profile: .automatic)
    }
    #expect(apus_allocation_count() - before == 0)
  }

  /// What only the host computes is a piece of its own.
  @Test func theHostIsCutOut() throws {
    let text = """
      graph(%x: f32[seq, 8]) -> (%y) symbols(seq: 1...64) {
        %a = exp(%x) @"exp"
        %u = nonzero(%a) {count: count} @"nonzero"
        %y = neg(%u) @"neg"
      }
      """
    let plans = try Self.plans(text, [], atHost: true)
    let tactics = plans[0].pieces.map { piece in Set(piece.plan.steps.map(\.tactic)) }
    #expect(
      tactics.count == 3 && tactics[1] == ["host"] && !tactics[0].contains("host") && !tactics[2].contains("host"))
  }

  /// Sizes of a sequence's elements inside of a body are symbols that nothing around it declares.
  @Test func sizesInsideOfSequencesStayThere() throws {
    let text = """
      graph(%x: seq<f32[_]>) -> (%y) symbols(_: 0..., inner: 0..., element: 0...) {
        %go = constant bool[] {true}
        %one = constant i64[] {1}
        %length = sequence_length(%x) : i64[] @"length"
        %count = add(%length, %one) @"count"
        %empty = sequence_empty() {dtype: f32, shape: []} : seq<f32[]> @"empty"
        %y = loop(%length, %go, %empty, %x) {carried: 1, symbols: []} bodies [
          graph(%i: i64[], %c: bool[], %out: seq<f32[inner]>, %all: seq<f32[_]>) -> (%c as "c", %next as "next") {
            %one_of = sequence_at(%all, %i) {shape: [element]} : f32[element] @"at"
            %next = sequence_insert(%out, %one_of) : seq<f32[_]> @"insert"
          }
        ] : seq<f32[_]> @"y"
      }
      """
    let plans = try Self.plans(text.replacing("-> (%y)", with: "-> (%y, %count)"), [], atHost: true)
    #expect(plans[0].pieces.count > 1 && plans[0].pieces.allSatisfy { $0.plan.shapeSymbols.isEmpty })
    let elements = [3, 5].map { HostValue.tensor(RandomTensor.make(.f32, [$0], seed: 1)) }
    let x = HostValue.sequence(elements, element: .tensor(TensorType(.f32, [3])))
    let context = try Engine(plans: plans, threads: 1).makeContext()
    let y = try #require(try context.run(inputs: ["x": x])["y"])
    #expect(Closeness.complaint(y, x, f32: 0) == nil)
  }

  @Test func cutsThatMakeNoSenseAreErrors() throws {
    for (name, code) in [("rleu", "APUS-B-0043"), ("second", "APUS-B-0031")] {
      let error = #expect(throws: BuildError.self) { try Self.plans(breaks: ["sin", name]) }
      #expect(error?.problems.map(\.code) == [code])
    }
  }
}
