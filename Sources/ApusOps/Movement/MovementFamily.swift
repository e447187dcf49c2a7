import ApusGraph

/// The operations of this folder.
enum MovementFamily {
  static let operations: [Catalogue.Entry] = []
}
