import Foundation
import TestSupport
import Testing

/// A file of `Cases/errors`: `RUN: apus …` lines, the exit code, and what standard error must hold.
private struct ErrorCase: CustomTestStringConvertible {
  let file: URL

  static let folder = Repository.root.appendingPathComponent("Cases/errors")

  static var all: [ErrorCase] {
    let files = FileManager.default.enumerator(at: folder, includingPropertiesForKeys: nil)?.compactMap { $0 as? URL }
    return (files ?? []).filter { $0.pathExtension == "txt" }.sorted { $0.path < $1.path }.map(ErrorCase.init)
  }

  var testDescription: String { file.lastPathComponent }

  func lines(_ prefix: String) throws -> [String] {
    try String(contentsOf: file, encoding: .utf8).split(separator: "\n")
      .filter { $0.hasPrefix(prefix + ": ") }.map { String($0.dropFirst(prefix.count + 2)) }
  }
}

@Suite struct ErrorCaseTests {
  /// Words are separated by blanks; double quotes keep blanks.
  private func words(_ line: String) -> [String] {
    var words: [String] = []
    var word = ""
    var isQuoted = false
    var isOpen = false
    for character in line {
      switch character {
      case "\"":
        isQuoted.toggle()
        isOpen = true
      case " " where !isQuoted:
        if isOpen { words.append(word) }
        word = ""
        isOpen = false
      default:
        word.append(character)
        isOpen = true
      }
    }
    return isOpen ? words + [word] : words
  }

  @Test fileprivate func casesAreThere() { #expect(ErrorCase.all.count >= 10) }

  @Test(arguments: ErrorCase.all) fileprivate func errorCase(_ test: ErrorCase) throws {
    let command = words(try #require(try test.lines("RUN").first))
    #expect(command.first == "apus")
    let status = Int32(try #require(try test.lines("EXIT").first))
    let result = try Binary.run(Array(command.dropFirst()), folder: test.file.deletingLastPathComponent())
    #expect(result.status == status, "\(result.errors)")
    let checks = try test.lines("CHECK")
    #expect(!checks.isEmpty)
    for text in checks { #expect(result.errors.contains(text), "\(result.errors)") }
    for text in try test.lines("CHECK-NOT") { #expect(!result.errors.contains(text)) }
  }

  @Test func versionAndHelpAreNoErrors() throws {
    let version = try Binary.run(["--version"])
    #expect(version.status == 0 && version.output.hasPrefix("apus "))
    for command in [
      "build", "run", "bench", "advise", "inspect", "opt", "ops", "knobs", "doctor", "conformance", "reduce",
    ] {
      let help = try Binary.run([command, "--help"])
      #expect(help.status == 0 && help.errors.isEmpty)
      #expect(help.output.contains("apus \(command)"), "an example is missing in the help of \(command)")
    }
  }

  @Test func listsAreJSON() throws {
    for arguments in [["ops", "--json"], ["knobs", "--json"], ["doctor", "--json"]] {
      let result = try Binary.run(arguments)
      #expect(result.status == 0)
      #expect(throws: Never.self) { try JSONSerialization.jsonObject(with: Data(result.output.utf8)) }
    }
  }
}
