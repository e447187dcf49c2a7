import Foundation
import TestSupport
import Testing

/// `--target` with several targets, through the command line.
@Suite struct TargetTests {
  private func apus(_ folder: URL, _ arguments: String...) throws -> Binary.Result {
    try Binary.run(arguments, environment: ["APUS_CACHE": folder.appendingPathComponent("cache").path], folder: folder)
  }

  @Test func severalTargetsBuildInspectAndRun() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-targets-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try Data(ONNXModel.product.bytes).write(to: folder.appendingPathComponent("m.onnx"))
    let built = try apus(folder, "build", "m.onnx", "--target", "x86-64-v2,x86-64-v3", "--target", "native")
    #expect(built.status == 0 && built.output.contains("for cpu x86-64-v2, x86-64-v3"), "\(built.errors)")
    let first = try apus(folder, "inspect", "m.apus")
    #expect(first.output.contains("target: cpu x86-64-v2, with sse4.2, popcnt (shown below)\n  target: cpu x86-64-v3"))
    let second = try apus(folder, "inspect", "m.apus", "--target", "x86-64-v3", "--json")
    #expect(second.output.contains("\"target\": \"x86-64-v3\"") || second.output.contains("\"target\":\"x86-64-v3\""))
    let wrong = try apus(folder, "inspect", "m.apus", "--target", "x86-64-v9")
    #expect(wrong.status == 2 && wrong.errors.contains("APUS-C-0016") && wrong.errors.contains("x86-64-v2"))
    #expect(try apus(folder, "run", "m.apus", "--shape", "x=2x4").status == 0)
    // The targets of an engine are those of profiles that are added to it.
    let added = try apus(folder, "build", "m.onnx", "--from", "m.apus", "--add-profile", "p: n=2", "-o", "m.apus")
    #expect(added.status == 0 && added.output.contains("2 profiles"), "\(added.errors)")
  }
}
