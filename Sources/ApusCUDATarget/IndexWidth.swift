import ApusCore
import ApusKernel

/// Whether index arithmetic of a kernel fits 32 bits, which GPUs do several times faster than 64.
enum IndexWidth {
  private static let limit = 1 << 30

  static func isNarrow(_ kernel: Kernel) -> Bool {
    let arena = kernel.arena
    var dims = kernel.stores.map(\.index)
    dims.append(Dim.product(kernel.variables.map(\.extent)))
    for expr in arena.reachable(kernel.stores.map(\.value)) {
      switch arena[expr] {
      case .load(_, let index), .index(let index): dims.append(index)
      case .reduce(_, let variables, _): dims.append(Dim.product(variables.map(\.extent)))
      default: break
      }
    }
    return dims.allSatisfy { magnitude($0) < limit }
  }

  /// The largest magnitude of any intermediate result of an index, without what is computed in 64 bits anyway.
  private static func magnitude(_ dim: Dim) -> Int {
    var sum = saturatingMagnitude(dim.constantTerm)
    for summand in dim.summands {
      var product = saturatingMagnitude(summand.coefficient)
      var isWide = false
      for factor in summand.factors {
        if case .symbol(let symbol) = factor, ExprArena.dynamicExpr(symbol.name) != nil {
          isWide = true
        } else {
          product = saturatingMultiply(product, magnitude(factor))
        }
      }
      if !isWide || product >= limit { sum = saturatingAdd(sum, product) }
    }
    return sum
  }

  private static func magnitude(_ factor: Dim.Factor) -> Int {
    switch factor {
    case .symbol(let symbol):
      max(saturatingMagnitude(symbol.range.lower), saturatingMagnitude(symbol.range.upper))
    case .quotient(let a, let b), .minimum(let a, let b), .maximum(let a, let b): max(magnitude(a), magnitude(b))
    }
  }

  private static func saturatingMagnitude(_ value: Int) -> Int { value == .min ? .max : abs(value) }
}
