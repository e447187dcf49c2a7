import ApusGraph

/// The operations of this folder.
enum ElementwiseFamily {
  static let operations: [Catalogue.Entry] = []
}
