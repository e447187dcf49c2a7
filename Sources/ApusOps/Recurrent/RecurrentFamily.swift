import ApusGraph

/// The operations of this folder.
enum RecurrentFamily {
  static let operations: [Catalogue.Entry] = []
}
