import Foundation
import TestSupport
import Testing

/// `docs/generated` says what the program says. `make docs` writes the pages anew.
@Suite struct GeneratedDocsTests {
  @Test func pagesAreCurrent() throws {
    let folder = Repository.root.appendingPathComponent("docs/generated")
    for page in GeneratedDocs.pages {
      let file = folder.appendingPathComponent(page.name)
      let text = try page.text()
      if ProcessInfo.processInfo.environment["APUS_WRITE_DOCS"] != nil {
        try Data(text.utf8).write(to: file)
      }
      let found = try? String(contentsOf: file, encoding: .utf8)
      #expect(found == text, "docs/generated/\(page.name) is out of date; run `make docs`")
    }
  }
}
