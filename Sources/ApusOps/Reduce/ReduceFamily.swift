import ApusGraph

/// The operations of this folder.
enum ReduceFamily {
  static let operations: [Catalogue.Entry] = [
    (Reduce.names, Reduce.self),
    (["argmin", "argmax"], ArgReduce.self),
    (["cumsum", "cumprod"], Cumulative.self),
  ]
}
