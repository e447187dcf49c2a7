import ApusCore
import ApusGraph

/// Einsum, written out as diagonals, sums and matrix products.
enum EinsumOperator {
  static let table: [String: Lowering] = ["Einsum": lower]

  /// A tensor whose axes have labels.
  private struct Term {
    var value: ValueID
    var labels: [Label]
  }

  /// A letter of the equation, or an axis that its ellipsis stands for, counted from the end.
  private enum Label: Hashable {
    case letter(Character)
    case ellipsis(Int)
  }

  private static func lower(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let inputs = try n.allInputs()
    let equation = try n.string("equation").filter { $0 != " " }
    let sides = equation.split(separator: "->", omittingEmptySubsequences: false).map(String.init)
    let parts = sides[0].split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    guard parts.count == inputs.count, sides.count <= 2 else {
      throw ImportError("APUS-I-0012", "equation '\(equation)' does not have \(inputs.count) terms")
    }
    var terms: [Term] = []
    var ellipsisRank = 0
    for (part, value) in zip(parts, inputs) {
      let (labels, rank) = try labels(part, rank: n.rank(value))
      ellipsisRank = max(ellipsisRank, rank)
      terms.append(try diagonal(n, Term(value: value, labels: labels)))
    }
    let result = try resultLabels(sides, parts, ellipsisRank, terms)
    try dropOnes(n, &terms)
    var product = terms[0]
    for (index, term) in terms.enumerated().dropFirst() {
      let needed = Set(result).union(terms[(index + 1)...].flatMap(\.labels))
      product = try contracted(n, product, term, keeping: needed)
    }
    return [try arranged(n, summed(n, product, keeping: Set(result)), as: result)]
  }

  // MARK: The equation

  private static func labels(_ part: String, rank: Int) throws(ImportError) -> (labels: [Label], ellipsis: Int) {
    let letters = part.filter { $0 != "." }
    let hasEllipsis = part.contains("...")
    guard letters.allSatisfy(\.isLetter), hasEllipsis || letters.count == rank, letters.count <= rank,
      part.count == letters.count + (hasEllipsis ? 3 : 0)
    else { throw ImportError("APUS-I-0012", "term '\(part)' does not fit an operand of rank \(rank)") }
    let covered = rank - letters.count
    var labels: [Label] = []
    var rest = Substring(part)
    while let character = rest.first {
      if character == "." {
        labels += (0..<covered).map { .ellipsis(covered - 1 - $0) }
        rest = rest.dropFirst(3)
      } else {
        labels.append(.letter(character))
        rest = rest.dropFirst()
      }
    }
    return (labels, covered)
  }

  private static func resultLabels(
    _ sides: [String], _ parts: [String], _ ellipsisRank: Int, _ terms: [Term]
  ) throws(ImportError) -> [Label] {
    let ellipsis = (0..<ellipsisRank).map { Label.ellipsis(ellipsisRank - 1 - $0) }
    guard sides.count == 2 else {
      // Implicit form: the ellipsis, then the letters that occur once, in order.
      let counts = Dictionary(parts.joined().filter { $0 != "." }.map { ($0, 1) }, uniquingKeysWith: +)
      return ellipsis + counts.filter { $0.value == 1 }.keys.sorted().map { .letter($0) }
    }
    let letters = sides[1].filter { $0 != "." }
    let rank = letters.count + (sides[1].contains("...") ? ellipsisRank : 0)
    let labels = try labels(sides[1], rank: rank).labels
    let known = Set(terms.flatMap(\.labels))
    guard Set(labels).count == labels.count, labels.allSatisfy(known.contains) else {
      throw ImportError("APUS-I-0012", "the result '\(sides[1])' repeats a label or has one that no term has")
    }
    return labels
  }

  // MARK: Single terms

  /// Each label once: of axes with equal labels the diagonal is taken.
  private static func diagonal(_ n: NodeContext, _ term: Term) throws(ImportError) -> Term {
    var term = term
    while let second = term.labels.indices.first(where: { term.labels[..<$0].contains(term.labels[$0]) }),
      let first = term.labels.firstIndex(of: term.labels[second])
    {
      let shape = try n.shape(term.value)
      let isDiagonal = try n("equal", n.iota(shape, axis: first, .i64), n.iota(shape, axis: second, .i64))
      let masked = try n.select(isDiagonal, term.value, n.scalar(0, like: term.value))
      term.value = try n.reduce("sum", masked, [second], keepDims: false)
      term.labels.remove(at: second)
    }
    return term
  }

  /// Axes of size 1 that another term has larger are dropped: the product broadcasts.
  private static func dropOnes(_ n: NodeContext, _ terms: inout [Term]) throws(ImportError) {
    var isLarger: Set<Label> = []
    for term in terms {
      for (label, dim) in zip(term.labels, try n.shape(term.value)) where dim != 1 { isLarger.insert(label) }
    }
    for index in terms.indices {
      let shape = try n.shape(terms[index].value)
      let axes = shape.indices.filter { shape[$0] == 1 && isLarger.contains(terms[index].labels[$0]) }
      if axes.isEmpty { continue }
      terms[index].value = try n.squeeze(terms[index].value, axes)
      for axis in axes.reversed() { terms[index].labels.remove(at: axis) }
    }
  }

  private static func summed(_ n: NodeContext, _ term: Term, keeping: Set<Label>) throws(ImportError) -> Term {
    let axes = term.labels.indices.filter { !keeping.contains(term.labels[$0]) }
    if axes.isEmpty { return term }
    let value = try n.reduce("sum", term.value, axes, keepDims: false)
    return Term(value: value, labels: term.labels.filter(keeping.contains))
  }

  private static func arranged(_ n: NodeContext, _ term: Term, as labels: [Label]) throws(ImportError) -> ValueID {
    let order = labels.compactMap { term.labels.firstIndex(of: $0) }
    return try n.transpose(term.value, order)
  }

  // MARK: Two terms

  /// The product of two terms, summed over the labels that are not needed any more.
  private static func contracted(
    _ n: NodeContext, _ a: Term, _ b: Term, keeping needed: Set<Label>
  ) throws(ImportError) -> Term {
    let a = try summed(n, a, keeping: needed.union(b.labels))
    let b = try summed(n, b, keeping: needed.union(a.labels))
    let shared = a.labels.filter(b.labels.contains)
    let batch = shared.filter(needed.contains)
    let inner = shared.filter { !needed.contains($0) }
    let left = a.labels.filter { !shared.contains($0) }
    let right = b.labels.filter { !shared.contains($0) }
    if inner.isEmpty { return try multiplied(n, a, b, batch + left + right) }
    let sizes = try Dictionary(
      zip(a.labels, n.shape(a.value)).map { ($0, $1) } + zip(b.labels, n.shape(b.value)).map { ($0, $1) },
      uniquingKeysWith: { first, second in first.isConstant ? first : second })
    func dims(_ labels: [Label]) -> [Dim] { labels.map { sizes[$0] ?? 1 } }
    func product(_ labels: [Label]) -> Dim { Dim.product(dims(labels)) }
    let x = try n.reshape(arranged(n, a, as: batch + left + inner), dims(batch) + [product(left), product(inner)])
    let y = try n.reshape(arranged(n, b, as: batch + inner + right), dims(batch) + [product(inner), product(right)])
    let z = try n.reshape(n("matmul", x, y), dims(batch + left + right))
    return Term(value: z, labels: batch + left + right)
  }

  /// The product of two terms by broadcasting.
  private static func multiplied(
    _ n: NodeContext, _ a: Term, _ b: Term, _ labels: [Label]
  ) throws(ImportError) -> Term {
    func spread(_ term: Term) throws(ImportError) -> ValueID {
      let order = labels.filter(term.labels.contains)
      let value = try arranged(n, term, as: order)
      return try n.unsqueeze(value, labels.indices.filter { !order.contains(labels[$0]) })
    }
    return Term(value: try n("mul", spread(a), spread(b)), labels: labels)
  }
}
