package import ApusGraph

extension Catalogue {
  /// Every built-in operation.
  package static let standard = Catalogue([
    ElementwiseFamily.operations, ReduceFamily.operations, MovementFamily.operations, ContractionFamily.operations,
    NormalizationFamily.operations, AttentionFamily.operations, IndexingFamily.operations, ImageFamily.operations,
    RecurrentFamily.operations, SignalFamily.operations, TextFamily.operations, RandomFamily.operations,
    SequenceFamily.operations, ControlFamily.operations,
  ])
}
