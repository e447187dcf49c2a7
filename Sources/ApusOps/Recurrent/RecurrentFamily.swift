import ApusGraph

/// Layers that step through sequences.
enum RecurrentFamily {
  static let operations: [Catalogue.Entry] = [(["lstm", "gru", "rnn"], RecurrentLayer.self)]
}
