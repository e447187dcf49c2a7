import ApusGraph

/// The operations of this folder.
enum ContractionFamily {
  static let operations: [Catalogue.Entry] = []
}
