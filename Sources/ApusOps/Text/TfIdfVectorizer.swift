package import ApusCore
package import ApusGraph

/// Counts known n-grams in sequences of tokens.
///
/// - Shapes: x `[C]` → `[size]`, x `[B, C]` → `[B, size]` with size = largest of `indexes` + 1.
/// - Types: x integer, or string when the pool is of strings; result f32.
/// - Numerics: n-grams of `min_length` to `max_length` tokens are counted, whose tokens are 1 to `max_skip` + 1 apart;
///   `weighting` tf gives counts, idf the weight where the count is not 0, tfidf count times weight.
/// - Source: ONNX TfIdfVectorizer-9.
package struct TfIdfVectorizer: TensorOperation {
  package enum Weighting: String, CaseIterable, Sendable {
    case tf, idf, tfidf
  }

  package enum Pool: Hashable, Sendable {
    case integers([Int])
    case strings([String])

    var count: Int {
      switch self {
      case .integers(let values): values.count
      case .strings(let values): values.count
      }
    }
  }

  package var weighting: Weighting
  package var minLength: Int
  package var maxLength: Int
  package var maxSkip: Int
  /// Where the n-grams of each length begin in the pool: 1-grams, 2-grams, …
  package var starts: [Int]
  /// Result column of each n-gram of the pool.
  package var indexes: [Int]
  package var pool: Pool
  /// Weight of each n-gram; empty for 1.
  package var weights: [Double]

  package init(
    weighting: Weighting, minLength: Int, maxLength: Int, maxSkip: Int, starts: [Int], indexes: [Int], pool: Pool,
    weights: [Double] = []
  ) {
    self.weighting = weighting
    self.minLength = minLength
    self.maxLength = maxLength
    self.maxSkip = maxSkip
    self.starts = starts
    self.indexes = indexes
    self.pool = pool
    self.weights = weights
  }

  package init(name: String, attributes a: Attributes) throws(GraphError) {
    weighting = try a.choice("weighting")
    minLength = try a.int("min_length")
    maxLength = try a.int("max_length")
    maxSkip = try a.int("max_skip")
    starts = try a.ints("starts")
    indexes = try a.ints("indexes")
    pool = a["pool_strings"] == nil ? .integers(try a.ints("pool")) : .strings(try a.strings("pool_strings"))
    weights = try a.floats("weights")
  }

  package var name: String { "tfidf_vectorizer" }
  package var attributes: Attributes {
    let entry: (String, Attribute) =
      switch pool {
      case .integers(let values): ("pool", .ints(values))
      case .strings(let values): ("pool_strings", .strings(values))
      }
    return Attributes([
      ("weighting", .string(weighting.rawValue)), ("min_length", .int(minLength)), ("max_length", .int(maxLength)),
      ("max_skip", .int(maxSkip)), ("starts", .ints(starts)), ("indexes", .ints(indexes)), entry,
      ("weights", .floats(weights)),
    ])
  }

  private var size: Int { saturatingAdd(indexes.max() ?? -1, 1) }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    try expectRank(x[0], 1...2, "x")
    let isString = if case .strings = pool { true } else { false }
    guard isString ? x[0].dtype == .string : x[0].dtype.isInteger else {
      throw shapeError("APUS-S-0204", "x is \(x[0]), the pool is of \(isString ? "strings" : "integers")")
    }
    let isOrdered = zip(starts, starts.dropFirst()).allSatisfy { $0 <= $1 } && (starts.first ?? 0) >= 0
    guard minLength >= 1, maxLength >= minLength, maxLength <= 64, (0...4096).contains(maxSkip), isOrdered,
      (starts.last ?? 0) <= pool.count, starts.count >= maxLength,
      indexes.allSatisfy({ $0 >= 0 && $0 < 1 << 28 }), weights.isEmpty || weights.count == indexes.count
    else { throw shapeError("APUS-S-0206", "lengths, starts, indexes or weights do not fit the pool") }
    return [TensorType(.f32, Array(x[0].shape.dropLast()) + [Dim(size)])]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    let length = x[0].shape.last ?? 0
    var counts = [Double](repeating: 0, count: shape.reduce(1, saturatingMultiply))
    switch pool {
    case .integers(let pool): try count(x[0].ints, pool, length, &counts)
    case .strings(let pool): try count(x[0].strings, pool, length, &counts)
    }
    if weighting != .tf {
      var columnWeights = [Double](repeating: 1, count: size)
      for (gram, column) in indexes.enumerated() where gram < weights.count { columnWeights[column] = weights[gram] }
      for index in counts.indices {
        let weight = columnWeights[index % size]
        counts[index] = weighting == .idf ? (counts[index] > 0 ? weight : 0) : counts[index] * weight
      }
    }
    return [HostTensor(dtype, shape, doubles: counts)]
  }

  /// Adds the n-grams of every row to `counts`.
  private func count<Token: Hashable>(
    _ tokens: [Token], _ pool: [Token], _ length: Int, _ counts: inout [Double]
  ) throws(EvaluationError) {
    let columns = try columns(pool)
    for row in 0..<(length == 0 ? 0 : tokens.count / length) {
      let line = Array(tokens[row * length..<(row + 1) * length])
      for gramLength in minLength...maxLength {
        // Single tokens have no distance: they count once.
        for distance in 1...(gramLength == 1 ? 1 : maxSkip + 1) {
          let reach = (gramLength - 1) * distance
          guard reach < length else { break }
          for start in 0..<length - reach {
            let gram = (0..<gramLength).map { line[start + $0 * distance] }
            if let column = columns[gram] { counts[row * size + column] += 1 }
          }
        }
      }
    }
  }

  /// The result column of each n-gram in the pool.
  private func columns<Token: Hashable>(_ pool: [Token]) throws(EvaluationError) -> [[Token]: Int] {
    var columns: [[Token]: Int] = [:]
    var gram = 0
    for (position, start) in starts.enumerated() {
      let length = position + 1
      let end = position + 1 < starts.count ? starts[position + 1] : pool.count
      for first in stride(from: start, through: end - length, by: length) {
        guard gram < indexes.count else {
          throw evaluationError("APUS-V-0202", "the pool has more n-grams than the \(indexes.count) indexes")
        }
        if (minLength...maxLength).contains(length) { columns[Array(pool[first..<first + length])] = indexes[gram] }
        gram += 1
      }
    }
    return columns
  }

  package static var samples: [Sample] {
    [
      Sample(
        TfIdfVectorizer(
          weighting: .tf, minLength: 1, maxLength: 2, maxSkip: 2, starts: [0, 4], indexes: [0, 1, 2, 3, 4, 5, 6],
          pool: .integers([2, 3, 5, 4, 5, 6, 7, 8, 6, 7])), "i64[2, 6]", values: [0: 2...8])
    ]
  }
}
