import ApusGraph

/// The operations of this folder.
enum ControlFamily {
  static let operations: [Catalogue.Entry] = []
}
