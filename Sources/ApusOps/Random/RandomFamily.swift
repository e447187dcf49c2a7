import ApusGraph

/// The operations of this folder.
enum RandomFamily {
  static let operations: [Catalogue.Entry] = []
}
