package import ApusCore
package import ApusKernel

extension Dim {
  /// The index moved into `0 ..< size`, so that a load there is safe whatever a select chooses.
  package static func clamped(_ index: Dim, below size: Dim) -> Dim {
    Dim.maximum(Dim.minimum(index, size - 1), 0)
  }
}

extension ExprArena {
  /// The conditions under which an index lies in `0 ..< size`; those that `below` and `above` rule out are left away.
  package func insideConditions(_ index: Dim, _ size: Dim, below: Bool = true, above: Bool = true) -> [Expr] {
    var conditions: [Expr] = []
    if below, index.range.lower < 0 {
      conditions.append(binary(.greater_equal, self.index(index), self.index(0)))
    }
    if above, (size - index).range.lower < 1 {
      conditions.append(binary(.less, self.index(index), self.index(size)))
    }
    return conditions
  }

  /// The conjunction of conditions, or nil when there is none.
  package func all(_ conditions: [Expr]) -> Expr? {
    guard let first = conditions.first else { return nil }
    return conditions.dropFirst().reduce(first) { binary(.and, $0, $1) }
  }
}
