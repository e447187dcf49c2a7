import TestSupport
import Testing

/// Model files that are no models, or wrong ones: `apus build` names the place and writes nothing.
@Suite struct ModelFileTests {
  private struct Case {
    let name: String
    let bytes: [UInt8]
    let texts: [String]
  }

  private static func oneNode(_ node: Proto, constants: [Proto] = [], opset: Int = 21) -> [UInt8] {
    ONNXModel.model(
      [node], inputs: [ONNXModel.value("x", ONNXModel.float, ["n", 4])],
      outputs: [ONNXModel.value("y", ONNXModel.float, ["n", 3])], constants: constants, opset: opset
    ).bytes
  }

  private static func product(with weight: Proto) -> [UInt8] {
    oneNode(ONNXModel.node("MatMul", ["x", "w"], ["y"], name: "decoder/mlp"), constants: [weight])
  }

  private static let raw = [UInt8](repeating: 1, count: 48)

  private static func external(_ path: String) -> Proto {
    Proto().adding(1, [4, 3]).adding(2, ONNXModel.float).adding(8, "w")
      .adding(13, Proto().adding(1, "location").adding(2, path)).adding(14, 1)
  }

  private static let damaged: [Case] = [
    Case(name: "empty", bytes: [], texts: ["APUS-I-0002", "the file is empty"]),
    Case(name: "cut", bytes: Array(ONNXModel.product.bytes.prefix(60)), texts: ["APUS-I-0002", "truncated"]),
    Case(
      name: "foreign", bytes: [0x7f, 0x45, 0x4c, 0x46] + (0..<200).map { UInt8($0) },
      texts: ["APUS-I-0002", "no known model format", "ONNX"]),
    Case(
      name: "huge-length", bytes: [0x08, 0x0a, 0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f],
      texts: ["APUS-I-0002", "truncated, corrupt or of another format"]),
    Case(name: "no-graph", bytes: [0x08, 0x0a], texts: ["APUS-I-0003", "no graph with outputs"]),
  ]

  private static let wrongNodes: [Case] = [
    Case(
      name: "unknown-operator", bytes: oneNode(ONNXModel.node("Reluu", ["x"], ["y"], name: "act")),
      texts: ["APUS-I-0010", "Reluu 'act' (opset 21; f32[n, 4])", "not supported"]),
    Case(
      name: "unknown-value", bytes: oneNode(ONNXModel.node("Relu", ["q"], ["y"], name: "act")),
      texts: ["APUS-I-0031", "Relu 'act'", "input 'q'"]),
    Case(
      name: "inner-sizes", bytes: product(with: ONNXModel.constant("w", [5, 3], floats: (0..<15).map { Float($0) })),
      texts: ["APUS-S-0041", "decoder/mlp", "4 in f32[n, 4] and 5 in f32[5, 3]"]),
    Case(
      name: "element-types", bytes: product(with: ONNXModel.constant("w", [4, 3], ints: Array(0..<12))),
      texts: ["APUS-S-0011", "decoder/mlp", "i64[4, 3]"]),
    Case(
      name: "future-opset", bytes: oneNode(ONNXModel.node("Relu", ["x"], ["y"]), opset: 99),
      texts: ["APUS-I-0003", "operator set 99"]),
    Case(
      name: "cycle",
      bytes: ONNXModel.model(
        [
          ONNXModel.node("Add", ["x", "b"], ["a"], name: "first"), ONNXModel.node("Relu", ["a"], ["b"], name: "second"),
        ],
        inputs: [ONNXModel.value("x", ONNXModel.float, [2])], outputs: [ONNXModel.value("b", ONNXModel.float, [2])]
      ).bytes, texts: ["APUS-I-0032", "Add 'first'", "cycle through 2 nodes"]),
    Case(
      name: "several",
      bytes: ONNXModel.model(
        [
          ONNXModel.node("Reluu", ["x"], ["a"], name: "one"), ONNXModel.node("Foo", ["a"], ["b"], name: "two"),
          ONNXModel.node("MatMul", ["w", "w"], ["y"], name: "three"),
        ], inputs: [ONNXModel.value("x", ONNXModel.float, ["n", 4])],
        outputs: [ONNXModel.value("y", ONNXModel.float, [4, 3]), ONNXModel.value("b", ONNXModel.float, ["n", 4])],
        constants: [ONNXModel.constant("w", [4, 3], floats: (0..<12).map { Float($0) })]
      ).bytes, texts: ["Reluu 'one'", "Foo 'two'", "MatMul 'three'"]),
  ]

  private static let wrongConstants: [Case] = [
    Case(
      name: "huge-dims", bytes: product(with: ONNXModel.tensor("w", [1 << 60, 3], ONNXModel.float, raw)),
      texts: ["APUS-I-0020", "tensor 'w'", "1152921504606846976"]),
    Case(
      name: "negative-dim", bytes: product(with: ONNXModel.tensor("w", [-4, 3], ONNXModel.float, raw)),
      texts: ["APUS-I-0020", "tensor 'w'", "-4"]),
    Case(
      name: "short-data", bytes: product(with: ONNXModel.tensor("w", [4, 3], ONNXModel.float, Array(raw.prefix(10)))),
      texts: ["APUS-I-0020", "tensor 'w'", "48 bytes", "found 10"]),
    Case(
      name: "missing-data-file", bytes: product(with: external("missing.bin")),
      texts: ["APUS-I-0021", "tensor 'w'", "'missing.bin' is missing"]),
    Case(
      name: "escaping-data-file", bytes: product(with: external("../../etc/passwd")),
      texts: ["APUS-I-0021", "tensor 'w'", "outside the model's folder"]),
  ]

  @Test func filesThatAreNoModelsAreRefused() throws {
    let place = try Workplace()
    for test in Self.damaged {
      try place.write(test.bytes, "\(test.name).onnx")
      try place.refuses("build", "\(test.name).onnx", "-o", "out.apus", saying: test.texts + ["\(test.name).onnx"])
      try place.refuses("run", "\(test.name).onnx", saying: test.texts + ["\(test.name).onnx"])
    }
  }

  @Test func wrongModelsAreRefusedWithThePlace() throws {
    let place = try Workplace()
    for test in Self.wrongNodes + Self.wrongConstants {
      try place.write(test.bytes, "\(test.name).onnx")
      try place.refuses("build", "\(test.name).onnx", "-o", "out.apus", saying: test.texts + ["\(test.name).onnx"])
    }
  }

  @Test func flippedBitsAreUserErrors() throws {
    let place = try Workplace()
    let whole = ONNXModel.product.bytes
    for position in stride(from: 0, to: 48, by: 3) {
      var damaged = whole
      damaged[position] ^= 1 << (position % 8)
      try place.write(damaged, "flipped.onnx")
      let result = try place.apus(["inspect", "flipped.onnx"])
      #expect([0, 2].contains(result.status), "bit \(position % 8) of byte \(position): \(result.errors)")
    }
  }
}
