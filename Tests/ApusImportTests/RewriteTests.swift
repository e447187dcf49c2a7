import ApusCore
import ApusGraph
import ApusOps
import Testing

@testable import ApusImport

/// What hints say to write in place of operators that are not supported is read, and gives what these would.
@Suite struct RewriteTests {
  private static func run(_ graph: Onnx_GraphProto, _ inputs: [HostTensor]) throws -> [HostTensor] {
    let results = try Interpreter.run(ONNX.load(ONNX.model(graph, opset: 21)), inputs: inputs.map { .tensor($0) })
    return try results.map { try #require($0.tensor) }
  }

  private static func random(_ shape: [Int], _ seed: UInt64, _ range: ClosedRange<Double>) -> HostTensor {
    RandomTensor.make(.f32, shape, seed: seed, range: range)
  }

  /// The hint of a model of one node.
  private static func hint(_ op: String, domain: String = "") throws -> String {
    let node = ONNX.node(op, ["x"], ["y"], domain: domain)
    let error = #expect(throws: ImportError.self) {
      try ONNX.load(ONNX.model(ONNX.graph([ONNX.floats("x", 2)], [node], ["y"])))
    }
    return try #require(error?.problems.first).hint
  }

  @Test(arguments: UnsupportedHint.rewrites.keys.sorted()) func hintsNameOperatorsThatAreRead(_ op: String) throws {
    let hint = try Self.hint(op)
    #expect(hint.hasPrefix(UnsupportedHint.rewrites[op] ?? "?"))
    guard let names = hint.firstMatch(of: /Write it as (.*?)\./) else { return }
    let operators = names.1.split(separator: " ").filter { $0.first?.isUppercase ?? false }
    #expect(!operators.isEmpty && operators.allSatisfy { OperatorTable.names.contains(String($0)) }, "\(names.1)")
    #expect(
      [
        "EfficientNMS_TRT", "BatchedNMS_TRT", "BatchedNMSDynamic_TRT", "ScatterND_TRT",
        "MultiscaleDeformableAttnPlugin_TRT",
      ].contains(op), "has no test here")
  }

  @Test func hintsOfOtherDomains() throws {
    for (domain, text) in UnsupportedHint.domains { #expect(try Self.hint("Wobble", domain: domain).hasPrefix(text)) }
    #expect(try Self.hint("Conv", domain: "elsewhere").hasPrefix("Conv is supported"))
    #expect(try Self.hint("Convv").hasPrefix("Did you mean 'Conv'?"))
    #expect(try Self.hint("Wobble").contains("apus reduce"))
  }

  @Test func scatterND() throws {
    let graph = ONNX.graph(
      [ONNX.floats("x", 5, 2), ONNX.floats("updates", 2, 2)],
      [ONNX.node("ScatterND", ["x", "at", "updates"], ["y"])], ["y"],
      constants: [ONNX.tensor("at", [3, 0], dims: [2, 1])])
    let x = Self.random([5, 2], 1, -2...2)
    let updates = Self.random([2, 2], 2, -2...2)
    let y = try Self.run(graph, [x, updates])[0].doubles
    let (old, new) = (x.doubles, updates.doubles)
    let expected: [Double] = Array(new[2..<4]) + Array(old[2..<6]) + Array(new[0..<2]) + Array(old[8..<10])
    #expect(y == expected)
  }

  @Test func nonMaxSuppressionAndGather() throws {
    let (count, classes, most, overlap, least) = (24, 3, 4, 0.4, 0.3)
    let graph = ONNX.graph(
      [ONNX.floats("boxes", 1, count, 4), ONNX.floats("scores", 1, classes, count)],
      [
        ONNX.node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["chosen"]),
        ONNX.node("Gather", ["chosen", "two"], ["box"], [ONNX.attribute("axis", 1)]),
        ONNX.node("Squeeze", ["boxes", "zero"], ["all"]), ONNX.node("Gather", ["all", "box"], ["y"]),
      ], ["chosen", "y"],
      constants: [
        ONNX.tensor("most", [Int64(most)], dims: [1]), ONNX.tensor("overlap", floats: [Float(overlap)], dims: [1]),
        ONNX.tensor("least", floats: [Float(least)], dims: [1]), ONNX.tensor("two", [2], dims: []),
        ONNX.tensor("zero", [0], dims: [1]),
      ])
    let corners = Self.random([count, 2], 3, 0...2).doubles
    let sizes = Self.random([count, 2], 4, 0.5...1).doubles
    let boxes = (0..<count).map { i -> [Double] in
      let (top, left) = (corners[2 * i], corners[2 * i + 1])
      return [top, left, top + sizes[2 * i], left + sizes[2 * i + 1]]
    }
    let scores = Self.random([1, classes, count], 5, 0...1)
    let results = try Self.run(
      graph, [HostTensor(.f32, [1, count, 4], doubles: boxes.flatMap { $0 }), scores])

    func shared(_ a: [Double], _ b: [Double]) -> Double {
      let height: Double = max(0, min(a[2], b[2]) - max(a[0], b[0]))
      let width: Double = max(0, min(a[3], b[3]) - max(a[1], b[1]))
      let common = height * width
      func area(_ box: [Double]) -> Double { (box[2] - box[0]) * (box[3] - box[1]) }
      return common / (area(a) + area(b) - common)
    }
    var expected: [[Int64]] = []
    for kind in 0..<classes {
      var kept: [Int] = []
      let own = Array(scores.doubles[kind * count..<(kind + 1) * count])
      for box in (0..<count).sorted(by: { own[$0] > own[$1] }) where own[box] > least && kept.count < most {
        if kept.allSatisfy({ shared(boxes[$0], boxes[box]) <= overlap }) { kept.append(box) }
      }
      expected += kept.map { [0, Int64(kind), Int64($0)] }
    }
    #expect(results[0].int64s == expected.flatMap { $0 })
    let chosen = expected.flatMap { boxes[Int($0[2])] }
    #expect(results[1].shape == [expected.count, 4])
    #expect(zip(results[1].doubles, chosen).allSatisfy { abs($0 - $1) < 1e-6 })
  }

  /// Attention at sampled places of one level: values `[N·heads, D, H, W]`, places 0 … 1 `[N·heads, queries, points, 2]`, and a weight
  /// for each place.
  @Test func gridSampleAndAWeightedSum() throws {
    let (groups, depth, height, width, queries, points) = (3, 2, 5, 4, 6, 3)
    let graph = ONNX.graph(
      [
        ONNX.floats("values", groups, depth, height, width), ONNX.floats("places", groups, queries, points, 2),
        ONNX.floats("weights", groups, 1, queries, points),
      ],
      [
        ONNX.node("Mul", ["places", "two"], ["doubled"]), ONNX.node("Sub", ["doubled", "one"], ["grid"]),
        ONNX.node("GridSample", ["values", "grid"], ["samples"], [ONNX.attribute("align_corners", 0)]),
        ONNX.node("Mul", ["samples", "weights"], ["weighted"]),
        ONNX.node("ReduceSum", ["weighted", "last"], ["y"], [ONNX.attribute("keepdims", 0)]),
      ], ["y"],
      constants: [
        ONNX.tensor("two", floats: [2], dims: []), ONNX.tensor("one", floats: [1], dims: []),
        ONNX.tensor("last", [-1], dims: [1]),
      ])
    let values = Self.random([groups, depth, height, width], 6, -2...2)
    let places = Self.random([groups, queries, points, 2], 7, -0.1...1.1)
    let weights = Self.random([groups, 1, queries, points], 8, 0...1)
    let y = try Self.run(graph, [values, places, weights])[0]
    #expect(y.shape == [groups, depth, queries])
    let (v, p, w) = (values.doubles, places.doubles, weights.doubles)
    var expected: [Double] = []
    for group in 0..<groups {
      for channel in 0..<depth {
        for query in 0..<queries {
          var sum = 0.0
          for point in 0..<points {
            let at = (group * queries + query) * points + point
            let x: Double = p[2 * at] * Double(width) - 0.5
            let y: Double = p[2 * at + 1] * Double(height) - 0.5
            let (top, left) = (Int(y.rounded(.down)), Int(x.rounded(.down)))
            for row in [top, top + 1] where (0..<height).contains(row) {
              for column in [left, left + 1] where (0..<width).contains(column) {
                let value: Double = v[((group * depth + channel) * height + row) * width + column]
                let share: Double = (1 - abs(x - Double(column))) * (1 - abs(y - Double(row)))
                sum += w[at] * value * share
              }
            }
          }
          expected.append(sum)
        }
      }
    }
    #expect(zip(y.doubles, expected).allSatisfy { abs($0 - $1) < 1e-5 })
  }
}
