import ApusGraph

/// The operations of this folder.
enum ReduceFamily {
  static let operations: [Catalogue.Entry] = []
}
