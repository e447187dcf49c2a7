import Foundation
import TestSupport
import Testing

/// Rules of the sources that no compiler checks.
@Suite struct SourceTests {
  @Test func filesAreShort() throws {
    let files = try Repository.sources(under: "Sources") + Repository.sources(under: "Tests")
    #expect(files.count > 100)
    for file in files {
      let lines = try Repository.text(file).split(separator: "\n", omittingEmptySubsequences: false).count - 1
      #expect(lines <= 700, "\(file) has \(lines) lines: split it by what it is about")
    }
  }

  @Test func typesAreDocumented() throws {
    let declaration = /^(?:@\w+ )?(?:public|package) (?:final |indirect )?(?:struct|enum|class|protocol|actor) (\w+)/
    for file in try Repository.sources(under: "Sources") {
      let lines = try Repository.text(file).split(separator: "\n", omittingEmptySubsequences: false)
      for (index, line) in lines.enumerated() where index > 0 && line.firstMatch(of: declaration) != nil {
        let before = lines[..<index].last { !$0.drop { $0 == " " }.hasPrefix("@") } ?? ""
        #expect(before.drop { $0 == " " }.hasPrefix("///"), "\(file):\(index + 1) has no doc comment: \(line)")
      }
    }
  }

  @Test func nothingTrapsOnPurpose() throws {
    for file in try Repository.sources(under: "Sources") where !file.hasPrefix("Sources/ApusCLI/") {
      for (index, line) in try Repository.text(file).split(separator: "\n", omittingEmptySubsequences: false)
        .enumerated()
      {
        #expect(!line.contains(/\b(try!|fatalError\()/), "\(file):\(index + 1): \(line)")
      }
    }
  }

  /// All of Foundation takes six megabytes of a process's memory, with tables of languages, and is in the binary to ship.
  @Test func onlyTheEssentialsOfFoundationAreLinked() throws {
    for file in try Repository.sources(under: "Sources") {
      let lines = try Repository.text(file).split(separator: "\n", omittingEmptySubsequences: false)
      for (index, line) in lines.enumerated() where line.contains(/import Foundation$/) {
        #expect(
          index > 0 && lines[index - 1] == "#else",
          "\(file):\(index + 1): import FoundationEssentials where it is there")
      }
    }
  }

  /// Paths of one machine have no place in the project. The words are put together here so as not to be found here.
  @Test func noFileNamesAMachine() throws {
    let words = [["/wor", "k/"], ["/op", "t/swift"], ["/far", "m/"], ["sub", "agent"]].map { $0.joined() }
    for file in try Repository.files() {
      guard let text = try? Repository.text(file) else { continue }
      for word in words { #expect(!text.contains(word), "\(file) has '\(word)'") }
    }
  }
}
