import Foundation
import TestSupport
import Testing

/// A folder of its own with a compile cache, removed with the value.
final class Workplace {
  let folder: URL

  init() throws {
    folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-bad-input-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(at: folder) }

  func path(_ name: String) -> String { folder.appendingPathComponent(name).path }
  func write(_ bytes: [UInt8], _ name: String) throws { try Data(bytes).write(to: folder.appendingPathComponent(name)) }
  func read(_ name: String) throws -> [UInt8] { Array(try Data(contentsOf: folder.appendingPathComponent(name))) }

  /// Names of the files there are, the compile cache left out.
  var files: Set<String> {
    Set((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).subtracting(["cache"])
  }

  func apus(
    _ arguments: [String], environment: [String: String] = [:], shell: String? = nil
  ) throws -> Binary.Result {
    try Binary.run(
      arguments, environment: ["APUS_CACHE": path("cache")].merging(environment) { $1 }, folder: folder, shell: shell)
  }

  /// Runs a command that must fail as a user error, say these texts, and leave no new file.
  func refuses(
    _ arguments: String..., environment: [String: String] = [:], shell: String? = nil, saying texts: [String],
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let before = files
    let result = try apus(arguments, environment: environment, shell: shell)
    #expect(result.status == 2, "\(result.errors)", sourceLocation: sourceLocation)
    for text in texts {
      #expect(result.errors.contains(text), "\(text) is missing in \(result.errors)", sourceLocation: sourceLocation)
    }
    #expect(files == before, sourceLocation: sourceLocation)
  }

  /// Builds a model that is right.
  func build(_ model: Proto, _ name: String) throws {
    try write(model.bytes, "\(name).onnx")
    let result = try apus(["build", "\(name).onnx", "-o", "\(name).apus"])
    try #require(result.status == 0, "\(result.errors)")
  }
}
