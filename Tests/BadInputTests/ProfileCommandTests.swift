import Foundation
import TestSupport
import Testing

/// Commands about profiles: adding one to an engine, and writing down shapes.
@Suite struct ProfileCommandTests {
  @Test func anEngineIsExtendedInPlace() throws {
    let place = try Workplace()
    try place.build(ONNXModel.product, "good")
    let before = try place.read("good.apus")
    let added = try place.apus([
      "build", "good.onnx", "--from", "good.apus", "--add-profile", "decode: n=1", "--add-profile", "x=2x4..9x4@4x4",
      "-o", "good.apus",
    ])
    #expect(added.status == 0 && added.output.contains("3 profiles"), "\(added.errors)")
    let run = try place.apus(["run", "good.apus", "--profile", "decode", "--json"])
    #expect(run.status == 0 && run.output.contains("\"profile\": \"decode\""), "\(run.errors)")
    let inspected = try place.apus(["inspect", "good.apus"])
    #expect(inspected.output.contains("profile2: n=2..9@4"), "\(inspected.output)")
    #expect(try place.read("good.apus") != before)
  }

  @Test func elementsThatDecideSizesHaveProfiles() throws {
    let place = try Workplace()
    try place.write(ONNXModel.refold.bytes, "refold.onnx")
    let built = try place.apus([
      "build", "refold.onnx", "--profile", "any: shape=[-1,4], n=6", "--profile",
      "sized: shape=[1,4]..[64,4]@[16,4], n=8",
      "--json",
    ])
    #expect(built.status == 0 && built.output.contains("APUS-B-0017"), "\(built.errors)")
    #expect(built.errors.contains("warning APUS-B-0017: profile 'sized'"), "\(built.errors)")
    let inspected = try place.apus(["inspect", "refold.apus"])
    #expect(inspected.output.contains("sized: n=8, shape=[1..64@16, 4]"), "\(inspected.output)")
    let run = try place.apus(["run", "refold.apus", "--profile", "sized"])
    #expect(run.status == 0 && run.output.contains("y: f32[16, 4]"), "\(run.output) \(run.errors)")
    let added = try place.apus([
      "build", "refold.onnx", "--from", "refold.apus", "--add-profile", "eight: shape=[8,4], n=4", "-o", "more.apus",
    ])
    #expect(added.status == 0 && added.output.contains("3 profiles"), "\(added.errors)")
    try place.refuses(
      "build", "refold.onnx", "--from", "refold.apus", "--add-profile", "eight: n=4", saying: ["APUS-C-0024", "shape"])
    try place.refuses(
      "build", "refold.onnx", "--from", "refold.apus", "--add-profile", "far: shape=[65,4], n=4",
      saying: ["APUS-C-0027", "[-1…64, 4…4]"])
  }

  @Test func whatCannotBeAddedLeavesTheEngine() throws {
    let place = try Workplace()
    try place.build(ONNXModel.product, "good")
    try place.build(ONNXModel.image, "other")
    let before = try place.read("good.apus")
    try place.refuses(
      "build", "good.onnx", "--from", "good.apus", "--add-profile", "default: n=1", "-o", "good.apus",
      saying: ["APUS-C-0013", "'default'"])
    try place.refuses(
      "build", "other.onnx", "--from", "good.apus", "--add-profile", "a: n=1", "-o", "good.apus",
      saying: ["APUS-B-0040", "content"])
    try place.refuses(
      "build", "good.onnx", "--from", "good.apus", "--add-profile", "a: n=1", "--target", "x86-64-v2", "-o",
      "good.apus", saying: ["APUS-B-0041", "x86-64-v2"])
    try place.refuses("build", "good.onnx", "--add-profile", "a: n=1", saying: ["APUS-C-0026", "--from"])
    try place.refuses("build", "good.onnx", "--from", "good.apus", saying: ["APUS-C-0026", "--add-profile"])
    try place.refuses(
      "build", "good.onnx", "--from", "good.apus", "--add-profile", "a: n=1", "--profile", "b: n=2",
      saying: ["APUS-C-0026", "stay as they are"])
    try place.refuses(
      "build", "good.onnx", "--from", "nowhere.apus", "--add-profile", "a: n=1", saying: ["APUS-E-0001"])
    #expect(try place.read("good.apus") == before)
  }

  @Test func shapesAreRecorded() throws {
    let place = try Workplace()
    try place.build(ONNXModel.product, "good")
    for rows in [3, 3, 17] {
      let run = try place.apus(["run", "good.apus", "--shape", "x=\(rows)x4", "--record-shapes", "log.jsonl"])
      #expect(run.status == 0, "\(run.errors)")
    }
    let bench = try place.apus([
      "bench", "good.apus", "--shape", "x=5x4", "--duration", "0.01", "--warmup", "0", "--json", "--record-shapes",
      "log.jsonl",
    ])
    #expect(bench.status == 0, "\(bench.errors)")
    let lines = String(decoding: try place.read("log.jsonl"), as: UTF8.self).split(separator: "\n").map(String.init)
    #expect(Array(lines.prefix(3)) == [3, 3, 17].map { #"{"shapes": {"x": [\#($0), 4]}, "count": 1}"# })
    let report = try JSONSerialization.jsonObject(with: Data(bench.output.utf8)) as? [String: Any]
    let runs = try #require(report?["runs"] as? Int)
    #expect(lines.last ?? "" == #"{"shapes": {"x": [5, 4]}, "count": \#(runs)}"#)
    try place.refuses(
      "run", "good.apus", "--shape", "x=1x4", "--record-shapes", "nowhere/log.jsonl", saying: ["APUS-C-0020"])
    try place.refuses(
      "bench", "good.apus", "--switch", "0,0", "--record-shapes", "log.jsonl", saying: ["APUS-C-0026"])
  }

  /// What is proposed can be typed as it stands.
  @Test(arguments: [["--model", "good.onnx"], ["--model", "good.onnx", "--measure"], ["--engine", "good.apus"], []])
  func adviceCanBeBuilt(arguments: [String]) throws {
    let place = try Workplace()
    try place.build(ONNXModel.product, "good")
    let lines = [(1, 90_000)] + (100...120).map { ($0, 5) }
    let log = lines.map { #"{"shapes": {"x": [\#($0.0), 4]}, "count": \#($0.1)}"# }.joined(separator: "\n")
    try place.write(Array(log.utf8), "log.jsonl")
    let advice = try place.apus(["advise", "log.jsonl", "--max-profiles", "2", "--json"] + arguments)
    #expect(advice.status == 0, "\(advice.errors)")
    let report = try #require(try JSONSerialization.jsonObject(with: Data(advice.output.utf8)) as? [String: Any])
    let proposals = try #require(report["proposals"] as? [[String: Any]])
    #expect(proposals.count == 2 && (proposals[1]["gain"] as? Double ?? 0) >= 1)
    let profiles = try #require(proposals[1]["arguments"] as? [String])
    let built = try place.apus(
      ["build", "good.onnx", "-o", "new.apus"] + profiles.flatMap { ["--profile", $0] })
    #expect(built.status == 0, "\(built.errors)")
    for (rows, profile) in [(1, 0), (107, profiles.count - 1)] {
      let run = try place.apus(["run", "new.apus", "--profile", "auto", "--shape", "x=\(rows)x4", "--json"])
      // Measured times of a model this small tell nothing.
      let name = arguments.contains("--measure") ? "" : "profile\(profile)\""
      #expect(run.output.contains("\"profile\": \"\(name)"), "\(run.errors)")
    }
    let text = try place.apus(["advise", "log.jsonl"] + arguments)
    #expect(text.output.contains("  apus build") && text.output.contains("--profile \"profile0: "), "\(text.output)")
  }

  @Test func logsThatDoNotFitAreRefused() throws {
    let place = try Workplace()
    try place.build(ONNXModel.product, "good")
    try place.write(Array(#"{"shapes": {"x": [3, 5]}}"#.utf8), "other.jsonl")
    try place.refuses("advise", "other.jsonl", "--model", "good.onnx", saying: ["APUS-A-0004", "input 'x', axis 1"])
    try place.refuses("advise", "other.jsonl", "--engine", "good.apus", saying: ["APUS-A-0004", "input 'x', axis 1"])
    try place.refuses("advise", "other.jsonl", "--measure", saying: ["APUS-C-0026", "--model"])
    try place.refuses("advise", "good.onnx", saying: ["APUS-A-0002", "line 1", "is expected to be"])
    try place.write([], "empty.jsonl")
    try place.refuses("advise", "empty.jsonl", saying: ["APUS-A-0001", "--record-shapes"])
  }
}
