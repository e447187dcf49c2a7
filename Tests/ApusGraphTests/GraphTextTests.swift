import ApusCore
import ApusGraph
import ApusOps
import Testing

@Suite struct GraphTextTests {
  private func graph() throws -> Graph {
    try GraphText.parse(
      """
      // comments are skipped
      graph(%x: f32[N, 3, 8, 8], %"odd name/1": i64[2]) -> (%y as "out", %"odd name/1" as "s") symbols(N: 1...8, M: ...4) {
        %w = constant f32[4, 3, 3, 3] random(7)
        %small = constant f32[3] {0.5, -1e-07, 0x7fc00001}
        %0 = constant string[2] {"a \\"b\\"", "c\\n"}
        %c = conv(%x, %w) {strides: [1, 1], pads_begin: [1, 1], pads_end: [1, 1], dilations: [1, 1], groups: 1,
          layout: "nchw"} @"layer1/\\"conv\\""
        %1 = reshape(%c) {shape: [N, 4, 64]}
        %1#2 = iota() {shape: [(f32), M + 1], axis: 0, dtype: i64}
        %y = softmax(%1) {axis: -1} : f32[N, 4, 64]
        %e = equal(%0, %0)
        %2 = neg(%small)
      }
      """, catalogue: .standard)
  }

  @Test func textRoundTripsExactly() throws {
    let graph = try graph()
    try Verifier.verify(graph)
    #expect(graph.outputNames == ["out", "s"])
    let printed = GraphText(graph)
    #expect(printed.constants.count == 1)
    let again = GraphText(try GraphText.parse(printed.text, catalogue: .standard, constants: printed.constants))
    #expect(again.text == printed.text)
    let node = try #require(graph.order.first.map { graph[$0] })
    #expect(node.name == "layer1/\"conv\"")
    #expect(printed.text.contains("0x7fc00001") && printed.text.contains("%\"odd name/1\""))
    let names = GraphText.symbols(of: graph).map(\.name)
    #expect(names.contains("f32") && names.contains("M"))
  }

  @Test func sizesThatAreDividedAreNoComments() throws {
    let text = """
      graph(%x: f32[N, ((((H + 1)//(2)) + 1)//(2)), 4]) -> (%y as "y") symbols(N: 0..., H: 1...9) { // two halvings
        %y = relu(%x) // : nothing
      }
      """
    let graph = try GraphText.parse(text, catalogue: .standard)
    let printed = GraphText(graph).text
    #expect(printed.contains("[N, ((((H + 1)//(2)) + 1)//(2)), 4]"), "\(printed)")
    #expect(GraphText(try GraphText.parse(printed, catalogue: .standard)).text == printed)
  }

  @Test func parsedGraphsRun() throws {
    let x = RandomTensor.make(.f32, [2, 3, 8, 8], seed: 5)
    let shape = HostTensor(.i64, [2], int64s: [1, 2])
    let graph = try GraphText.parse(
      """
      graph(%x: f32[N, 3, 8, 8], %s: i64[2]) -> (%y) symbols(N: 1...8) {
        %t = transpose(%x) {perm: [1, 0, 2, 3]}
        %y = reduce_sum(%t) {axes: [0, 2, 3], keep_dims: false}
      }
      """, catalogue: .standard)
    let results = try Interpreter.run(graph, inputs: [.tensor(x), .tensor(shape)])
    let expected = (0..<2).map { row in x.doubles[row * 192..<(row + 1) * 192].reduce(0, +) }
    let found = try #require(results.first?.tensor)
    #expect(found.shape == [2])
    #expect(zip(found.doubles, expected).allSatisfy { ($0 - $1).magnitude < 1e-4 })
  }

  @Test(arguments: [
    ("", "1:1"),
    ("graph(%x: f32[2]) -> (%y) {\n  %y = neg(%z)\n}", "2:"),
    ("graph(%x: f32[2]) -> (%y) {\n  %y = nag(%x)\n}", "2:"),
    ("graph(%x: f32[2]) -> (%y) {\n  %y = neg(%x) : f32[3]\n}", "2:"),
    ("graph(%x: f32[2]) -> (%y) {\n  %x = neg(%x)\n}", "3:1"),
    ("graph(%x: f99[2]) -> (%x) {}", "1:11"),
    ("graph(%x: f32[2) -> (%x) {}", "1:"),
    ("graph(%x: f32[2]) -> (%q) {}", "1:"),
    ("graph(%x: f32[2]) -> (%x) {\n  %c = constant f32[3] {1.0}\n}", "2:"),
    ("graph(%x: f32[2]) -> (%x) {\n  %c = constant f32[1] {abc}\n}", "2:"),
    ("graph(%x: f32[2]) -> (%x) {\n  %c = constant f32[99999999999] random(1)\n}", "2:"),
    ("graph(%x: f32[2]) -> (%y) {\n  %y = softmax(%x) {axis: 4}\n}", "2:"),
    ("graph(%x: f32[2]) -> (%y) {\n  %y = softmax(%x) {axis: }\n}", "2:"),
    ("graph(%x: f32[2]) -> (%x) {", "1:28"),
    ("graph(%x: f32[N]) -> (%x) symbols(N: 8...1) {}", "1:"),
    ("graph(%x: " + String(repeating: "seq<", count: 40), "1:"),
  ]) func mistakesAreRefusedWithTheirPlace(_ text: String, _ place: String) {
    do {
      _ = try GraphText.parse(text, catalogue: .standard)
      Issue.record("'\(text)' was accepted")
    } catch {
      #expect(error.problems.first?.place.hasPrefix(place) == true, "\(error)")
    }
  }

  @Test func damagedTextNeverTraps() throws {
    let printed = GraphText(try graph())
    var generator = RandomTensor.Generator(seed: 11)
    let bytes = Array(printed.text.utf8)
    for _ in 0..<400 {
      var damaged = bytes
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        let index = Int.random(in: 0..<damaged.count, using: &generator)
        switch Int.random(in: 0..<3, using: &generator) {
        case 0: damaged.remove(at: index)
        case 1: damaged[index] = UInt8.random(in: 32...126, using: &generator)
        default: damaged.insert(bytes.randomElement(using: &generator) ?? 0, at: index)
        }
      }
      let text = String(decoding: damaged, as: UTF8.self)
      if let graph = try? GraphText.parse(text, catalogue: .standard, constants: printed.constants) {
        #expect(!GraphText(graph).text.isEmpty)
      }
    }
  }
}
