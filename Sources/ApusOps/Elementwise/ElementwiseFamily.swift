import ApusGraph
import ApusKernel

/// The operations of this folder.
enum ElementwiseFamily {
  static let operations: [Catalogue.Entry] = [
    (ScalarFunction.allCases.map(\.rawValue), Elementwise.self),
    (["where"], Where.self),
    (["cast"], Cast.self),
    (["bit_cast"], BitCast.self),
  ]
}
