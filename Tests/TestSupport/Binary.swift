package import Foundation

/// Runs the built `apus`.
package enum Binary {
  package struct Result {
    package var status: Int32
    package var output: String
    package var errors: String
  }

  /// The executable beside the test bundle.
  package static let path = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    .deletingLastPathComponent().appendingPathComponent("apus")

  /// Runs `apus` with arguments.
  ///
  /// - Parameters:
  ///   - environment: variables added to, or replacing, those of the tests.
  ///   - shell: words of a shell that run before it, such as `ulimit -f 8;`.
  package static func run(
    _ arguments: [String], environment: [String: String] = [:], folder: URL? = nil, shell: String? = nil
  ) throws -> Result {
    let process = Process()
    process.executableURL = shell == nil ? path : URL(fileURLWithPath: "/bin/bash")
    process.arguments = shell.map { ["-c", "\($0) exec \"$0\" \"$@\"", path.path] + arguments } ?? arguments
    process.currentDirectoryURL = folder
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let output = Pipe()
    let errorFile = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString)")
    try Data().write(to: errorFile)
    defer { try? FileManager.default.removeItem(at: errorFile) }
    process.standardOutput = output
    process.standardError = try FileHandle(forWritingTo: errorFile)
    try process.run()
    let data = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    let errors = try Data(contentsOf: errorFile)
    return Result(
      status: process.terminationReason == .uncaughtSignal
        ? 128 + process.terminationStatus : process.terminationStatus,
      output: String(decoding: data, as: UTF8.self), errors: String(decoding: errors, as: UTF8.self))
  }
}
