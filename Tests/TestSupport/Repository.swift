package import Foundation

/// The checkout that the tests were built from.
package enum Repository {
  package static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  package static func text(_ path: String) throws -> String {
    try String(contentsOf: root.appendingPathComponent(path), encoding: .utf8)
  }

  /// Paths of the Swift files below a folder, generated ones left out.
  package static func sources(under folder: String) throws -> [String] {
    try files().filter {
      $0.hasPrefix(folder + "/") && $0.hasSuffix(".swift") && !$0.contains("/Generated/")
    }
  }

  /// Paths of all files that git tracks.
  package static func files() throws -> [String] {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["git", "-C", root.path, "-c", "safe.directory=*", "ls-files", "-z"]
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let data = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return data.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }.sorted()
  }
}
