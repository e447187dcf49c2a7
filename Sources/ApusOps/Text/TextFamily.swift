import ApusGraph

/// The operations of this folder.
enum TextFamily {
  static let operations: [Catalogue.Entry] = []
}
