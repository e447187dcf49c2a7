import ApusGraph

/// The operations of this folder.
enum MovementFamily {
  static let operations: [Catalogue.Entry] = [
    (["reshape"], Reshape.self),
    (["transpose"], Transpose.self),
    (["broadcast_to"], BroadcastTo.self),
    (["slice"], Slice.self),
    (["pad"], Pad.self),
    (["concat"], Concat.self),
    (["tile"], Tile.self),
    (["iota"], Iota.self),
    (["sizes"], Sizes.self),
  ]
}
