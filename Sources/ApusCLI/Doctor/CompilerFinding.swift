import ApusCPUTarget

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The compiler that turns kernels into images: `CC`, or `clang`.
struct CompilerFinding {
  /// What was asked for, and the file it stands for.
  var command: String
  var path: String?
  var version: String?
  var isChosenByUser: Bool

  static let installHint =
    "Install one with `apt-get install clang`, or set CC to a clang; the Swift toolchain ships one in its usr/bin."

  static func find() -> CompilerFinding {
    let chosen = getenv("CC").map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
    let command = chosen ?? "clang"
    let path = CCompiler.find(command)
    return CompilerFinding(
      command: command, path: path, version: path.flatMap(firstLine), isChosenByUser: chosen != nil)
  }

  private static func firstLine(_ path: String) -> String? {
    let quoted = "'" + path.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
    guard let stream = popen("\(quoted) --version 2>/dev/null", "r") else { return nil }
    defer { pclose(stream) }
    var buffer = [CChar](repeating: 0, count: 512)
    guard fgets(&buffer, Int32(buffer.count), stream) != nil else { return nil }
    return String(decoding: buffer.prefix { $0 != 0 && $0 != 10 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  var text: String {
    guard let path else {
      return "  '\(command)' not found\(isChosenByUser ? " (CC asks for it)" : " in PATH")\n  \(Self.installHint)"
    }
    return "  \(path)\(isChosenByUser ? " (from CC)" : "")\n  \(version ?? "it does not answer --version")"
  }

  var json: JSON {
    .object([
      ("command", .string(command)), ("found", .bool(path != nil)), ("path", path.map { .string($0) } ?? .null),
      ("version", version.map { .string($0) } ?? .null),
      ("hint", path == nil ? .string(Self.installHint) : .null),
    ])
  }
}
