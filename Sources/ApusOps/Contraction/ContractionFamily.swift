import ApusGraph

/// The operations of this folder.
enum ContractionFamily {
  static let operations: [Catalogue.Entry] = [
    (["matmul"], MatMul.self),
    (["conv"], Convolution.self),
    (["conv_transpose"], ConvolutionTranspose.self),
    (Pool.names, Pool.self),
    (["max_pool_indices"], MaxPoolIndices.self),
  ]
}
