package import ApusCore
package import ApusGraph

/// Joins strings element by element.
///
/// - Shapes: x and y broadcast together.
/// - Types: string.
/// - Source: ONNX StringConcat-20.
package struct StringConcat: TensorOperation {
  package init() {}
  package init(name: String, attributes: Attributes) throws(GraphError) {}

  package var name: String { "string_concat" }
  package var attributes: Attributes { [:] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 2...2)
    for operand in x { try expectString(operand, "an operand") }
    return [x[0].with(shape: try broadcastShape(x))]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (_, shape) = try resultType(for: x)
    let (left, right) = (try broadcast(x[0], to: shape), try broadcast(x[1], to: shape))
    return [HostTensor(strings: zip(left.strings, right.strings).map { $0 + $1 }, shape: shape)]
  }

  package static var samples: [Sample] {
    [
      Sample(
        StringConcat(), "string[2]", "string[2]",
        constants: [
          0: HostTensor(strings: ["a", "β"], shape: [2]), 1: HostTensor(strings: ["", "x y"], shape: [2]),
        ])
    ]
  }
}

/// Splits strings at a delimiter, or at white space where it is empty.
///
/// - Shapes: x any → parts `[x…, width]`, filled up with empty strings, and counts of x's shape; `width` is a symbol that
///   the operation sets.
/// - Types: parts string, counts i64.
/// - Numerics: at most `max_splits` cuts are made, the rest stays whole; −1 for no bound. At white space, runs of it count
///   once and leading runs not at all.
/// - Source: ONNX StringSplit-20.
package struct StringSplit: TensorOperation {
  package let delimiter: String
  package let maxSplits: Int
  package let width: Dim

  package init(delimiter: String, maxSplits: Int = -1, width: Dim) {
    self.delimiter = delimiter
    self.maxSplits = maxSplits
    self.width = width
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    delimiter = try attributes.string("delimiter")
    maxSplits = try attributes.int("max_splits")
    width = try attributes.dim("width")
  }

  package var name: String { "string_split" }
  package var attributes: Attributes {
    ["delimiter": .string(delimiter), "max_splits": .int(maxSplits), "width": .dim(width)]
  }
  package var boundSymbols: [Symbol] { Self.symbols([width]) }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    try expectString(x[0], "x")
    return [x[0].with(shape: x[0].shape + [width]), x[0].with(dtype: .i64)]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    let parts = x[0].strings.map(split)
    let width = parts.lazy.map(\.count).max() ?? 0
    let padded = parts.flatMap { $0 + [String](repeating: "", count: width - $0.count) }
    return [
      HostTensor(strings: padded, shape: x[0].shape + [width]),
      HostTensor(.i64, x[0].shape, elements: parts.map { Int64($0.count) }),
    ]
  }

  private func split(_ text: String) -> [String] {
    let scalars = Array(text.unicodeScalars)
    return (delimiter.isEmpty ? splitAtSpace(scalars) : split(scalars, at: Array(delimiter.unicodeScalars)))
      .map { part in
        var view = String.UnicodeScalarView()
        view.append(contentsOf: part)
        return String(view)
      }
  }

  private func split(_ text: [Unicode.Scalar], at mark: [Unicode.Scalar]) -> [ArraySlice<Unicode.Scalar>] {
    var parts: [ArraySlice<Unicode.Scalar>] = []
    var (start, position) = (0, 0)
    while position + mark.count <= text.count, maxSplits < 0 || parts.count < maxSplits {
      if text[position..<position + mark.count].elementsEqual(mark) {
        parts.append(text[start..<position])
        position += mark.count
        start = position
      } else {
        position += 1
      }
    }
    return parts + [text[start...]]
  }

  private func splitAtSpace(_ text: [Unicode.Scalar]) -> [ArraySlice<Unicode.Scalar>] {
    var parts: [ArraySlice<Unicode.Scalar>] = []
    var position = 0
    while true {
      while position < text.count, text[position].properties.isWhitespace { position += 1 }
      if position == text.count { return parts }
      if maxSplits >= 0, parts.count >= maxSplits { return parts + [text[position...]] }
      let start = position
      while position < text.count, !text[position].properties.isWhitespace { position += 1 }
      parts.append(text[start..<position])
    }
  }

  package static var samples: [Sample] {
    [
      Sample(
        StringSplit(delimiter: "", width: Dim(Symbol("width"))), "string[2]",
        constants: [0: HostTensor(strings: [" a  b c ", ""], shape: [2])])
    ]
  }
}

/// Tells which strings match a regular expression as a whole.
///
/// - Shapes: x any → the same.
/// - Types: x string, result bool.
/// - Throws: ``EvaluationError`` `APUS-V-0205` when the pattern is malformed.
/// - Source: ONNX RegexFullMatch-20.
package struct RegexFullMatch: TensorOperation {
  package let pattern: String

  package init(pattern: String) { self.pattern = pattern }

  package init(name: String, attributes: Attributes) throws(GraphError) { pattern = try attributes.string("pattern") }

  package var name: String { "regex_full_match" }
  package var attributes: Attributes { ["pattern": .string(pattern)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    try expectString(x[0], "x")
    return [x[0].with(dtype: .bool)]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    let regex: Regex<AnyRegexOutput>
    do { regex = try Regex(pattern).matchingSemantics(.unicodeScalar).wordBoundaryKind(.simple) } catch {
      throw evaluationError("APUS-V-0205", "the pattern '\(pattern)' is malformed: \(error)")
    }
    let matches = x[0].strings.map { text -> UInt8 in (try? regex.wholeMatch(in: text)) == nil ? 0 : 1 }
    return [HostTensor(.bool, x[0].shape, elements: matches)]
  }

  package static var samples: [Sample] {
    [
      Sample(
        RegexFullMatch(pattern: "[a-z]+\\.com"), "string[3]",
        constants: [0: HostTensor(strings: ["www.com", "a.comx", "abc.com"], shape: [3])])
    ]
  }
}
