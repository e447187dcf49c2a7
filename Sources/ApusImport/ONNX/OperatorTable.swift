/// The ONNX operators that are understood, by qualified name. Each family is one table in `Operators/`.
package enum OperatorTable {
  private static let families: [[String: Lowering]] = [
    ElementwiseOperators.table, ActivationOperators.table, ReduceOperators.table, MovementOperators.table,
    MovementOperators.sliceTable, ContractionOperators.table, ConvolutionOperators.table,
    IndexingOperators.table, ImageOperators.table, NormalizationOperators.table, QuantizationOperators.table,
    AttentionOperators.table, LossOperators.table, RecurrentOperators.table, SignalOperators.table,
    EinsumOperator.table,
    LinearAttentionOperators.table, ControlOperators.table, SequenceOperators.table, TextOperators.table,
    AttentionOperators.microsoftTable, MicrosoftOperators.table,
  ]

  private static let all: [String: Lowering] = families.reduce(into: [:]) { all, family in
    all.merge(family) { _, _ in preconditionFailure("an operator is listed in two families") }
  }

  static func lowering(_ name: String) -> Lowering? { all[name] }

  /// Names of all operators that are understood, sorted; those of other domains as `domain::Name`.
  package static var names: [String] { all.keys.sorted() }
}
