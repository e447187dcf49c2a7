import ApusCore
import ApusGraph
import ApusOps
import ApusPlan
import ApusRuntime
import ApusTesting
import Foundation
import Testing

@testable import ApusCompiler

/// Products that a library computes: what they are lowered to, and that a device that does what calls say gets them right.
@Suite struct LibraryTacticTests {
  private static func target() throws -> UncompiledTarget {
    try UncompiledTarget("sm_90a")
  }

  private static func graph(_ text: String) throws -> Graph {
    var graph = try GraphText.parse(text, catalogue: .standard)
    graph.outputNames = graph.outputs.indices.map { "y\($0)" }
    return graph
  }

  /// Regions whose epilogues the library has.
  static let regions = [
    "graph(%x: f32[5, 7], %w: f32[7, 6]) -> (%y) { %y = matmul(%x, %w) }",
    "graph(%x: f32[3, 5, 7], %w: f32[3, 7, 6], %b: f32[6]) -> (%z) { %y = matmul(%x, %w) %z = add(%b, %y) }",
    "graph(%x: f32[4, 7], %w: f32[3, 7, 6]) -> (%z) { %y = matmul(%x, %w) %z = relu(%y) }",
    """
    graph(%x: f32[5, 7], %b: f32[1, 6], %r: f32[5, 6]) -> (%z) {
      %w = constant f32[7, 6] random(1) %y = matmul(%x, %w) %a = add(%y, %b) %s = add(%r, %a) %z = relu(%s)
    }
    """,
    """
    graph(%x: f32[2*n, 7], %w: f32[6, 7], %b: f32[6]) -> (%z) symbols(n: 1...9) {
      %t = transpose(%w) {perm: [1, 0]} %y = matmul(%x, %t) %a = add(%y, %b) %z = gelu_tanh(%a)
    }
    """,
    "graph(%x: f64[5, 7], %w: f64[7, 6]) -> (%z) { %y = matmul(%x, %w) %z = relu(%y) }",
    convolution(
      "f32[2, 9, 7, 4]", "f32[6, 3, 2, 4]",
      "strides: [2, 1], pads_begin: [1, 0], pads_end: [1, 1], dilations: [1, 2], groups: 1"),
    convolution(
      "f32[n, 5, 16]", "f32[16, 3, 8]", "strides: [1], pads_begin: [1], pads_end: [1], dilations: [1], groups: 2"),
    convolution(
      "f32[1, 4, 5, 6, 3]", "f32[5, 2, 3, 1, 3]",
      "strides: [1, 2, 1], pads_begin: [0, 1, 0], pads_end: [1, 1, 0], dilations: [1, 1, 1], groups: 1"),
  ]

  private static func convolution(_ x: String, _ w: String, _ attributes: String) -> String {
    let outputs = w.split(separator: "[")[1].prefix { $0 != "," }
    return """
      graph(%x: \(x), %w: \(w), %b: f32[\(outputs)]) -> (%z) \(x.contains("n") ? "symbols(n: 1...4) " : ""){
        %y = conv(%x, %w) {\(attributes), layout: "nhwc"} %a = add(%y, %b) %z = relu(%a)
      }
      """
  }

  @Test(arguments: regions.indices) func callsSayWhatIsComputed(_ index: Int) throws {
    let graph = try Self.graph(Self.regions[index])
    let target = try Self.target()
    var shared = SharedParts(continuing: [])
    let isProduct = graph.order.contains { graph[$0].op.name == "matmul" }
    let tactic = isProduct ? "cublaslt 1" : "cudnn 1"
    var plan = try Builder.sketch(graph, tactic: tactic, &shared, target)
    plan.share(functions: [], images: [], constants: shared.constants.makeSection())
    #expect(plan.steps.map(\.tactic) == [tactic] && plan.libraries == [isProduct ? .cublasLt : .cudnn])
    plan = try EngineFile.decode(plan)
    let (inputs, _) = RandomInputs.make(graph, trial: 1, seed: UInt64(index) + 1)
    let expected = try Interpreter.run(graph, inputs: inputs)
    let engine = try Engine(plans: [plan], device: LibraryDevice())
    let names = plan.inputs.map(\.name)
    let found = try engine.makeContext().run(
      inputs: Dictionary(uniqueKeysWithValues: zip(names, inputs.compactMap(\.tensor))))
    let (own, wanted) = (found["y0"]?.tensor?.doubles ?? [], expected[0].tensor?.doubles ?? [])
    #expect(own.count == wanted.count && zip(own, wanted).allSatisfy { abs($0 - $1) < 1e-5 })
  }

  /// Any other epilogue is a launch of its own, on sums that are not rounded.
  @Test func otherEpiloguesAreLaunched() throws {
    for (text, sums) in [
      ("graph(%x: f16[8, 16], %w: f16[16, 24]) -> (%z) { %y = matmul(%x, %w) %z = gelu(%y) }", DType.f32),
      ("graph(%x: f64[8, 16], %w: f64[16, 24], %b: f64[8, 1]) -> (%z) { %y = matmul(%x, %w) %z = add(%y, %b) }", .f64),
    ] {
      var shared = SharedParts(continuing: [])
      let plan = try Builder.sketch(try Self.graph(text), tactic: "cublaslt 0", &shared, try Self.target())
      #expect(plan.steps.map(\.tactic) == ["cublaslt 0", "epilogue"])
      guard case .library(let call) = plan.steps[0].action, case .matmul(let matmul) = call.operation else {
        Issue.record("no library call")
        continue
      }
      #expect(matmul.resultDType == sums && !matmul.hasBias && matmul.activation == .none)
    }
  }

  /// They stand beside the templates' tactics, which the cost model prefers.
  @Test func callsAreOfferedAndNotPreferred() throws {
    let text = "graph(%x: f16[128, 768]) -> (%y) { %w = constant f16[768, 3072] random(1) %y = matmul(%x, %w) }"
    let plan = try Builder.build(
      try Self.graph(text), name: "region", targets: [try Self.target()], options: BuildOptions()
    ).plans[0]
    let alternatives = try #require(plan.steps[0].alternatives)
    #expect(alternatives.chosen == alternatives.tactics[0] && !alternatives.chosen.hasPrefix("cublaslt"))
    #expect(alternatives.tactics.filter { $0.hasPrefix("cublaslt ") }.count == 6 && plan.libraries.isEmpty)
  }

  /// Libraries that are not asked for are not measured.
  @Test func convolutionsOfLibrariesAreNotMeasuredUnasked() throws {
    let target = try Self.target()
    let text = Self.convolution(
      "f32[1, 28, 28, 64]", "f32[64, 3, 3, 64]",
      "strides: [1, 1], pads_begin: [1, 1], pads_end: [1, 1], dilations: [1, 1], groups: 1")
    let plan = try Builder.build(
      try Self.graph(text), name: "region", targets: [target], options: BuildOptions()
    ).plans[0]
    let alternatives = try #require(plan.steps[0].alternatives)
    #expect(alternatives.tactics.filter { $0.hasPrefix("cudnn ") }.count == 4 && plan.libraries.isEmpty)
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("apus-library-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    var cache = try TimingCacheFile(path: path)
    let outcome = try Tuner.tune([plan], for: target, on: LibraryDevice(), effort: .full, cache: &cache)
    #expect(outcome.warnings.isEmpty && outcome.measuredCount > 1)
    #expect(!cache.cache.sorted.contains { $0.tactic.hasPrefix("cudnn") })
    #expect(cache.cache.sorted.allSatisfy { $0.place.compiler.contains("cuBLASLt 13.0.2") })
  }

  /// A device without the library measures the others, and says why.
  @Test func missingLibrariesAreLeftOut() throws {
    let text = "graph(%x: f32[128, 128]) -> (%y) { %w = constant f32[128, 128] random(1) %y = matmul(%x, %w) }"
    let target = try Self.target()
    let plan = try Builder.build(
      try Self.graph(text), name: "region", targets: [target], options: BuildOptions()
    ).plans[0]
    for versions: [Library: Int] in [[:], [.cublasLt: 110_502]] {
      let path = FileManager.default.temporaryDirectory.appendingPathComponent("apus-library-\(UUID().uuidString)").path
      defer { try? FileManager.default.removeItem(atPath: path) }
      var cache = try TimingCacheFile(path: path)
      let outcome = try Tuner.tune(
        [plan], for: target, on: LibraryDevice(versions: versions), effort: .full, cache: &cache)
      let warning = try #require(outcome.warnings.first)
      #expect(
        outcome.warnings.count == 1 && warning.code == "APUS-B-0059" && warning.message.contains("cuBLASLt 12.0.0"))
      #expect(versions.isEmpty || warning.message.contains("11.5.2"))
      #expect(outcome.measuredCount > 1 && !cache.cache.sorted.contains { $0.tactic.hasPrefix("cublaslt") })
    }
  }
}

extension EngineFile {
  /// A plan written and read again.
  fileprivate static func decode(_ plan: Plan) throws -> Plan {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("apus-library-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    try EngineFile.write([plan], to: path)
    return try EngineFile.read(path)[0]
  }
}
