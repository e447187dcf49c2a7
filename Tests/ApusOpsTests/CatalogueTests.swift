import ApusGraph
import ApusOps
import Testing

@Suite struct CatalogueTests {
  @Test func unknownNamesAreRefused() {
    #expect(throws: (any Error).self) { try Catalogue.standard.make("no_such_operation", [:]) }
  }
}
