import Foundation
import TestSupport
import Testing

/// `apus diff`, and `--lock` and `--write-lock`, through the command line.
@Suite struct DiffTests {
  private final class Place {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-diff-\(UUID().uuidString)")

    init() throws {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      let (depth, columns) = (64, 96)
      let model = ONNXModel.model(
        [
          ONNXModel.node("MatMul", ["x", "w"], ["h"], name: "mlp/product"),
          ONNXModel.node("Relu", ["h"], ["a"], name: "mlp/act"),
          ONNXModel.node("Softmax", ["a"], ["y"], name: "softmax"),
        ],
        inputs: [ONNXModel.value("x", ONNXModel.float, ["n", depth])],
        outputs: [ONNXModel.value("y", ONNXModel.float, ["n", columns])],
        constants: [
          ONNXModel.constant("w", [depth, columns], floats: (0..<depth * columns).map { Float($0 % 31) / 31 - 0.5 })
        ])
      try Data(model.bytes).write(to: folder.appendingPathComponent("m.onnx"))
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    func apus(_ arguments: String...) throws -> Binary.Result { try Binary.run(arguments, folder: folder) }

    func build(_ name: String, _ options: String...) throws {
      let result = try Binary.run(["build", "m.onnx", "-o", name] + options, folder: folder)
      #expect(result.status == 0, "\(result.errors)")
    }
  }

  @Test func enginesOfOneModelAreTheSame() throws {
    let place = try Place()
    try place.build("a.apus", "--write-lock", "m.lock")
    try place.build("b.apus", "--lock", "m.lock", "--timing-cache", "any.timings")
    let same = try place.apus("diff", "a.apus", "b.apus")
    #expect(same.status == 0 && same.output == "a.apus and b.apus are the same\n", "\(same)")
    let timed = try place.apus(
      "diff", "a.apus", "b.apus", "--time", "--duration", "0.2", "--tolerance", "1000", "--quiet")
    #expect(
      timed.status == 0 && timed.output.contains("whole run") && timed.output.contains("within noise"), "\(timed)")
  }

  @Test func differencesAreExplained() throws {
    let place = try Place()
    try place.build("a.apus", "--write-lock", "m.lock", "--target", "x86-64-v3")
    let path = place.folder.appendingPathComponent("m.lock")
    let lock = try String(contentsOf: path, encoding: .utf8)
    let chosen = try #require(lock.firstMatch(of: /"(gemm [^"]*)"/)).1
    let other = chosen.hasPrefix("gemm 6x16") ? "gemm 6x8" : "gemm 6x16"
    try lock.replacingOccurrences(of: "\"\(chosen)\"", with: "\"\(other)\"")
      .write(to: path, atomically: true, encoding: .utf8)
    try place.build("b.apus", "--lock", "m.lock", "--target", "x86-64-v3")
    let tactic = try place.apus("diff", "a.apus", "b.apus")
    #expect(tactic.status == 1, "\(tactic)")
    for part in ["Tactics\n", "mlp/act + mlp/product\n    - \(chosen)\n    + \(other)\n"] {
      #expect(tactic.output.contains(part), "\(tactic.output)")
    }
    try place.build("c.apus", "--shape", "x=2x64", "--target", "x86-64-v3")
    let shape = try place.apus("diff", "a.apus", "c.apus", "--json")
    #expect(shape.status == 1 && shape.output.contains("\"topic\": \"interface\""), "\(shape)")
    try place.build("d.apus", "--target", "x86-64-v2")
    let target = try place.apus("diff", "a.apus", "d.apus")
    #expect(target.status == 1 && target.output.contains("x86-64-v2"), "\(target)")
  }

  @Test func mistakesAreNamed() throws {
    let place = try Place()
    try place.build("a.apus", "--write-lock", "m.lock")
    let cases: [([String], String)] = [
      (["diff", "a.apus", "m.onnx"], "APUS-E-0002"), (["diff", "a.apus", "none.apus"], "APUS-E-0001"),
      (["diff", "a.apus", "a.apus", "--tolerance", "2000"], "APUS-C-0015"),
      (["build", "m.onnx", "--lock", "m.onnx"], "APUS-B-0061"),
      (["build", "m.onnx", "--lock", "m.lock", "--tune", "quick"], "APUS-C-0026"),
      (["build", "m.onnx", "--lock", "none.lock"], "APUS-B-0013"),
      (["build", "m.onnx", "--lock", "m.lock", "--target", "x86-64-v2"], "APUS-B-0063"),
    ]
    for (arguments, code) in cases {
      let result = try Binary.run(arguments, folder: place.folder)
      #expect(result.status == 2 && result.errors.contains(code), "\(arguments): \(result.errors)")
    }
  }
}
