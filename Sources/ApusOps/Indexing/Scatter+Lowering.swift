package import ApusCore
package import ApusKernel

/// Scattering of few updates: each element of the result looks for the updates that meet it.
extension ScatterReduction {
  /// Most updates that an element looks through; more are sorted by a kernel of its own or written by the host.
  package static let mostLowered = 32

  /// The element that an element of x becomes.
  ///
  /// - Parameters:
  ///   - update: runs over the updates that may meet the element, in order.
  ///   - meets: whether the update does.
  ///   - value: the update's element, for a number of an update.
  func lower(
    _ x: Expr, _ update: LoopVariable, meets: Expr, _ dtype: DType, _ arena: ExprArena, value: (Dim) -> Expr
  ) -> Expr {
    if self == .none {
      let missing = arena.constant(Int64(-1), .i64)
      let last = arena.reduce(.max, over: [update], arena.select(meets, arena.index(update.dim), missing))
      let isKept = arena.binary(.less, last, arena.constant(Int64(0), .i64))
      return arena.select(isKept, x, value(arena.clamped(last, in: update.extent)))
    }
    let (reduction, function, identity): (Reduction, ScalarFunction, Expr) =
      switch self {
      case .none, .add: (.sum, .add, arena.constant(Int64(0), dtype))
      case .mul: (.prod, .mul, arena.constant(Int64(1), dtype))
      case .min: (.min, .min, arena.highest(dtype))
      case .max: (.max, .max, arena.lowest(dtype))
      }
    let all = arena.reduce(reduction, over: [update], arena.select(meets, value(update.dim), identity))
    return arena.cast(arena.binary(function, x, all), to: dtype)
  }

  /// Whether elements of a type can be combined so by an expression.
  func isLowered(_ dtype: DType) -> Bool { self == .none || dtype != .bool }
}

extension ScatterElements {
  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let (data, indices, updates) = (x[0], x[1], x[2])
    let (shape, own) = (data.type.shape, indices.type.shape)
    let dtype = data.type.dtype
    if own[axis].range.upper > ScatterReduction.mostLowered || !reduction.isLowered(dtype) { return nil }
    return [
      Operand(results[0]) { coordinates, arena in
        let update = arena.makeVariable(own[axis])
        var conditions: [Expr] = []
        var place = coordinates
        for other in shape.indices where other != axis && shape[other] != own[other] {
          conditions.append(arena.binary(.less, arena.index(coordinates[other]), arena.index(own[other])))
          place[other] = Dim.clamped(coordinates[other], below: own[other])
        }
        place[axis] = update.dim
        let index = arena.position(indices.at(place, arena), in: shape[axis])
        conditions.append(arena.binary(.equal, index, arena.index(coordinates[axis])))
        guard let meets = arena.all(conditions) else { return data.at(coordinates, arena) }
        return reduction.lower(data.at(coordinates, arena), update, meets: meets, dtype, arena) { number in
          place[axis] = number
          return updates.at(place, arena)
        }
      }
    ]
  }
}

extension ScatterND {
  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let (data, indices, updates) = (x[0], x[1], x[2])
    let (shape, dtype) = (data.type.shape, data.type.dtype)
    let rows = Array(indices.type.shape.dropLast())
    guard let width = indices.type.shape.last?.constantValue, width > 0, reduction.isLowered(dtype),
      Dim.product(rows).range.upper <= ScatterReduction.mostLowered
    else { return nil }
    return [
      Operand(results[0]) { coordinates, arena in
        let update = arena.makeVariable(Dim.product(rows))
        let row = arena.coordinates(.flat(update.dim), in: rows)
        let conditions = (0..<width).map { axis in
          let index = arena.position(indices.at(row + [Dim(axis)], arena), in: shape[axis])
          return arena.binary(.equal, index, arena.index(coordinates[axis]))
        }
        guard let meets = arena.all(conditions) else { return data.at(coordinates, arena) }
        return reduction.lower(data.at(coordinates, arena), update, meets: meets, dtype, arena) { number in
          updates.at(arena.coordinates(.flat(number), in: rows) + coordinates[width...], arena)
        }
      }
    ]
  }
}
