import ApusGraph

/// Transforms of signals.
enum SignalFamily {
  static let operations: [Catalogue.Entry] = [(["dft"], DFT.self), (["stft"], STFT.self)]
}
