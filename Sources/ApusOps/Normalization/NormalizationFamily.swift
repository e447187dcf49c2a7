import ApusGraph

/// The operations of this folder.
enum NormalizationFamily {
  static let operations: [Catalogue.Entry] = [
    (["softmax"], Softmax.self),
    (["layer_norm", "rms_norm"], LayerNorm.self),
  ]
}
