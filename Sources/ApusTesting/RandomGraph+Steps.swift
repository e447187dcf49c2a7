import ApusCore
import ApusGraph

/// Nodes whose operands are values of the pool as they are.
extension RandomGraph {
  mutating func unary(_ x: ValueID) -> ValueID? {
    if dtype == .i32 {
      if chance(20) {
        let type = choose([DType.i8, .u8, .i64, .bool])
        return back(add("cast", [x], ["to": .dtype(type), "saturate": .bool(true)]))
      }
      return add(choose(["neg", "abs", "sign", "relu", "bit_not"]), [x])
    }
    return add(
      choose([
        "neg", "abs", "tanh", "sigmoid", "relu", "gelu", "silu", "erf", "softplus", "hard_swish", "softsign", "mish",
        "sin",
        "gelu_tanh",
      ]), [x])
  }

  /// A value of another type brought back to the graph's.
  mutating func back(_ x: ValueID?) -> ValueID? {
    guard let x else { return nil }
    return add("cast", [x], ["to": .dtype(dtype), "saturate": .bool(true)])
  }

  /// A value whose shape surely broadcasts with that of `x`.
  mutating func partner(_ x: ValueID) -> ValueID? {
    let own = shape(x)
    let fitting = pool.filter { other in
      zip(own.reversed(), shape(other).reversed()).allSatisfy { $0 == $1 || $0 == 1 || $1 == 1 }
    }
    if !fitting.isEmpty, chance(75) { return choose(fitting) }
    let rank = number(0...own.count)
    let sizes = own.suffix(rank).compactMap(\.constantValue)
    let constantShape = sizes.count == rank ? sizes : []
    return constant(RandomTensor.make(dtype, constantShape, seed: generator.next()))
  }

  mutating func binary(_ x: ValueID) -> ValueID? {
    guard let y = partner(x) else { return nil }
    let inputs = chance(50) ? [x, y] : [y, x]
    if chance(20) {
      guard let condition = add(choose(["less", "equal", "greater_equal"]), inputs) else { return nil }
      // On f32 the comparison may fall either way for values that nearly agree: both choices must be about the same.
      if dtype == .f32 { return add("where", [condition, inputs[0], inputs[0]]) }
      return add("where", [condition] + inputs)
    }
    if dtype == .f32 {
      if chance(30) {
        guard let product = add("mul", inputs) else { return nil }
        return add("tanh", [product])
      }
      if chance(20) {
        guard let size = add("softplus", [inputs[1]]), let positive = add("add", [size, one()]) else { return nil }
        return add("div", [inputs[0], positive])
      }
      return add(choose(["add", "sub", "min", "max"]), inputs)
    }
    return add(
      choose([
        "add", "sub", "mul", "min", "max", "div", "fmod", "floor_mod", "bit_and", "bit_or", "bit_xor", "shift_left",
        "shift_right",
      ]),
      inputs)
  }

  mutating func one() -> ValueID { constant(HostTensor(scalar: 1, dtype)) }

  mutating func axes(_ rank: Int) -> [Int] {
    let axes = (0..<rank).filter { _ in chance(50) }
    return axes.isEmpty && rank > 0 ? [number(0...rank - 1)] : axes
  }

  mutating func reduction(_ x: ValueID) -> ValueID? {
    let rank = shape(x).count
    if rank == 0 { return nil }
    if dtype == .f32, chance(25) { return add("softmax", [x], ["axis": .int(number(0...rank - 1))]) }
    if dtype == .i32, chance(25) {
      let axis = number(0...rank - 1)
      if shape(x)[axis].range.contains(0) { return nil }
      let attributes: Attributes = [
        "axis": .int(axis), "keep_dims": .bool(chance(50)), "select_last": .bool(chance(50)),
      ]
      return back(add(choose(["argmax", "argmin"]), [x], attributes))
    }
    let kinds = dtype == .f32 ? ["sum", "mean", "max", "min"] : ["sum", "mean", "max", "min", "prod"]
    let attributes: Attributes = ["axes": .ints(axes(rank)), "keep_dims": .bool(chance(60))]
    return add("reduce_" + choose(kinds), [x], attributes)
  }

  mutating func transposed(_ x: ValueID) -> ValueID? {
    var perm = Array(shape(x).indices)
    for index in perm.indices { perm.swapAt(index, number(index...perm.count - 1)) }
    return add("transpose", [x], ["perm": .ints(perm)])
  }

  mutating func reshaped(_ x: ValueID) -> ValueID? {
    var dims = shape(x)
    switch number(0...3) {
    case 0: dims = [Dim.product(dims)]
    case 1: dims.insert(1, at: number(0...dims.count))
    case 2:
      guard dims.count > 1 else { return nil }
      let at = number(0...dims.count - 2)
      dims.replaceSubrange(at...at + 1, with: [dims[at] * dims[at + 1]])
    default:
      guard let at = dims.indices.first(where: { dims[$0].dividedExactly(by: 2) != nil }),
        let half = dims[at].dividedExactly(by: 2)
      else { return nil }
      dims.replaceSubrange(at...at, with: chance(50) ? [2, half] : [half, 2])
    }
    return add("reshape", [x], ["shape": .dims(dims)])
  }

  mutating func sliced(_ x: ValueID) -> ValueID? {
    var starts: [Dim] = []
    var sizes: [Dim] = []
    var steps: [Int] = []
    for dim in shape(x) {
      if chance(30) {
        starts.append(dim - 1)
        sizes.append(dim)
        steps.append(-1)
        if dim.range.lower < 1 { return nil }
      } else if let size = dim.constantValue, size > 1, chance(60) {
        let step = number(1...2)
        let start = number(0...size - 1)
        starts.append(Dim(start))
        sizes.append(Dim((size - start + step - 1) / step))
        steps.append(step)
      } else {
        starts.append(0)
        sizes.append(dim)
        steps.append(1)
      }
    }
    return add("slice", [x], ["starts": .dims(starts), "sizes": .dims(sizes), "steps": .ints(steps)])
  }

  mutating func padded(_ x: ValueID) -> ValueID? {
    let dims = shape(x)
    let mode = choose(["constant", "constant", "edge", "reflect", "wrap"])
    if mode != "constant", dims.contains(where: { $0.range.lower < 1 }) { return nil }
    let before = dims.map { _ in Dim(chance(50) ? number(1...2) : 0) }
    let after = dims.map { _ in Dim(chance(50) ? number(1...2) : 0) }
    var inputs = [x]
    if mode == "constant" { inputs.append(constant(HostTensor(scalar: Double(number(-3...3)), dtype))) }
    return add("pad", inputs, ["before": .dims(before), "after": .dims(after), "mode": .string(mode)])
  }

  mutating func joined(_ x: ValueID) -> ValueID? {
    let rank = shape(x).count
    if rank == 0 { return nil }
    let axis = number(0...rank - 1)
    let fitting = pool.filter { other in
      shape(other).count == rank && (0..<rank).allSatisfy { $0 == axis || shape(x)[$0] == shape(other)[$0] }
    }
    var parts = [x]
    for _ in 0..<number(1...2) { parts.append(choose(fitting)) }
    return add("concat", parts, ["axis": .int(axis)])
  }

  mutating func repeated(_ x: ValueID) -> ValueID? {
    if chance(50) { return add("tile", [x], ["repeats": .dims(shape(x).map { _ in Dim(number(1...2)) })]) }
    let wide = shape(x).map { $0 == 1 && chance(70) ? dim() : $0 }
    return add("broadcast_to", [x], ["shape": .dims((chance(50) ? [dim()] : []) + wide)])
  }

  mutating func indexed(_ x: ValueID) -> ValueID? {
    let dims = shape(x)
    guard let axis = dims.indices.filter({ (dims[$0].constantValue ?? 0) > 0 }).randomElement(using: &generator),
      let size = dims[axis].constantValue
    else { return nil }
    let indices = (0..<number(1...4)).map { _ in Int64(number(-size...size - 1)) }
    let constant = constant(HostTensor(.i64, [indices.count], int64s: indices))
    return add("gather", [x, constant], ["axis": .int(axis)])
  }

  mutating func running(_ x: ValueID) -> ValueID? {
    let rank = shape(x).count
    if rank == 0 { return nil }
    return add(
      dtype == .i32 && chance(30) ? "cumprod" : "cumsum", [x],
      ["axis": .int(number(0...rank - 1)), "exclusive": .bool(chance(40)), "reverse": .bool(chance(40))])
  }

  mutating func product(_ x: ValueID) -> ValueID? {
    guard shape(x).count >= 2, let depth = shape(x).last else { return nil }
    let fitting = pool.filter { shape($0).count >= 2 && shape($0)[shape($0).count - 2] == depth }
    var right: ValueID?
    if !fitting.isEmpty, chance(60) {
      right = choose(fitting)
    } else if let size = depth.constantValue {
      right = constant(RandomTensor.make(dtype, [size, number(1...9)], seed: generator.next()))
    }
    guard let right, let result = add("matmul", [x, right]) else { return nil }
    return dtype == .f32 ? add("tanh", [result]) : result
  }
}
