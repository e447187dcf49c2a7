import ApusGraph

/// The operations of this folder.
enum ImageFamily {
  static let operations: [Catalogue.Entry] = []
}
