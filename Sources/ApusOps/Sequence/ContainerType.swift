package import ApusCore

extension ValueType {
  /// The size that stands in the type of a sequence's element where the elements' sizes differ or are not known: no one
  /// binds it, so what takes an element out gives it sizes of its own.
  package static let anySize = Dim(Symbol("_"))

  /// A type that values of both types have: sizes that differ become ``anySize``; nil when there is none.
  ///
  /// An element type of another rank gives way to `other`: an empty sequence does not know its elements' rank.
  package func joined(with other: ValueType) -> ValueType? {
    switch (self, other) {
    case (.tensor(let a), .tensor(let b)):
      guard a.dtype == b.dtype else { return nil }
      guard a.rank == b.rank else { return other }
      return .tensor(a.with(shape: zip(a.shape, b.shape).map { $0 == $1 ? $0 : ValueType.anySize }))
    case (.sequence(let a), .sequence(let b)): return a.joined(with: b).map { .sequence($0) }
    case (.optional(let a), .optional(let b)): return a.joined(with: b).map { .optional($0) }
    default: return nil
    }
  }

  /// The type with sizes that hold one of `symbols` replaced by ``anySize``.
  func hiding(_ symbols: Set<String>) -> ValueType {
    switch self {
    case .tensor(let type):
      let shape = type.shape.map { dim in
        dim.symbols.contains { symbols.contains($0.name) } ? ValueType.anySize : dim
      }
      return .tensor(type.with(shape: shape))
    case .sequence(let element): return .sequence(element.hiding(symbols))
    case .optional(let element): return .optional(element.hiding(symbols))
    }
  }
}
