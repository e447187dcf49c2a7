import ApusCore
import ApusGraph
import ApusOps
import Foundation
import SwiftProtobuf
import Testing

@testable import ApusImport

/// What is wrong with a model is said with code, place and hint; nothing traps.
struct ONNXErrorTests {
  private let x = ONNX.floats("x", 2, 3)

  @Test func allProblemsComeInOneReport() {
    let model = ONNX.model(
      ONNX.graph(
        [x],
        [
          ONNX.node("Foo", ["x"], ["a"]), ONNX.node("Foo", ["x"], ["b"]),
          ONNX.node("Bar", ["a"], ["c"]),
          ONNX.node("Transpose", ["x"], ["d"], [ONNX.attribute("perm", [0, 0])]),
          ONNX.node("Concat", ["x", "d"], ["e"]),
        ], ["a", "b", "c", "d", "e"]))
    do {
      _ = try ONNX.load(model)
      Issue.record("the model was read")
    } catch {
      #expect(error.problems.map(\.code) == ["APUS-I-0010", "APUS-I-0010", "APUS-I-0012"])
      #expect(error.problems[1].message == "operator Foo is not supported; the model uses it 2 times")
      #expect(error.problems[2].place == "Transpose 'Transpose_d' (opset 17; f32[2, 3])")
      #expect(error.problems[0].hint.contains("apus ops"))
    }
  }

  @Test func badGraphsAreRefused() {
    let relu = ONNX.node("Relu", ["x"], ["y"])
    let cycle = [ONNX.node("Add", ["x", "b"], ["a"]), ONNX.node("Relu", ["a"], ["b"])]
    let cases: [(Onnx_GraphProto, String)] = [
      (ONNX.graph([x], cycle, ["b"]), "APUS-I-0032"),
      (ONNX.graph([x], [relu, relu], ["y"]), "APUS-I-0030"),
      (ONNX.graph([x, x], [relu], ["y"]), "APUS-I-0030"),
      (ONNX.graph([x], [ONNX.node("Relu", ["q"], ["y"])], ["y"]), "APUS-I-0031"),
      (ONNX.graph([x], [relu], ["z"]), "APUS-I-0031"),
      (ONNX.graph([x], [relu], []), "APUS-I-0003"),
      (ONNX.graph([ONNX.value("x", 14, [2])], [relu], ["y"]), "APUS-I-0020"),
      (ONNX.graph([x], [ONNX.node("Relu", [], ["y"])], ["y"]), "APUS-I-0014"),
    ]
    for (graph, code) in cases { #expect(ONNX.codes(ONNX.model(graph)).contains(code), "\(code)") }
    #expect(ONNX.codes(ONNX.model(ONNX.graph([x], [relu], ["y"]), opset: 99)) == ["APUS-I-0003"])
  }

  @Test func nodesMayComeInAnyOrder() throws {
    let nodes = [ONNX.node("Relu", ["a"], ["y"]), ONNX.node("Neg", ["x"], ["a"])]
    #expect(try ONNX.load(ONNX.model(ONNX.graph([x], nodes, ["y"]))).opNames == ["neg", "relu"])
  }

  @Test func tensorDataMustFitTheDims() {
    var tensors: [Onnx_TensorProto] = []
    tensors.append(ONNX.tensor("w", [1, 2, 3], dims: [4]))
    tensors.append(ONNX.tensor("w", [1], dims: [-1]))
    tensors.append(ONNX.tensor("w", [1], dims: [1 << 40, 1 << 40]))
    tensors.append(ONNX.tensor("w", floats: [1, 2], dims: [1 << 62]))
    tensors.append(ONNX.tensor("w", [1], dims: [Int64](repeating: 1, count: 100)))
    for tensor in tensors {
      let graph = ONNX.graph([x], [ONNX.node("Relu", ["x"], ["y"])], ["y"], constants: [tensor])
      #expect(ONNX.codes(ONNX.model(graph)) == ["APUS-I-0020"])
    }
  }

  @Test func externalDataStaysInTheFolder() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString)")
    let models = folder.appendingPathComponent("models")
    try FileManager.default.createDirectory(at: models, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let weights: [Float] = [1, 2, 3, 4]
    try weights.withUnsafeBytes { Data($0) }.write(to: models.appendingPathComponent("w.bin"))
    try Data([1, 2, 3, 4]).write(to: folder.appendingPathComponent("secret.bin"))
    func load(_ location: String, _ entries: [String: String] = [:]) throws(ImportError) -> Graph {
      let tensor = Onnx_TensorProto.with {
        $0.name = "w"
        $0.dataType = 1
        $0.dims = [4]
        $0.dataLocation = .external
        $0.externalData = entries.merging(["location": location]) { $1 }.map { key, value in
          .with {
            $0.key = key
            $0.value = value
          }
        }
      }
      let graph = ONNX.graph([ONNX.floats("x", 4)], [ONNX.node("Add", ["x", "w"], ["y"])], ["y"], constants: [tensor])
      return try ONNXImporter().load(ONNX.model(graph), folder: models.path, ImportOptions(catalogue: .standard)).graph
    }
    let graph = try load("w.bin")
    let x = HostTensor(.f32, [4], elements: [Float](arrayLiteral: 1, 1, 1, 1))
    #expect(try Interpreter.run(graph, inputs: [.tensor(x)])[0].tensor?.doubles == [2, 3, 4, 5])
    let bad: [(String, [String: String])] = [
      ("../secret.bin", [:]), ("/etc/hostname", [:]), ("missing.bin", [:]), ("", [:]), ("w.bin", ["offset": "4"]),
      ("w.bin", ["offset": "-1"]), ("w.bin", ["length": "99999999999999999999"]), ("w.bin", ["length": "8"]),
      ("w.bin", ["offset": "9223372036854775807"]),
    ]
    for (location, entries) in bad {
      do {
        _ = try load(location, entries)
        Issue.record("'\(location)' \(entries) was read")
      } catch { #expect(["APUS-I-0020", "APUS-I-0021"].contains(error.problems[0].code)) }
    }
  }

  // MARK: Broken bytes

  @Test func emptyForeignAndTruncatedFilesAreRefused() throws {
    let bytes: [UInt8] = try sample().serializedBytes()
    for broken in [[], Array("not a model at all".utf8), [UInt8](repeating: 255, count: 64)] {
      #expect(throws: ImportError.self) { try ONNX.load(bytes: broken) }
    }
    for count in stride(from: 1, to: bytes.count, by: 7) {
      #expect(throws: ImportError.self) { try ONNX.load(bytes: Array(bytes[..<count])) }
    }
    #expect(throws: ImportError.self) {
      try ONNXImporter().load("/nowhere/m.onnx", ImportOptions(catalogue: .standard))
    }
  }

  /// A model of many operators, with a branch, a function and constants.
  private func sample() -> Onnx_ModelProto {
    let then = ONNX.graph([], [ONNX.node("Relu", ["m"], ["t"])], ["t"])
    let other = ONNX.graph([], [ONNX.node("Neg", ["m"], ["s"])], ["s"])
    let function = Onnx_FunctionProto.with {
      $0.name = "F"
      $0.domain = "local"
      $0.input = ["a"]
      $0.output = ["b"]
      $0.node = [ONNX.node("Sigmoid", ["a"], ["b"])]
    }
    return ONNX.model(
      ONNX.graph(
        [ONNX.floats("x", "n", 4), ONNX.bools("c")],
        [
          ONNX.node("Shape", ["x"], ["shape"]), ONNX.node("Gather", ["shape", "zero"], ["n"]),
          ONNX.node("Concat", ["n", "zero", "minus"], ["target"], [ONNX.attribute("axis", 0)]),
          ONNX.node("MatMul", ["x", "w"], ["m"]),
          ONNX.node(
            "If", ["c"], ["i"], [ONNX.attribute("then_branch", then), ONNX.attribute("else_branch", other)]),
          ONNX.node("F", ["i"], ["f"], domain: "local"),
          ONNX.node("Slice", ["f", "zero", "two", "zero"], ["cut"]),
          ONNX.node("Pad", ["cut", "pads"], ["padded"]),
          ONNX.node("Transpose", ["padded"], ["y"], [ONNX.attribute("perm", [1, 0])]),
          ONNX.node("Softmax", ["y"], ["z"], [ONNX.attribute("axis", -1)]),
          ONNX.node("Split", ["z"], ["p", "q"], [ONNX.attribute("axis", 0)]),
        ], ["p", "q", "target"],
        constants: [
          ONNX.tensor("zero", [0]), ONNX.tensor("two", [2]), ONNX.tensor("minus", [-1]),
          ONNX.tensor("pads", [0, 1, 2, 1]),
          ONNX.tensor("w", floats: (0..<8).map { Float($0) * 0.25 - 1 }, dims: [4, 2]),
        ]), functions: [function])
  }

  /// Convolution and resampling with all their attributes.
  private func imageSample() -> Onnx_ModelProto {
    ONNX.model(
      ONNX.graph(
        [ONNX.floats("x", "n", 2, "h", "w")],
        [
          ONNX.node(
            "Conv", ["x", "k", "b"], ["c"],
            [
              ONNX.attribute("strides", [2, 1]), ONNX.attribute("pads", [1, 0, 1, 2]), ONNX.attribute("group", 1),
              ONNX.attribute("dilations", [1, 2]),
            ]),
          ONNX.node(
            "MaxPool", ["c"], ["m"], [ONNX.attribute("kernel_shape", [2, 2]), ONNX.attribute("ceil_mode", 1)]),
          ONNX.node("Resize", ["m", "", "scales"], ["r"]),
          ONNX.node("GlobalAveragePool", ["r"], ["g"]),
          ONNX.node("Flatten", ["g"], ["y"]),
          ONNX.node("TopK", ["y", "one"], ["v", "i"]),
        ], ["v", "i"],
        constants: [
          ONNX.tensor("k", floats: (0..<24).map { Float($0) / 8 - 1 }, dims: [3, 2, 2, 2]),
          ONNX.tensor("b", floats: [1, 2, 3]), ONNX.tensor("scales", floats: [1, 1, 2, 1.5]), ONNX.tensor("one", [1]),
        ]))
  }

  @Test(arguments: [1, 2, 3, 4]) func mutatedFilesNeverCrash(seed: UInt64) throws {
    let models: [[UInt8]] = [try sample().serializedBytes(), try imageSample().serializedBytes()]
    for model in models { _ = try ONNX.load(bytes: model) }
    var random = SplitMix(state: seed)
    for round in 0..<500 {
      var bytes = models[round % 2]
      for _ in 0...random.below(3) { mutate(&bytes, &random) }
      _ = try? ONNX.load(bytes: bytes)
    }
  }

  /// Mutates every model of a folder of test cases; runs only where `APUS_ONNX_CASES` names such a folder.
  /// `APUS_FUZZ_ROUNDS` mutations of each, from `APUS_FUZZ_SEED` on.
  @Test(.enabled(if: ProcessInfo.processInfo.environment["APUS_ONNX_CASES"] != nil))
  func mutatedCasesNeverCrash() throws {
    let environment = ProcessInfo.processInfo.environment
    let folder = try #require(environment["APUS_ONNX_CASES"])
    let rounds = environment["APUS_FUZZ_ROUNDS"].flatMap(Int.init) ?? 10
    let seed = environment["APUS_FUZZ_SEED"].flatMap(UInt64.init) ?? 1
    for name in try FileManager.default.contentsOfDirectory(atPath: folder).sorted() {
      guard let data = FileManager.default.contents(atPath: "\(folder)/\(name)/model.onnx") else { continue }
      var random = SplitMix(state: seed &+ UInt64(data.count))
      for round in 0..<rounds {
        var bytes = Array(data)
        for _ in 0...random.below(3) { mutate(&bytes, &random) }
        if environment["APUS_FUZZ_VERBOSE"] != nil {
          FileHandle.standardError.write(Data("\(name) \(round)\n".utf8))
        }
        _ = try? ONNX.load(bytes: bytes)
      }
    }
  }

  /// Integers that are sums and products of sizes are followed no further once their expressions are long: from there on
  /// they are computed while running.
  @Test func sizesDoNotGrowWithoutBound() throws {
    var nodes = [ONNX.node("Shape", ["x"], ["s"]), ONNX.node("Gather", ["s", "zero"], ["d0"])]
    for index in 0..<60 {
      nodes.append(ONNX.node("Add", ["d\(index)", "one"], ["a\(index)"]))
      nodes.append(ONNX.node("Div", ["a\(index)", "three"], ["b\(index)"]))
      nodes.append(ONNX.node("Mul", ["b\(index)", "a\(index)"], ["d\(index + 1)"]))
    }
    let graph = ONNX.graph(
      [ONNX.floats("x", "n")], nodes, ["d60"],
      constants: [ONNX.tensor("zero", [0]), ONNX.tensor("one", [1]), ONNX.tensor("three", [3])])
    let loaded = try ONNX.load(ONNX.model(graph))
    #expect(loaded.order.count > 100)
  }

  private func mutate(_ bytes: inout [UInt8], _ random: inout SplitMix) {
    guard !bytes.isEmpty else { return }
    let position = random.below(bytes.count)
    switch random.below(5) {
    case 0: bytes[position] ^= 1 << UInt8(random.below(8))
    case 1: bytes[position] = UInt8(random.below(256))
    case 2: bytes.remove(at: position)
    case 3: bytes.insert(UInt8(random.below(256)), at: position)
    default:
      // Runs of set bits make huge and negative integers.
      for offset in position..<min(position + 1 + random.below(9), bytes.count) { bytes[offset] = 255 }
    }
  }
}

/// A small generator with a fixed sequence for each seed.
private struct SplitMix {
  var state: UInt64

  mutating func below(_ count: Int) -> Int {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return Int((z ^ (z >> 31)) % UInt64(count))
  }
}
