import ApusGraph

/// The operations of this folder.
enum IndexingFamily {
  static let operations: [Catalogue.Entry] = []
}
