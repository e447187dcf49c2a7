import ApusGraph

/// The operations of this folder.
enum SignalFamily {
  static let operations: [Catalogue.Entry] = []
}
