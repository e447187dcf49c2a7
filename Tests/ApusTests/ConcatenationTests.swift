import Apus
import ApusCompiler
import ApusCore
import ApusGraph
import ApusImport
import ApusOps
import ApusPlan
import ApusTesting
import Testing

/// Values that a concatenation puts one behind the other are computed where they go.
@Suite struct ConcatenationTests {
  /// Caches of two layers, each read by a product and stacked, as decoders give them back; `columns` decides whether their
  /// parts begin where memory of their own could.
  private static func caches(_ columns: Int) -> String {
    """
    graph(%k: f32[seq, \(columns)], %v: f32[seq, \(columns)], %x: f32[1, \(columns)]) -> (%all, %y) symbols(seq: 1...1024) {
      %w = constant f32[\(columns), \(columns)] random(1)
      %a = matmul(%x, %w) @"new"
      %k1 = concat(%k, %a) {axis: 0} @"first"
      %v1 = concat(%v, %a) {axis: 0} @"second"
      %k2 = reshape(%k1) {shape: [1, seq + 1, \(columns)]} @"front"
      %v2 = reshape(%v1) {shape: [1, seq + 1, \(columns)]} @"back"
      %all = concat(%k2, %v2) {axis: 0} @"stack"
      %p = matmul(%k1, %w) @"read"
      %q = matmul(%v1, %w) @"readToo"
      %y = add(%p, %q) @"sum"
    }
    """
  }

  private static func check(_ text: String, outputs: [String], _ sizes: [[Int]]) throws -> [Set<String>] {
    var graph = try GraphText.parse(text, catalogue: .standard)
    graph.outputNames = outputs
    let model = Model(graph: graph, name: "concatenation", producer: "", opsets: [:], metadata: [:])
    let plans = try build(model, targets: ["x86-64-v3"], options: BuildOptions()).plans
    let context = try Engine(plans: plans, threads: 2).makeContext()
    let names = graph.inputs.map { graph[$0].name }
    for rows in sizes {
      var values: [String: HostTensor] = [:]
      for (name, (id, rows)) in zip(names, zip(graph.inputs, rows)) {
        let columns = try #require(graph.tensorType(id).shape.last?.constantValue)
        values[name] = RandomTensor.make(.f32, [rows, columns], seed: UInt64(rows + values.count))
      }
      let expected = try Interpreter.run(graph, inputs: names.compactMap { values[$0].map { .tensor($0) } })
      let found = try context.run(inputs: values)
      for (name, value) in zip(outputs, expected) {
        // Products of products cancel: their sums of 64 terms of size 64 are compared to 64 times the rounding.
        let complaint = Closeness.complaint(try #require(found[name]), value, f32: 1e-4)
        #expect(complaint == nil, "'\(name)' of \(rows): \(complaint ?? "")")
      }
    }
    return plans[0].allSteps.map { Set($0.sources) }
  }

  @Test func cachesAreStackedWithoutCopies() throws {
    let sources = try Self.check(Self.caches(64), outputs: ["all", "y"], [[1, 1, 1], [8, 8, 1], [700, 700, 1]])
    #expect(!sources.contains { $0.contains("stack") }, "\(sources)")
  }

  @Test func partsThatBeginAnywhereAreCopied() throws {
    let sources = try Self.check(Self.caches(24), outputs: ["all", "y"], [[1, 1, 1], [8, 8, 1], [700, 700, 1]])
    #expect(sources.contains { $0.contains("stack") }, "\(sources)")
  }

  /// Concatenations of concatenations, an operand that is there twice, one that is an output, an input, and one whose axis is
  /// not the first.
  @Test func allElseIsCopiedWhereItMustBe() throws {
    let text = """
      graph(%x: f32[32, 64], %z: f32[32, 64]) -> (%all, %b, %side, %y) {
        %w = constant f32[64, 64] random(1)
        %a = matmul(%x, %w) @"a"
        %b = matmul(%z, %w) @"b"
        %ab = concat(%a, %b) {axis: 0} @"inner"
        %t = softmax(%a) {axis: -1} @"t"
        %all = concat(%ab, %t, %z, %t, %a) {axis: 0} @"outer"
        %side = concat(%a, %t) {axis: 1} @"side"
        %y = matmul(%ab, %w) @"y"
      }
      """
    _ = try Self.check(text, outputs: ["all", "b", "side", "y"], [[32, 32]])
  }
}
