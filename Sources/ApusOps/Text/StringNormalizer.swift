package import ApusCore
package import ApusGraph

/// Changes the case of strings and removes stop words.
///
/// - Shapes: x `[C]` or `[1, C]` → `[count]` or `[1, count]`: elements that are empty afterwards are dropped, but one empty
///   string stays when all are; `count` is a symbol that the operation sets.
/// - Types: string.
/// - Source: ONNX StringNormalizer-10.
package struct StringNormalizer: TensorOperation {
  package enum CaseChange: String, CaseIterable, Sendable {
    case none, lower, upper

    func apply(_ text: String) -> String {
      switch self {
      case .none: text
      case .lower: text.lowercased()
      case .upper: text.uppercased()
      }
    }
  }

  package let caseChange: CaseChange
  /// Stop words are compared before the case changes.
  package let caseSensitive: Bool
  package let stopWords: [String]
  package let count: Dim

  package init(caseChange: CaseChange, caseSensitive: Bool, stopWords: [String], count: Dim) {
    self.caseChange = caseChange
    self.caseSensitive = caseSensitive
    self.stopWords = stopWords
    self.count = count
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    caseChange = try attributes.choice("case_change")
    caseSensitive = try attributes.bool("case_sensitive")
    stopWords = try attributes.strings("stop_words")
    count = try attributes.dim("count")
  }

  package var name: String { "string_normalizer" }
  package var attributes: Attributes {
    [
      "case_change": .string(caseChange.rawValue), "case_sensitive": .bool(caseSensitive),
      "stop_words": .strings(stopWords), "count": .dim(count),
    ]
  }
  package var boundSymbols: [Symbol] { Self.symbols([count]) }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    try expectString(x[0], "x")
    try expectRank(x[0], 1...2, "x")
    if x[0].rank == 2 { try expectEqual(x[0].shape[0], 1, "rows of x") }
    return [x[0].with(shape: x[0].rank == 2 ? [1, count] : [count])]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    // Without case, words are compared after both sides changed the same way.
    let compared: CaseChange = caseSensitive ? .none : (caseChange == .none ? .lower : caseChange)
    let stops = Set(stopWords.map(compared.apply))
    var kept = x[0].strings.filter { !stops.contains(compared.apply($0)) }.map(caseChange.apply).filter { !$0.isEmpty }
    if kept.isEmpty { kept = [""] }
    return [HostTensor(strings: kept, shape: x[0].rank == 2 ? [1, kept.count] : [kept.count])]
  }

  package static var samples: [Sample] {
    [
      Sample(
        StringNormalizer(caseChange: .upper, caseSensitive: false, stopWords: ["Monday"], count: Dim(Symbol("count"))),
        "string[3]", constants: [0: HostTensor(strings: ["monday", "Tuesday", ""], shape: [3])])
    ]
  }
}
