import ApusCore
import Foundation
import TestSupport
import Testing

@testable import ApusCLI

/// `apus trtexec`: its flags, and what scripts read of its output.
@Suite struct TrtexecTests {
  private static func codes(_ words: String...) -> [String] {
    do throws(UsageError) {
      _ = try TrtexecRequest(words)
      return []
    } catch { return error.problems.map(\.code) }
  }

  @Test func flagsOfBothVersionsAreTaken() throws {
    let request = try TrtexecRequest([
      "--onnx=m.onnx", "--fp16", "--useCudaGraph", "--workspace=4096", "--memPoolSize=workspace:64", "--streams=2",
      "--minShapes=x:1x4", "--optShapes=x:2x4", "--maxShapes=x:8x4", "--percentile=50,99.9", "--iterations=3",
      "--warmUp=0", "--duration=0", "--avgRuns=5", "--useProfile=0", "--buildOnly",
    ])
    #expect(request.notes.count == 5 && request.notes[0].contains("--fp16") && request.skipsInference)
    #expect(request.profileWords == ["--minShapes=x:1x4", "--optShapes=x:2x4", "--maxShapes=x:8x4"])
    #expect(request.percentiles == [50, 99.9] && request.iterations == 3 && request.duration == 0)
  }

  @Test func runsCanGoOnForEver() throws {
    #expect(try TrtexecRequest(["--onnx=m.onnx", "--duration=-1"]).duration == .infinity)
    #expect(Self.codes("--onnx=m.onnx", "--duration=-2") == ["APUS-C-0037"])
  }

  @Test func allMistakesAreNamedAtOnce() {
    #expect(
      Self.codes("--onnx=m.onnx", "--itertions=3", "--duration=long", "--useDLACore=0", "--percentile=a", "--onnx")
        == ["APUS-C-0036", "APUS-C-0036", "APUS-C-0037", "APUS-C-0037", "APUS-C-0037"])
    #expect(Self.codes("--duration=1") == ["APUS-C-0026"])
    #expect(Self.codes("--onnx=a", "--loadEngine=b") == ["APUS-C-0026"])
    #expect(Self.codes("--onnx=a", "--device=1", "m.onnx") == ["APUS-C-0036", "APUS-C-0037"])
  }

  /// Every flag has one meaning.
  @Test func flagsAreListedOnce() {
    #expect(TrtexecFlags.names.count >= 140 && TrtexecFlags.meanings.count == TrtexecFlags.names.count)
    #expect(!TrtexecFlags.meanings.keys.contains { $0.hasPrefix("-") })
  }

  @Test func buildsMeasuresAndExports() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-trtexec-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try Data(ONNXModel.product.bytes).write(to: folder.appendingPathComponent("m.onnx"))
    func apus(_ words: String...) throws -> Binary.Result {
      try Binary.run(
        ["trtexec"] + words, environment: ["APUS_CACHE": folder.appendingPathComponent("cache").path], folder: folder)
    }
    let built = try apus(
      "--onnx=m.onnx", "--saveEngine=m.apus", "--minShapes=x:1x4", "--optShapes=x:2x4", "--maxShapes=x:8x4",
      "--cpuOnly",
      "--builderOptimizationLevel=0", "--skipInference", "--best")
    #expect(built.status == 0 && built.output.contains("&&&& PASSED TensorRT.trtexec [Apus v"), "\(built)")
    #expect(built.output.contains("[W] --best changes nothing: "))
    var values: [Float] = (0..<12).map(Float.init)
    try Data(bytes: &values, count: 48).write(to: folder.appendingPathComponent("x.bin"))
    let run = try apus(
      "--loadEngine=m.apus", "--shapes=x:3x4", "--loadInputs=x:x.bin", "--warmUp=0", "--duration=0", "--iterations=20",
      "--verbose", "--dumpProfile", "--exportTimes=t.json", "--exportOutput=o.json", "--exportProfile=p.json",
      "--exportLayerInfo=l.json")
    #expect(run.status == 0, "\(run)")
    let summary = [
      #/\[I\] Average on 10 runs - GPU latency: [\d.]+ ms - Host latency: [\d.]+ ms \(enqueue [\d.]+ ms\)/#,
      #/\[I\] === Performance summary ===/#, #/\[I\] Throughput: [\d.]+ qps/#,
      #/\[I\] GPU Compute Time: min = [\d.]+ ms, max = [\d.]+ ms, mean = [\d.]+ ms, median = [\d.]+ ms, percentile\(90%\) = [\d.]+ ms/#,
      #/\[I\] Total Host Walltime: [\d.]+ s/#,
    ]
    for line in summary { #expect(run.output.contains(line), "\(run.output)") }
    func json(_ name: String) throws -> Any {
      try JSONSerialization.jsonObject(with: Data(contentsOf: folder.appendingPathComponent(name)))
    }
    let times = try #require(try json("t.json") as? [[String: Double]])
    #expect(times.count >= 20 && times.allSatisfy { $0.count == 12 && $0["computeMs"] == $0["latencyMs"] })
    let output = try #require((try json("o.json") as? [[String: Any]])?.first)
    #expect(
      (output["dimensions"] as? String)?.hasPrefix("3x") == true && (output["values"] as? [Double])?.isEmpty == false)
    let profile = try #require(try json("p.json") as? [[String: Any]])
    #expect(profile.count >= 2 && profile[0]["count"] != nil && profile[1]["averageMs"] != nil)
    let layers = try #require((try json("l.json") as? [String: Any])?["Layers"] as? [[String: Any]])
    #expect(layers.first?["TacticName"] != nil)
    let inputs = layers.flatMap { $0["Inputs"] as? [[String: Any]] ?? [] }
    #expect(inputs.contains { $0["Name"] as? String == "x" && $0["Dimensions"] as? [Int] == [-1, 4] }, "\(layers)")
    let outputs = layers.flatMap { $0["Outputs"] as? [[String: Any]] ?? [] }
    #expect(outputs.contains { $0["Name"] as? String == "y" && $0["Format/Datatype"] as? String == "f32" }, "\(layers)")
    let bad = try apus("--loadEngine=m.apus", "--shapes=x:3x4", "--loadInputs=x:m.onnx")
    #expect(bad.status == 2 && bad.output.contains("&&&& FAILED") && bad.errors.contains("APUS-C-0037"), "\(bad)")
  }
}
