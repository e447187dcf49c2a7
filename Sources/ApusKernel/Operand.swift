package import ApusCore

/// Where an element of a tensor is asked for: by coordinates, or by its row-major linear index.
package enum Position: Hashable {
  case coordinates([Dim])
  case flat(Dim)
}

/// A tensor seen as a function from a position to the expression of the element there.
///
/// Lowering an operation composes such functions, which is what fusion is: a consumer asks its producer for exactly the
/// elements it needs, and only arguments of the kernel end in loads.
package struct Operand {
  package let type: TensorType
  private let element: (Position, ExprArena) -> Expr

  package init(_ type: TensorType, _ element: @escaping (Position, ExprArena) -> Expr) {
    self.type = type
    self.element = element
  }

  /// An operand given by coordinates.
  package init(_ type: TensorType, at coordinates: @escaping ([Dim], ExprArena) -> Expr) {
    self.type = type
    element = { position, arena in coordinates(arena.coordinates(position, in: type.shape), arena) }
  }

  /// A kernel argument: dense and row-major in memory.
  package init(argument buffer: Int, _ type: TensorType) {
    self.type = type
    element = { position, arena in arena.load(buffer, arena.flat(position, in: type.shape)) }
  }

  package func at(_ position: Position, _ arena: ExprArena) -> Expr { element(position, arena) }
  package func at(_ coordinates: [Dim], _ arena: ExprArena) -> Expr { element(.coordinates(coordinates), arena) }

  /// The element for a position of a larger shape that this operand is broadcast to.
  package func broadcast(_ position: Position, of shape: Shape, _ arena: ExprArena) -> Expr {
    if type.shape == shape { return element(position, arena) }
    if type.shape.allSatisfy({ $0 == 1 }) { return element(.flat(0), arena) }
    let outer = arena.coordinates(position, in: shape).suffix(type.rank)
    let own = zip(outer, zip(type.shape, shape.suffix(type.rank))).map { coordinate, dims in
      let (dim, target) = dims
      if dim == target { return coordinate }
      // A dim that may be 1 at run time: the coordinate counts only where the dim is larger.
      return dim == 1 ? Dim(0) : coordinate * (dim - 1).isPositiveIndicator
    }
    return element(.coordinates(Array(own)), arena)
  }
}

extension ExprArena {
  package func flat(_ position: Position, in shape: Shape) -> Dim {
    switch position {
    case .flat(let index): return index
    case .coordinates(let coordinates):
      var index: Dim = 0
      for (coordinate, dim) in zip(coordinates, shape) { index = index * dim + coordinate }
      return index
    }
  }

  package func coordinates(_ position: Position, in shape: Shape) -> [Dim] {
    switch position {
    case .coordinates(let coordinates): return coordinates
    case .flat(let index):
      var rest = index
      var reversed: [Dim] = []
      for dim in shape.dropFirst().reversed() {
        reversed.append(remainder(rest, dim))
        rest = quotient(rest, dim)
      }
      if !shape.isEmpty { reversed.append(rest) }
      return reversed.reversed()
    }
  }
}
