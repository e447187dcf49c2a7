import ApusCore
import ApusGraph

/// Operators on strings, and those of classical machine learning.
enum TextOperators {
  static let table: [String: Lowering] = [
    "StringConcat": { n throws(ImportError) in [try n("string_concat", n.input(0), n.input(1))] },
    "StringSplit": stringSplit, "StringNormalizer": stringNormalizer, "RegexFullMatch": regexFullMatch,
    "TfIdfVectorizer": tfIdfVectorizer, "ai.onnx.ml::LabelEncoder": labelEncoder,
    "ai.onnx.ml::Binarizer": binarizer, "ai.onnx.ml::TreeEnsemble": treeEnsemble,
  ]

  private static func count(_ n: NodeContext) -> Attribute {
    .dim(Dim(n.freshSymbol("\(n.node.output.first { !$0.isEmpty } ?? n.node.opType)_count")))
  }

  private static func stringSplit(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    try n.emitAll(
      "string_split",
      [
        "delimiter": .string(n.string("delimiter", "")), "max_splits": .int(n.int("maxsplit", -1)), "width": count(n),
      ], [n.input(0)])
  }

  private static func stringNormalizer(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let change = try n.string("case_change_action", "NONE").lowercased()
    let attributes: Attributes = [
      "case_change": .string(change), "case_sensitive": .bool(try n.flag("is_case_sensitive")),
      "stop_words": .strings(try n.optionalStrings("stopwords") ?? []), "count": count(n),
    ]
    return [try n.emit("string_normalizer", attributes, n.input(0))]
  }

  private static func regexFullMatch(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    [try n.emit("regex_full_match", ["pattern": .string(n.string("pattern"))], n.input(0))]
  }

  private static func tfIdfVectorizer(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    var entries: [(String, Attribute)] = [
      ("weighting", .string(try n.string("mode").lowercased())), ("min_length", .int(try n.int("min_gram_length"))),
      ("max_length", .int(try n.int("max_gram_length"))), ("max_skip", .int(try n.int("max_skip_count"))),
      ("starts", .ints(try n.ints("ngram_counts"))), ("indexes", .ints(try n.ints("ngram_indexes"))),
    ]
    if let words = try n.optionalStrings("pool_strings") {
      entries.append(("pool_strings", .strings(words)))
    } else {
      entries.append(("pool", .ints(try n.ints("pool_int64s"))))
    }
    entries.append(("weights", .floats(try n.optionalFloats("weights") ?? [])))
    return [try n.emit("tfidf_vectorizer", Attributes(entries), n.input(0))]
  }

  // MARK: Machine learning

  /// Keys or values of a label encoder, and the element type that they have.
  private static func labels(
    _ n: NodeContext, _ prefix: String
  ) throws(ImportError) -> (attribute: Attribute, dtype: DType)? {
    if let values = try n.optionalStrings("\(prefix)_strings") { return (.strings(values), .string) }
    if let values = try n.optionalInts("\(prefix)_int64s") { return (.ints(values), .i64) }
    if let values = try n.optionalFloats("\(prefix)_floats") { return (.floats(values), .f32) }
    guard let tensor = try n.optionalTensor("\(prefix)_tensor") else { return nil }
    if tensor.dtype == .string { return (.strings(tensor.strings), .string) }
    return (tensor.dtype.isFloat ? .floats(tensor.doubles) : .ints(tensor.ints), tensor.dtype)
  }

  private static func labelEncoder(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    guard let keys = try labels(n, "keys"), let values = try labels(n, "values") else {
      throw ImportError("APUS-I-0012", "keys or values are missing")
    }
    let standard = try n.optionalTensor("default_tensor")
    let all: Attribute
    switch values.attribute {
    case .strings(let list):
      let fallback = try n.string("default_string", "_Unused")
      all = .strings(list + [standard?.strings.first ?? fallback])
    case .floats(let list):
      let fallback = try n.float("default_float", -0.0)
      all = .floats(list + [standard?.doubles.first ?? fallback])
    case .ints(let list):
      let fallback = try n.int("default_int64", -1)
      all = .ints(list + [standard?.ints.first ?? fallback])
    default: throw .unsupported()
    }
    return [
      try n.emit("label_encoder", ["keys": keys.attribute, "values": all, "to": .dtype(values.dtype)], n.input(0))
    ]
  }

  private static func binarizer(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    return [try n.cast(n("greater", x, n.scalar(n.float("threshold", 0), like: x)), n.dtype(x))]
  }

  private static func treeEnsemble(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let modes = try n.optionalTensor("nodes_modes")?.ints ?? []
    let members = try n.optionalTensor("membership_values")?.doubles ?? []
    let aggregates = ["average", "sum", "min", "max"]
    let aggregate = try n.int("aggregate_function", 1)
    guard aggregates.indices.contains(aggregate) else {
      throw ImportError("APUS-I-0012", "aggregate_function is \(aggregate)")
    }
    let attributes: Attributes = [
      "aggregate": .string(aggregates[aggregate]), "targets": .int(try n.int("n_targets")),
      "roots": .ints(try n.ints("tree_roots")), "features": .ints(try n.ints("nodes_featureids")),
      "modes": .ints(modes), "splits": .floats(try n.optionalTensor("nodes_splits")?.doubles ?? []),
      "true_nodes": .ints(try n.ints("nodes_truenodeids")), "false_nodes": .ints(try n.ints("nodes_falsenodeids")),
      "true_leaves": .ints(try n.ints("nodes_trueleafs")), "false_leaves": .ints(try n.ints("nodes_falseleafs")),
      "missing_true": .ints(try n.optionalInts("nodes_missing_value_tracks_true") ?? []),
      "members": .floats(members.filter { !$0.isNaN }), "member_counts": .ints(memberCounts(members)),
      "leaf_targets": .ints(try n.ints("leaf_targetids")),
      "leaf_weights": .floats(try n.optionalTensor("leaf_weights")?.doubles ?? []),
    ]
    let scores = try n.emit("tree_ensemble", attributes, x)
    switch try n.int("post_transform", 0) {
    case 0: return [scores]
    case 1: return [try n.emit("softmax", ["axis": .int(1)], scores)]
    case 2: return [try n("sigmoid", scores)]
    case let transform: throw .unsupported("with post_transform \(transform)")
    }
  }

  /// How many members each member node has: the lists end with NaN.
  private static func memberCounts(_ members: [Double]) -> [Int] {
    var counts: [Int] = []
    var current = 0
    for member in members {
      if member.isNaN {
        counts.append(current)
        current = 0
      } else {
        current += 1
      }
    }
    return counts
  }
}
