import ApusGraph

/// The operations of this folder.
enum SequenceFamily {
  static let operations: [Catalogue.Entry] = []
}
