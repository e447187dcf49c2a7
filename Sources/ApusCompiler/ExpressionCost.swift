package import ApusCore
import ApusGraph
package import ApusKernel

/// What computing one element of a pending value takes.
struct ExpressionCost {
  /// Expression nodes.
  var size = 0
  var loads = 0
  var functions = 0
  var isExpensive = false
  var hasReduction = false
  /// Reduction steps and expensive calls for the whole value, with each computed as far out in the loops as it can be.
  var heavyWork = 0.0
  /// Whether every load is at the element's own linear index or a constant one.
  var isPlain = true

  /// Only movement: nothing is calculated.
  var isTrivial: Bool { functions == 0 && !hasReduction }

  init() {}

  init(
    of element: ([ValueID: Operand]) -> Operand, leaves: [ValueID], anchor: ValueID?, _ type: TensorType,
    _ graph: Graph
  ) {
    let arena = ExprArena()
    var operands: [ValueID: Operand] = [:]
    for leaf in leaves + (anchor.map { [$0] } ?? []) {
      let type = graph.tensorType(leaf)
      operands[leaf] = Operand(argument: arena.addBuffer(type.dtype), type)
    }
    let index = arena.makeVariable(type.elementCount)
    let root = element(operands).at(.flat(index.dim), arena)
    for expr in arena.reachable([root]) {
      size += 1
      switch arena[expr] {
      case .load(_, let at):
        loads += 1
        if at != index.dim && !at.isConstant { isPlain = false }
      case .unary(let function, _), .binary(let function, _, _):
        functions += 1
        if function.isExpensive { isExpensive = true }
      case .reduce: hasReduction = true
      default: break
      }
    }
    heavyWork = Self.heavyWork(element(operands), type, arena)
  }

  private static func heavyWork(_ operand: Operand, _ type: TensorType, _ arena: ExprArena) -> Double {
    let (variables, coordinates) = Kernel.variables(for: type.shape, arena)
    let root = operand.at(.coordinates(coordinates), arena)
    var memo: [Expr: Set<String>] = [:]
    let around = arena.loopsAround([root], &memo)
    var work = 0.0
    for expr in arena.reachable([root]) {
      var steps = variables.evaluations(arena.freeVariables(expr, &memo), around, arena)
      switch arena[expr] {
      case .reduce(_, let bound, _): for variable in bound { steps *= Double(variable.extent.estimate) }
      case .unary(let function, _), .binary(let function, _, _): if !function.isExpensive { continue }
      default: continue
      }
      work += steps
    }
    return work
  }
}

extension ExprArena {
  /// The variables that each reduction variable's loop lies within: those that its reduction depends on, and those around them.
  func loopsAround(_ roots: [Expr], _ memo: inout [Expr: Set<String>]) -> [String: Set<String>] {
    var around: [String: Set<String>] = [:]
    // Operands come before users, so the outer reductions come last.
    for expr in reachable(roots).reversed() {
      guard case .reduce(_, let bound, _) = self[expr] else { continue }
      let free = freeVariables(expr, &memo)
      let all = free.reduce(free) { $0.union(around[$1] ?? []) }
      for variable in bound { around[variable.name, default: []].formUnion(all) }
    }
    return around
  }
}

extension [LoopVariable] {
  /// How often an expression with these free variables is computed in a nest of these loops: in the body of the
  /// innermost loop it needs, and for each value of the reduction variables around it.
  ///
  /// - Parameter around: the variables that each reduction variable's loop lies within.
  func evaluations(_ free: Set<String>, _ around: [String: Set<String>], _ arena: ExprArena) -> Double {
    let needed = free.reduce(free) { $0.union(around[$1] ?? []) }
    let deepest = lastIndex { needed.contains($0.name) }
    var count = 1.0
    for variable in self[..<(deepest.map { $0 + 1 } ?? 0)] { count *= Double(variable.extent.estimate) }
    for name in needed where !contains(where: { $0.name == name }) {
      count *= Double(arena.variables[name]?.extent.estimate ?? 1)
    }
    return count
  }
}

extension Dim {
  /// A size to reckon with where symbols are not known: each is taken as what it is tuned for, else as 32 where its range
  /// allows.
  package var estimate: Int {
    var sizes: [String: Int] = [:]
    for symbol in symbols {
      sizes[symbol.name] = symbol.opt ?? Swift.min(Swift.max(32, symbol.range.lower), symbol.range.upper)
    }
    return evaluate { sizes[$0] } ?? 0
  }
}

extension Kernel {
  /// Loop variables for a shape, with the coordinates they stand for; dims of size 1 have none.
  static func variables(for shape: Shape, _ arena: ExprArena) -> (variables: [LoopVariable], coordinates: [Dim]) {
    var variables: [LoopVariable] = []
    let coordinates = shape.map { dim -> Dim in
      if dim == 1 { return 0 }
      let variable = arena.makeVariable(dim)
      variables.append(variable)
      return variable.dim
    }
    return (variables, coordinates)
  }

  /// A kernel that stores every element of operands of one shape in their buffers, at the linear index, in `shape`, of
  /// `index(coordinates)`.
  ///
  /// One loop over the linear index is used when every load is at that index or a constant one.
  package static func storing(
    _ operands: [(value: Operand, buffer: Int)], _ type: TensorType, shape: Shape, index: ([Dim]) -> [Dim],
    _ arena: ExprArena
  ) -> Kernel {
    let flat = arena.makeVariable(type.elementCount)
    let flatValues = operands.map { $0.value.at(.flat(flat.dim), arena) }
    let isFlat = arena.reachable(flatValues).allSatisfy { expr in
      switch arena[expr] {
      case .load(_, let at), .index(let at): at.isConstant || ExprArena.locals(of: at).isEmpty || at == flat.dim
      case .reduce: false
      default: true
      }
    }
    if isFlat && shape == type.shape {
      return Kernel(
        arena: arena, variables: [flat],
        stores: zip(operands, flatValues).map { Store(buffer: $0.buffer, index: flat.dim, value: $1) })
    }
    let (variables, coordinates) = variables(for: type.shape, arena)
    let position = arena.flat(.coordinates(index(coordinates)), in: shape)
    return Kernel(
      arena: arena, variables: variables,
      stores: operands.map {
        Store(buffer: $0.buffer, index: position, value: $0.value.at(.coordinates(coordinates), arena))
      })
  }
}
