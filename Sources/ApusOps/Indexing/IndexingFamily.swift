import ApusGraph

/// Operations that select or place elements by computed indices.
enum IndexingFamily {
  static let operations: [Catalogue.Entry] = [
    (["gather"], Gather.self), (["gather_elements"], GatherElements.self), (["gather_nd"], GatherND.self),
    (["scatter_elements"], ScatterElements.self), (["scatter_nd"], ScatterND.self),
    (["tensor_scatter"], TensorScatter.self), (["top_k"], TopK.self), (["nonzero"], NonZero.self),
    (["compress"], Compress.self), (["bind_dims"], BindDims.self), (["reverse_sequence"], ReverseSequence.self),
    (["unique"], Unique.self), (["non_max_suppression"], NonMaxSuppression.self),
  ]
}
