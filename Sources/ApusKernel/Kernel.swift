package import ApusCore

/// A loop nest that stores one or more expressions for every point of its iteration space.
///
/// Iterations are independent: each element of an output is stored once.
package struct Kernel {
  package struct Store {
    package var buffer: Int
    /// Linear index in elements.
    package var index: Dim
    package var value: Expr

    package init(buffer: Int, index: Dim, value: Expr) {
      self.buffer = buffer
      self.index = index
      self.value = value
    }
  }

  package let arena: ExprArena
  /// Outermost first.
  package var variables: [LoopVariable]
  package var stores: [Store]

  package init(arena: ExprArena, variables: [LoopVariable], stores: [Store]) {
    self.arena = arena
    self.variables = variables
    self.stores = stores
  }

  package var iterations: Dim { Dim.product(variables.map(\.extent)) }

  /// How many elements of each buffer are read and written at the most, by buffer.
  package var elementsTouched: [Int: Dim] {
    var extents = Dictionary(variables.map { ($0.name, $0.extent) }, uniquingKeysWith: { first, _ in first })
    var touched: [Int: Dim] = [:]
    for store in stores { touched[store.buffer, default: 0] = touched[store.buffer, default: 0] + iterations }
    let indices = stores.flatMap { ExprArena.locals(of: $0.index).compactMap(ExprArena.dynamicExpr) }
    let reachable = arena.reachable(stores.map(\.value) + indices)
    for expr in reachable {
      if case .reduce(_, let bound, _) = arena[expr] { for own in bound { extents[own.name] = own.extent } }
    }
    var memo: [Expr: Set<String>] = [:]
    for expr in reachable {
      guard case .load(let buffer, _) = arena[expr] else { continue }
      let free = arena.freeVariables(expr, &memo).sorted()
      touched[buffer, default: 0] = touched[buffer, default: 0] + Dim.product(free.compactMap { extents[$0] })
    }
    return touched
  }
}

// MARK: Facts about expressions

extension ExprArena {
  /// Names of loop variables and dynamic indices an index expression mentions directly.
  package static func locals(of dim: Dim) -> [String] {
    dim.symbols.map(\.name).filter(isLocal)
  }

  package func children(_ expr: Expr) -> [Expr] {
    switch self[expr] {
    case .float, .integer: []
    case .index(let dim), .load(_, let dim): Self.locals(of: dim).compactMap(Self.dynamicExpr)
    case .unary(_, let x), .cast(let x, _), .rounded(let x, _): [x]
    case .binary(_, let x, let y): [x, y]
    case .select(let c, let x, let y): [c, x, y]
    case .reduce(_, _, let body): [body]
    }
  }

  /// The loop variables whose values an expression depends on, without those its own reductions bind.
  package func freeVariables(_ expr: Expr, _ memo: inout [Expr: Set<String>]) -> Set<String> {
    if let known = memo[expr] { return known }
    var free: Set<String> = []
    switch self[expr] {
    case .index(let dim), .load(_, let dim):
      free.formUnion(Self.locals(of: dim).filter { variables[$0] != nil })
    default: break
    }
    for child in children(expr) { free.formUnion(freeVariables(child, &memo)) }
    if case .reduce(_, let bound, _) = self[expr] { free.subtract(bound.map(\.name)) }
    memo[expr] = free
    return free
  }

  /// Every expression reachable from `roots`, each once, operands before users.
  package func reachable(_ roots: [Expr]) -> [Expr] {
    var seen: Set<Expr> = []
    var ordered: [Expr] = []
    var pending: [(expr: Expr, expanded: Bool)] = roots.map { ($0, false) }
    while let (expr, expanded) = pending.popLast() {
      if expanded {
        ordered.append(expr)
      } else if seen.insert(expr).inserted {
        pending.append((expr, true))
        for child in children(expr) where !seen.contains(child) { pending.append((child, false)) }
      }
    }
    return ordered
  }
}
