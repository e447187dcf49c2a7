import ApusGraph

/// Operations on strings and labels, computed on the host.
enum TextFamily {
  static let operations: [Catalogue.Entry] = [
    (["string_concat"], StringConcat.self), (["string_split"], StringSplit.self),
    (["string_normalizer"], StringNormalizer.self), (["regex_full_match"], RegexFullMatch.self),
    (["tfidf_vectorizer"], TfIdfVectorizer.self), (["label_encoder"], LabelEncoder.self),
    (["tree_ensemble"], TreeEnsemble.self),
  ]
}
