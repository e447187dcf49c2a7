import ApusGraph

/// The operations of this folder.
enum AttentionFamily {
  static let operations: [Catalogue.Entry] = [(["attention"], Attention.self)]
}
