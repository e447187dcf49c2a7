import ApusCore
import ApusGraph

/// Operators that move elements without computing with them, and those that read and make shapes.
enum MovementOperators {
  static let table: [String: Lowering] = [
    "Identity": identity, "Cast": cast, "CastLike": castLike, "BitCast": bitCast, "Reshape": reshape,
    "Flatten": flatten, "Squeeze": squeeze, "Unsqueeze": unsqueeze, "Transpose": transpose, "Expand": expand,
    "Concat": concat, "Split": split, "Tile": tile, "Shape": shape, "Size": size, "DepthToSpace": depthToSpace,
    "SpaceToDepth": spaceToDepth,
  ]

  private static func identity(_ n: NodeContext) throws(ImportError) -> [ValueID] { [try n.input(0)] }

  // MARK: Element types

  private static func cast(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let target = try DType.onnx(n.int("to"))
    return [try cast(n, to: target)]
  }

  private static func cast(_ n: NodeContext, to target: DType) throws(ImportError) -> ValueID {
    let x = try n.input(0)
    let mode = try n.string("round_mode", "up")
    if target == .f8e8m0, mode != "up" { throw .unsupported("round_mode '\(mode)'") }
    return try n.cast(x, target, saturate: n.flag("saturate", true))
  }

  private static func castLike(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    [try cast(n, to: n.dtype(n.input(1)))]
  }

  private static func bitCast(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let target = try DType.onnx(n.int("to"))
    guard try n.dtype(x).bitWidth == target.bitWidth, target != .string else {
      throw ImportError("APUS-I-0013", "elements of \(try n.dtype(x)) and \(target) differ in width")
    }
    if try n.dtype(x) == target { return [x] }
    if try n.dtype(x) == .bool {
      let bits = try n.cast(x, .u8)
      return [target == .u8 ? bits : try n.emit("bit_cast", ["to": .dtype(target)], bits)]
    }
    return [try n.emit("bit_cast", ["to": .dtype(target)], x)]
  }

  // MARK: Shapes

  private static func reshape(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let requested: [Dim]
    if n.opset < 5, let shape = try n.optionalInts("shape") {
      requested = shape.map { Dim($0) }
    } else {
      requested = try n.sizes(n.input(1), "shape", range: Interval(-1, .max))
    }
    let allowsZero = try n.flag("allowzero")
    let input = try n.shape(x)
    let hasOpen = requested.contains { isOpen(n, $0, allowsZero) }
    if let shape = try resolved(requested, of: input, allowsZero: allowsZero, hasOpen: hasOpen) {
      return [try n.reshape(x, shape)]
    }
    return [try n.reshape(x, dynamic(n, requested, of: input, allowsZero: allowsZero))]
  }

  /// Whether an entry may turn out to be −1, or an element of an input to be the 0 that copies a size.
  private static func isOpen(_ n: NodeContext, _ dim: Dim, _ allowsZero: Bool) -> Bool {
    if dim.isConstant { return false }
    if dim.range.lower < 0 { return true }
    return !allowsZero && dim.range.lower == 0 && dim.symbols.contains { n.session.symbols.elements.contains($0.name) }
  }

  /// The shape that a Reshape asks for, with −1 (the rest) and 0 (as in the input) replaced; nil when it is known only
  /// while running which entries these are.
  private static func resolved(
    _ requested: [Dim], of input: Shape, allowsZero: Bool, hasOpen: Bool
  ) throws(ImportError) -> Shape? {
    var shape = requested
    var rest: Int?
    for (axis, dim) in requested.enumerated() {
      if dim == 0, !allowsZero {
        guard axis < input.count else {
          throw ImportError("APUS-I-0013", "shape entry \(axis) is 0 but the input has rank \(input.count)")
        }
        shape[axis] = input[axis]
      } else if dim == -1 {
        if rest != nil { throw ImportError("APUS-I-0013", "two entries of the shape are -1") }
        rest = axis
      } else if let value = dim.constantValue, value < 0 {
        throw ImportError("APUS-I-0013", "shape entry \(axis) is \(value)")
      }
    }
    if let rest {
      shape[rest] = 1
      shape[rest] = try quotient(Dim.product(input), Dim.product(shape))
      return shape
    }
    return hasOpen ? nil : shape
  }

  private static func quotient(_ total: Dim, _ known: Dim) throws(ImportError) -> Dim {
    if known == 0 {
      if total == 0 { return 0 }
      throw ImportError("APUS-I-0013", "the size for -1 cannot be found: the other sizes are 0")
    }
    if let exact = total.dividedExactly(by: known) { return exact }
    if let a = total.constantValue, let b = known.constantValue {
      throw ImportError("APUS-I-0013", "\(a) elements do not fit a shape of \(b) times -1")
    }
    return total.floorDivided(by: known)
  }

  /// The shape where entries are only known when running: each may turn out to be −1 or 0.
  private static func dynamic(
    _ n: NodeContext, _ requested: [Dim], of input: Shape, allowsZero: Bool
  ) throws(ImportError) -> Shape {
    let copied = requested.enumerated().map { axis, dim in
      allowsZero || axis >= input.count || dim.range.lower > 0
        ? Dim(0) : (1 - Dim.minimum(Dim.maximum(dim, -dim), 1)) * input[axis]
    }
    // A factor of 1 stands for −1.
    let factors = zip(requested, copied).map { Dim.maximum($0, -$0) + $1 }
    let known = try n.settled(Dim.product(factors), "known")
    let rest = try n.settled(Dim.product(input).floorDivided(by: Dim.maximum(known, 1)), "rest")
    return zip(requested, copied).map { dim, copy in
      if dim == 0 { return copy }
      return isOpen(n, dim, allowsZero) ? Dim.maximum(dim, 0) + copy + Dim.maximum(-dim, 0) * rest : dim
    }
  }

  private static func flatten(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let shape = try n.shape(x)
    let given = try n.int("axis", 1)
    let axis = given < 0 ? given + shape.count : given
    guard axis >= 0, axis <= shape.count else {
      throw ImportError("APUS-I-0013", "axis \(given) is outside rank \(shape.count)")
    }
    return [try n.reshape(x, [Dim.product(shape[..<axis]), Dim.product(shape[axis...])])]
  }

  /// The node's axes: an attribute before operator set 13, an input since.
  private static func axes(_ n: NodeContext) throws(ImportError) -> [Int]? {
    if let input = n.optional(1) { return try n.requireInts(input, "axes") }
    return try n.optionalInts("axes")
  }

  private static func squeeze(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    if let axes = try axes(n) { return [try n.squeeze(x, axes)] }
    let shape = try n.shape(x)
    if let dim = shape.first(where: { !$0.isConstant }) {
      throw ImportError(
        "APUS-I-0015", "without axes all dims of 1 are squeezed away, but the dim \(dim) is not known",
        hint: "Give the input's shape with --shape, or the node its axes.")
    }
    return [try n.squeeze(x, shape.indices.filter { shape[$0] == 1 })]
  }

  private static func unsqueeze(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    guard let axes = try axes(n) else { throw ImportError("APUS-I-0012", "axes are missing") }
    return [try n.unsqueeze(n.input(0), axes)]
  }

  private static func transpose(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let rank = try n.rank(x)
    let permutation = try n.optionalInts("perm") ?? Array((0..<rank).reversed())
    guard permutation.sorted() == Array(0..<rank) else {
      throw ImportError("APUS-I-0012", "perm \(permutation) is no order of \(rank) axes")
    }
    return [try n.transpose(x, permutation)]
  }

  private static func expand(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let target = try n.sizes(n.input(1), "shape")
    return [try n.broadcast(x, n.broadcastShape([n.shape(x), target]))]
  }

  private static func tile(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let shape = try n.shape(x)
    var repeats: [Dim]
    if n.opset < 6 {
      repeats = Shape(repeating: 1, count: shape.count)
      let axis = try n.normalized(n.requireInt(n.input(2), "axis"), rank: shape.count)
      repeats[axis] = try n.size(n.input(1), "tiles")
    } else {
      repeats = try n.sizes(n.input(1), "repeats")
    }
    guard repeats.count == shape.count else {
      throw ImportError("APUS-I-0013", "\(repeats.count) repeats are given for rank \(shape.count)")
    }
    if repeats.allSatisfy({ $0 == 1 }) { return [x] }
    return [try n.emit("tile", ["repeats": .dims(repeats)], x)]
  }

  // MARK: Joining and splitting

  private static func concat(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let parts = try n.allInputs()
    let axis = try n.normalized(n.opset < 4 ? n.int("axis", 1) : n.int("axis"), rank: n.rank(parts[0]))
    return [try n.concat(parts, axis: axis)]
  }

  private static func split(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let shape = try n.shape(x)
    let axis = try n.normalized(n.int("axis", 0), rank: shape.count)
    let sizes = try partSizes(n, shape[axis])
    var results: [ValueID] = []
    var start: Dim = 0
    for size in sizes {
      results.append(try n.slice(x, axis: axis, start: start, size: size))
      start = start + size
    }
    return results
  }

  private static func partSizes(_ n: NodeContext, _ total: Dim) throws(ImportError) -> [Dim] {
    if let input = n.optional(1) {
      let sizes = try n.sizes(input, "split")
      if let whole = Dim.sum(sizes).constantValue, let total = total.constantValue, whole != total {
        throw ImportError("APUS-I-0013", "the parts are \(whole) long together, the axis is \(total)")
      }
      return sizes
    }
    if let sizes = try n.optionalInts("split") {
      guard sizes.allSatisfy({ $0 >= 0 }) else { throw ImportError("APUS-I-0012", "split \(sizes) is negative") }
      return sizes.map { Dim($0) }
    }
    let count = try n.int("num_outputs", n.node.output.count)
    guard count > 0, count <= 65536 else { throw ImportError("APUS-I-0012", "num_outputs is \(count)") }
    let part = total.ceilDivided(by: Dim(count))
    return (0..<count).map { index in
      let left = total - Dim(index) * part
      return total.dividedExactly(by: Dim(count)) ?? Dim.maximum(Dim.minimum(left, part), 0)
    }
  }

  // MARK: Reading shapes

  private static func shape(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let shape = try n.shape(n.input(0))
    let count = shape.count
    func bound(_ value: Int) -> Int { min(max(value < 0 ? saturatingAdd(value, count) : value, 0), count) }
    let start = bound(try n.int("start", 0))
    let end = bound(try n.int("end", count))
    let part = start < end ? Array(shape[start..<end]) : []
    return [try sizes(n, part)]
  }

  /// A vector of sizes as an i64 tensor; a constant where all are known.
  static func sizes(_ n: NodeContext, _ dims: [Dim]) throws(ImportError) -> ValueID {
    let known = dims.compactMap { $0.constantValue.map { Int64($0) } }
    if known.count == dims.count { return n.constant(HostTensor(.i64, [known.count], int64s: known)) }
    return try n.emit("sizes", ["dims": .dims(dims)])
  }

  private static func size(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    [try n.value(of: n.type(n.input(0)).elementCount, .i64)]
  }

  // MARK: Blocks

  private static func blockSize(_ n: NodeContext) throws(ImportError) -> Int {
    let size = try n.int("blocksize")
    guard size > 0, size < 1 << 20 else { throw ImportError("APUS-I-0012", "blocksize is \(size)") }
    return size
  }

  private static func depthToSpace(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let shape = try n.shape(x, rank: 4, "the input")
    let block = Dim(try blockSize(n))
    let depth = try quotient(shape[1], block * block)
    let mode = try n.choice("mode", ["DCR", "CRD"], default: "DCR")
    let (split, order): (Shape, [Int]) =
      mode == "DCR"
      ? ([shape[0], block, block, depth, shape[2], shape[3]], [0, 3, 4, 1, 5, 2])
      : ([shape[0], depth, block, block, shape[2], shape[3]], [0, 1, 4, 2, 5, 3])
    let moved = try n.transpose(n.reshape(x, split), order)
    return [try n.reshape(moved, [shape[0], depth, shape[2] * block, shape[3] * block])]
  }

  private static func spaceToDepth(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let shape = try n.shape(x, rank: 4, "the input")
    let block = Dim(try blockSize(n))
    let height = try quotient(shape[2], block)
    let width = try quotient(shape[3], block)
    let split = try n.reshape(x, [shape[0], shape[1], height, block, width, block])
    let mode = try n.choice("mode", ["DCR", "CRD"], default: "DCR")
    return [
      try n.reshape(
        n.transpose(split, mode == "DCR" ? [0, 3, 5, 1, 2, 4] : [0, 1, 3, 5, 2, 4]),
        [shape[0], shape[1] * block * block, height, width])
    ]
  }
}
