import Foundation
import TestSupport
import Testing

/// `apus tune` and `apus timing-cache`, through the command line.
@Suite struct TuneTests {
  private final class Place {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-tune-\(UUID().uuidString)")

    /// A product that can be computed in several ways.
    private static let model = ONNXModel.model(
      [ONNXModel.node("MatMul", ["x", "w"], ["y"], name: "product")],
      inputs: [ONNXModel.value("x", ONNXModel.float, ["n", 4])],
      outputs: [ONNXModel.value("y", ONNXModel.float, ["n", 48])],
      constants: [ONNXModel.constant("w", [4, 48], floats: (0..<192).map { Float($0 % 11) - 5.5 })])

    init() throws {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      try Data(Self.model.bytes).write(to: folder.appendingPathComponent("m.onnx"))
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    func apus(_ arguments: String...) throws -> Binary.Result {
      try Binary.run(
        arguments, environment: ["APUS_CACHE": folder.appendingPathComponent("cache").path], folder: folder)
    }
  }

  @Test func locksNeedNoCache() throws {
    let place = try Place()
    #expect(try place.apus("build", "m.onnx", "--write-lock", "m.lock").status == 0)
    let engine = try Data(contentsOf: place.folder.appendingPathComponent("m.apus"))
    try FileManager.default.removeItem(at: place.folder.appendingPathComponent("cache"))
    let built = try place.apus("build", "m.onnx", "--lock", "m.lock", "-o", "again.apus")
    #expect(built.status == 0, "\(built.errors)")
    #expect(try Data(contentsOf: place.folder.appendingPathComponent("again.apus")) == engine)
  }

  @Test func enginesAreTunedInPlace() throws {
    let place = try Place()
    #expect(try place.apus("build", "m.onnx").status == 0)
    let tuned = try place.apus("tune", "m.apus", "--budget", "60s", "--timing-cache", "a.timings")
    #expect(tuned.status == 0 && tuned.output.contains("1 of 1 regions judged"), "\(tuned.output)\(tuned.errors)")
    let again = try place.apus("tune", "m.apus", "--budget", "60s", "--timing-cache", "a.timings", "--json")
    #expect(again.output.contains("\"tactics_measured\": 0"), "\(again.output)")
    #expect(try place.apus("run", "m.apus", "--shape", "x=2x4").status == 0)
    let built = try place.apus("build", "m.onnx", "--timing-cache", "a.timings", "-o", "b.apus")
    #expect(built.status == 0, "\(built.errors)")
    #expect(try place.apus("build", "m.onnx", "--tune", "100ms", "-o", "c.apus").status == 0)
    let merged = try place.apus("timing-cache", "merge", "a.timings", "a.timings", "-o", "all.timings")
    #expect(merged.status == 0 && merged.output.contains("all.timings: "), "\(merged.errors)")
    let shown = try place.apus("timing-cache", "show", "all.timings")
    #expect(shown.output.contains("threads") && shown.output.contains("gemm"), "\(shown.output)")
  }

  @Test func mistakesAreNamed() throws {
    let place = try Place()
    #expect(try place.apus("build", "m.onnx").status == 0)
    let cases: [([String], String)] = [
      (["tune", "m.apus", "--budget", "soon"], "APUS-C-0034"), (["tune", "m.onnx"], "APUS-E-0002"),
      (["tune", "m.apus", "--timing-cache", "m.onnx"], "APUS-B-0056"),
      (["build", "m.onnx", "--tune", "3x"], "APUS-C-0034"),
      (["timing-cache", "show", "none.timings"], "APUS-C-0022"),
      (["timing-cache", "merge", "m.apus", "-o", "x"], "APUS-B-0056"),
    ]
    for (arguments, code) in cases {
      let result = try Binary.run(arguments, folder: place.folder)
      #expect(result.status == 2 && result.errors.contains(code), "\(arguments): \(result.errors)")
    }
  }
}
