import Foundation
import TestSupport
import Testing

/// `apus bench --layers`, through the command line.
@Suite struct LayerTests {
  @Test func stepsAreComparedWithTheMachine() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-layers-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try Data(ONNXModel.product.bytes).write(to: folder.appendingPathComponent("m.onnx"))
    let common = ["bench", "m.onnx", "--shape", "x=8x4", "--layers", "--runs", "5", "--warmup-runs", "1"]
    let text = try Binary.run(common, folder: folder)
    #expect(text.status == 0, "\(text.errors)")
    for part in ["roofline", "could save ms", "ceilings of this device: ", "bound by launch: 1 steps"] {
      #expect(text.output.contains(part), "\(text.output)")
    }
    let json = try Binary.run(common + ["--json"], folder: folder)
    let object = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any]
    let layer = try #require((object?["layers"] as? [[String: Any]])?.first)
    #expect(layer["bound"] as? String == "launch" && layer["operations"] as? Int ?? 0 > 0, "\(layer)")
    #expect((layer["roofline_share"] as? Double ?? 0) > 0 && layer["could_save_ms"] != nil)
    let ceilings = try #require(object?["ceilings"] as? [String: Any])
    #expect((ceilings["gb_per_s"] as? Double ?? 0) > 0.1 && ceilings["gflop_measured"] as? Bool == true)
  }
}
