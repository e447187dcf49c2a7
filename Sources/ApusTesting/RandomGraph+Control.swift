import ApusCore
import ApusGraph
import ApusOps

/// Branches, loops and scans with made-up bodies.
extension RandomGraph {
  mutating func control(_ x: ValueID) -> ValueID? {
    if depth > 1 { return nil }
    switch number(0...2) {
    case 0: return branched(x)
    case 1: return looped(x)
    default: return scanned(x)
    }
  }

  /// Adds an operation with symbols for the sizes that only running tells.
  private mutating func addControl<Op: ControlOperation>(_ op: Op, _ inputs: [ValueID]) -> [ValueID]? {
    var op = op
    guard let count = try? op.openSizeCount(inputs.map { graph.type($0) }) else { return nil }
    op.symbols = (0..<count).map { _ in freshSymbol() }
    guard let results = addAll(op, inputs) else { return nil }
    keep(Array(results.dropFirst()))
    return results
  }

  /// What a body can say of values: their types, and whether they are exact.
  private func described(_ values: [ValueID]) -> [(type: ValueType, isExact: Bool)] {
    values.map { (graph.type($0), isExact($0)) }
  }

  private mutating func flag(_ isTrue: Bool) -> ValueID { constant(HostTensor(.bool, [], int64s: [isTrue ? 1 : 0])) }

  private mutating func branched(_ x: ValueID) -> ValueID? {
    guard let decisive = operand(.tensor(TensorType(dtype, [])), nil, exactly: true),
      let condition = add("less", [decisive, constant(HostTensor(scalar: Double(number(-1...2)), dtype))])
    else { return nil }
    let inputs = [x, choose(pool)]
    let bodies = (0..<2).map { _ in body(described(inputs)) { inner, ids in [inner.grow(from: ids)] } }
    return addControl(If(symbols: [], bodies: bodies), [condition] + inputs)?.first
  }

  private mutating func looped(_ x: ValueID) -> ValueID? {
    let count = TensorType(.i64, [])
    let trips =
      chance(50)
      ? constant(HostTensor(.i64, [], int64s: [Int64(number(0...3))])) : operand(.tensor(count), 0...3, exactly: true)
    guard let trips else { return nil }
    let other = choose(pool)
    let isExact = dtype == .i32 && isExact(x) && isExact(other)
    let inputs: [(type: ValueType, isExact: Bool)] = [
      (.tensor(count), true), (.tensor(TensorType(.bool, [])), true), (graph.type(x), isExact),
      (graph.type(other), isExact),
    ]
    let body = body(inputs) { inner, ids in
      let next = inner.grow(from: [ids[2], ids[3]])
      var goesOn = ids[1]
      if inner.chance(40) {
        let limit = inner.constant(HostTensor(.i64, [], int64s: [Int64(inner.number(0...2))]))
        goesOn = inner.add("less", [ids[0], limit]) ?? goesOn
      }
      return [goesOn, next] + (inner.chance(60) ? [inner.choose(inner.pool)] : [])
    }
    return addControl(Loop(carried: 1, symbols: [], body: body), [trips, flag(chance(90)), x, other])?.first
  }

  private mutating func scanned(_ x: ValueID) -> ValueID? {
    var slice = graph.tensorType(x)
    if slice.rank == 0 { return nil }
    let axis = number(0...slice.rank - 1)
    slice.shape.remove(at: axis)
    guard let start = operand(.tensor(slice), nil, exactly: dtype == .i32) else { return nil }
    let isExact = dtype == .i32 && isExact(x) && isExact(start)
    let inputs = (0..<2).map { _ in (type: ValueType.tensor(slice), isExact: isExact) }
    let body = body(inputs) { inner, ids in
      let next = inner.grow(from: ids)
      return [next, inner.choose(inner.pool)]
    }
    let scan = Scan(
      states: 1, inputAxes: [axis], inputDirections: [number(0...1)], outputAxes: [0],
      outputDirections: [number(0...1)], symbols: [], body: body)
    return addControl(scan, [start, x])?.first
  }
}
