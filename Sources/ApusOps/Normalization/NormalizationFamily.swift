import ApusGraph

/// The operations of this folder.
enum NormalizationFamily {
  static let operations: [Catalogue.Entry] = []
}
