import Foundation
import TestSupport
import Testing

/// The documents are true: the files they name are there, and the code they show compiles.
@Suite struct DocumentTests {
  private static func documents() throws -> [String] {
    try Repository.files().filter { $0.hasSuffix(".md") && $0 != "CHANGELOG.md" }
  }

  @Test func documentsAreThere() throws {
    let files = Set(try Repository.files())
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "Makefile", ".ci/run"] {
      #expect(files.contains(name), "\(name) is missing")
    }
  }

  /// Text in backquotes that starts with a folder of the checkout is a path of the checkout.
  @Test func filesThatAreNamedExist() throws {
    let files = try Repository.files()
    let folders = Set(files.compactMap { $0.contains("/") ? String($0.prefix { $0 != "/" }) : nil })
    for document in try Self.documents() {
      for match in try Repository.text(document).matches(of: /`(?<path>[A-Za-z.][\w.+\/-]*\/[\w.+\/-]*)`/) {
        let path = String(match.output.path)
        guard folders.contains(String(path.prefix { $0 != "/" })) else { continue }
        let isThere = files.contains(path) || files.contains { $0.hasPrefix(path.hasSuffix("/") ? path : path + "/") }
        #expect(isThere, "\(document) names `\(path)`, which is not there")
      }
    }
  }

  @Test func linksLeadSomewhere() throws {
    for document in try Self.documents() {
      let folder = Repository.root.appendingPathComponent(document).deletingLastPathComponent()
      for match in try Repository.text(document).matches(of: /\]\((?<link>[^)#:]+)(?:#[^)]*)?\)/) {
        let target = folder.appendingPathComponent(String(match.output.link)).path
        #expect(FileManager.default.fileExists(atPath: target), "\(document) links to \(match.output.link)")
      }
    }
  }

  @Test func theSnippetOfTheReadmeIsTheOneThatCompiles() throws {
    let snippet = try Repository.text("Snippets/RunModel.swift")
    let shown = snippet.split(separator: "// snippet.show\n").last.map(String.init) ?? ""
    #expect(!shown.isEmpty)
    #expect(try Repository.text("README.md").contains("```swift\n" + shown + "```"))
  }
}
