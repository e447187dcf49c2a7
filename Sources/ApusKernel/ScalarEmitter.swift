package import ApusCore

/// A reduction that is about to be printed.
package struct ReductionNode {
  package let expr: Expr
  package let reduction: Reduction
  /// The loop variables that it runs over, outermost first.
  package let variables: [LoopVariable]
  package let body: Expr
}

/// Prints the expressions of a kernel in C into nested scopes.
///
/// Every expression is computed in the outermost scope where its variables are known, once; this places row statistics of
/// normalisations before the loop over the row. How loops run, and how reductions do, is decided by who prints the loops.
package final class ScalarEmitter {
  /// A block of statements in which some loop variables are known.
  package final class Scope {
    package let parent: Scope?
    package let variables: Set<String>
    package var text = ""
    private var names: [Expr: String] = [:]

    package init(parent: Scope?, adding names: [String]) {
      self.parent = parent
      variables = (parent?.variables ?? []).union(names)
    }

    fileprivate func find(_ expr: Expr) -> String? { names[expr] ?? parent?.find(expr) }

    /// Lets later uses of an expression in this scope, or within it, refer to a name.
    package func name(_ expr: Expr, _ text: String) { names[expr] = text }
  }

  package let kernel: Kernel
  package let arena: ExprArena
  /// Sizes that the kernel is told, in order.
  package private(set) var parameters: [Dim]
  /// Prints a reduction into a scope and gives the text of its value.
  package var printReduction: (ReductionNode, Scope) -> String
  /// Text of a load, where it is no plain element of a buffer.
  package var printLoad: (_ buffer: Int, _ index: Dim, Scope) -> String?
  /// Whether indices are computed in 32 bits, so that constants need no suffix.
  package var hasNarrowIndices = false
  /// Prints a store in a way of its own; false for a plain element of a buffer.
  package var printStore: (Kernel.Store, _ value: String, Scope) -> Bool
  private var parameterIndex: [Dim: Int] = [:]
  private var free: [Expr: Set<String>] = [:]
  private var counter = 0
  package let bufferText: (Int) -> String

  package init(_ kernel: Kernel, parameters: [Dim] = [], bufferText: @escaping (Int) -> String = { "b\($0)" }) {
    self.kernel = kernel
    arena = kernel.arena
    self.parameters = parameters
    self.bufferText = bufferText
    printReduction = { _, _ in preconditionFailure("no reductions are expected") }
    printLoad = { _, _, _ in nil }
    printStore = { _, _, _ in false }
    for (index, dim) in parameters.enumerated() where parameterIndex[dim] == nil { parameterIndex[dim] = index }
  }

  package func parameterText(_ source: String, type: String = "i64") -> String {
    parameters.indices.map { "  const \(type) p\($0) = (\(type))\(source)[\($0)];\n" }.joined()
  }

  /// Declarations of the buffers' addresses, taken from an array.
  package func bufferDeclarations(_ source: String, qualifier: String = "") -> String {
    arena.buffers.enumerated().map { index, dtype in
      let isWritten = kernel.stores.contains { $0.buffer == index }
      let type = (isWritten ? "" : "const ") + CDialect.storage(dtype)
      return "  \(type) *const \(qualifier)\(bufferText(index)) = (\(type) *)\(source)[\(index)];\n"
    }.joined()
  }

  package func freeVariables(_ expr: Expr) -> Set<String> { arena.freeVariables(expr, &free) }

  package func makeName() -> String {
    counter += 1
    return "t\(counter)"
  }

  /// The counter of a loop variable.
  package func name(_ variable: LoopVariable) -> String { Self.counter(variable.name) }

  /// No type or macro of the templates' texts is called so.
  private static func counter(_ name: String) -> String { "q" + name.dropFirst(2) }

  /// `for` over all values of a variable.
  package func loop(_ variable: LoopVariable, _ extent: String, type: String = "i64", _ body: String) -> String {
    let counter = name(variable)
    return "    for (\(type) \(counter) = 0; \(counter) < \(extent); \(counter)++) {\n\(body)    }\n"
  }

  /// Statements that split a linear number, in a variable that they use up, into loop variables.
  package func decode(_ number: String, _ variables: [LoopVariable], _ scope: Scope, type: String = "i64") -> String {
    guard let first = variables.first else { return "    (void)\(number);\n" }
    var lines: [String] = []
    for variable in variables.dropFirst().reversed() {
      let extent = text(variable.extent, scope)
      lines.append(
        "    const \(type) \(name(variable)) = \(number) % (\(extent)); \(number) /= (\(extent));\n")
    }
    return lines.joined() + "    const \(type) \(name(first)) = \(number);\n"
  }
}

// MARK: Expressions

extension ScalarEmitter {
  package func emitStores(_ scope: Scope) {
    for store in kernel.stores {
      let dtype = arena.buffers[store.buffer]
      let value = emit(store.value, scope)
      if printStore(store, value, scope) { continue }
      let index = text(store.index, scope)
      scope.text += "    \(bufferText(store.buffer))[\(index)] = \(CDialect.stored(value, dtype));\n"
    }
  }

  /// The outermost scope, from `scope` upwards, in which all variables are known.
  private func home(_ needed: Set<String>, _ scope: Scope) -> Scope {
    var best = scope
    while let parent = best.parent, needed.isSubset(of: parent.variables) { best = parent }
    return best
  }

  /// The text of an expression's value; what must be computed first is added to the scopes.
  package func emit(_ expr: Expr, _ scope: Scope) -> String {
    switch arena[expr] {
    case .float(let bits, let dtype): return CDialect.float(Double(bitPattern: bits), dtype)
    case .integer(let value, let dtype): return CDialect.integer(value, dtype)
    default: break
    }
    let target = home(freeVariables(expr), scope)
    if let name = target.find(expr) { return name }
    if case .reduce(let reduction, let variables, let body) = arena[expr] {
      return printReduction(
        ReductionNode(expr: expr, reduction: reduction, variables: variables, body: body), target)
    }
    let value = expression(expr, target)
    let name = makeName()
    target.text += "    const \(CDialect.scalar(arena.type(expr))) \(name) = \(value);\n"
    target.name(expr, name)
    return name
  }

  private func expression(_ expr: Expr, _ scope: Scope) -> String {
    switch arena[expr] {
    case .index(let dim): return text(dim, scope)
    case .load(let buffer, let dim):
      return printLoad(buffer, dim, scope)
        ?? CDialect.load(bufferText(buffer), text(dim, scope), arena.buffers[buffer])
    case .unary(let function, let x): return CDialect.unary(function, emit(x, scope), arena.type(x))
    case .binary(let function, let x, let y):
      // A literal first: that it is no NaN saves the test whether the first operand is one.
      if function == .max || function == .min, arena.type(x) == arena.type(y), case .float = arena[y] {
        return CDialect.binary(function, emit(y, scope), emit(x, scope), arena.type(y), arena.type(x))
      }
      return CDialect.binary(function, emit(x, scope), emit(y, scope), arena.type(x), arena.type(y))
    case .select(let c, let x, let y): return "\(emit(c, scope)) ? \(emit(x, scope)) : \(emit(y, scope))"
    case .cast(let x, let dtype): return CDialect.cast(emit(x, scope), from: arena.type(x), to: dtype)
    case .rounded(let x, let dtype): return CDialect.rounded(emit(x, scope), dtype)
    case .float, .integer, .reduce: return emit(expr, scope)
    }
  }

  /// One step of a search for an extreme element: `best` and `at` take over `value` and its place.
  package func searchStep(
    _ reduction: Reduction, _ value: String, _ best: String, _ at: String, _ counter: String
  ) -> String {
    let comparison = reduction == .argmax ? ">" : "<"
    // A NaN is more extreme than any number; for integers the last condition is never true.
    let condition = "\(counter) == 0 || \(value) \(comparison) \(best) || (\(value) != \(value) && \(best) == \(best))"
    return "    if (\(condition)) { \(best) = \(value); \(at) = \(counter); }\n"
  }

  /// Whether a reduction's loads walk along `variable` from one step to the next at least as often as along the reduction's
  /// own innermost variable.
  package func walksAlong(_ variable: LoopVariable, _ reductions: [ReductionNode]) -> Bool {
    var along = 0
    var across = 0
    for node in reductions {
      guard let last = node.variables.last else { continue }
      for part in arena.reachable([node.body]) {
        guard case .load(_, let index) = arena[part] else { continue }
        if index.unitStride(in: variable.name) { along += 1 }
        if index.unitStride(in: last.name) { across += 1 }
      }
    }
    return along > 0 && along >= across
  }

  /// All reductions of the kernel.
  package var reductions: [ReductionNode] {
    arena.reachable(kernel.stores.map(\.value)).compactMap { expr in
      guard case .reduce(let reduction, let variables, let body) = arena[expr] else { return nil }
      return ReductionNode(expr: expr, reduction: reduction, variables: variables, body: body)
    }
  }
}

// MARK: Index text

extension ScalarEmitter {
  /// A size or index in C: what depends on shapes only becomes a parameter.
  package func text(_ dim: Dim, _ scope: Scope) -> String {
    if ExprArena.locals(of: dim).isEmpty { return parameter(dim) }
    var shapeOnly = Dim(dim.constantTerm)
    var groups: [(local: String, coefficient: Dim)] = []
    for summand in dim.summands {
      var coefficient = Dim(summand.coefficient)
      var locals: [String] = []
      for factor in summand.factors {
        if let text = local(factor, scope) {
          locals.append(text)
        } else {
          coefficient = coefficient * factor.dim
        }
      }
      if locals.isEmpty {
        shapeOnly = shapeOnly + coefficient
        continue
      }
      let key = locals.joined(separator: " * ")
      if let known = groups.firstIndex(where: { $0.local == key }) {
        groups[known].coefficient = groups[known].coefficient + coefficient
      } else {
        groups.append((key, coefficient))
      }
    }
    var parts = groups.map { $0.coefficient == 1 ? $0.local : "\($0.local) * \(parameter($0.coefficient))" }
    if shapeOnly != 0 { parts.append(parameter(shapeOnly)) }
    return parts.count == 1 && !parts[0].contains(" ") ? parts[0] : "(\(parts.joined(separator: " + ")))"
  }

  private func parameter(_ dim: Dim) -> String {
    if let value = dim.constantValue { return integerText(value) }
    if let index = parameterIndex[dim] { return "p\(index)" }
    parameters.append(dim)
    parameterIndex[dim] = parameters.count - 1
    return "p\(parameters.count - 1)"
  }

  private func integerText(_ value: Int) -> String {
    Int32(exactly: value) == nil || !hasNarrowIndices ? "\(value)L" : "\(value)"
  }

  /// The text of a factor that holds loop variables; nil for one that depends on shapes only.
  private func local(_ factor: Dim.Factor, _ scope: Scope) -> String? {
    guard !ExprArena.locals(of: factor.dim).isEmpty else { return nil }
    switch factor {
    case .symbol(let symbol):
      if let expr = ExprArena.dynamicExpr(symbol.name) { return emit(expr, scope) }
      return Self.counter(symbol.name)
    case .quotient(let a, let b):
      let (x, y) = (text(a, scope), text(b, scope))
      return a.range.lower >= 0 && b.range.lower > 0 ? "(\(x) / \(y))" : "apus_floor_div(\(x), \(y))"
    case .minimum(let a, let b): return "APUS_MIN(\(text(a, scope)), \(text(b, scope)))"
    case .maximum(let a, let b): return "APUS_MAX(\(text(a, scope)), \(text(b, scope)))"
    }
  }
}
