package import ApusCore
package import ApusGraph

/// Finds the distinct elements, or the distinct slices along one axis.
///
/// - Shapes: x any → y `[count]` (or x's shape with the axis at `count`), first positions `[count]`, which of y each
///   element is `[n]`, how often `[count]`; `count` is a symbol that the operation sets.
/// - Types: y as x (any type); the others i64.
/// - Numerics: `sorted` orders ascending (slices lexicographically), else by first occurrence; NaN equals NaN and comes last.
/// - Source: ONNX Unique-11.
package struct Unique: TensorOperation {
  package let axis: Int?
  package let sorted: Bool
  package let count: Dim

  package init(axis: Int?, sorted: Bool, count: Dim) {
    self.axis = axis
    self.sorted = sorted
    self.count = count
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    axis = attributes["axis"] == nil ? nil : try attributes.int("axis")
    sorted = try attributes.bool("sorted")
    count = try attributes.dim("count")
  }

  package var name: String { "unique" }
  package var attributes: Attributes {
    Attributes((axis.map { [("axis", .int($0))] } ?? []) + [("sorted", .bool(sorted)), ("count", .dim(count))])
  }
  package var boundSymbols: [Symbol] { Self.symbols([count]) }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    var shape = [count]
    var size = x[0].elementCount
    if let axis {
      try expectAxis(axis, rank: x[0].rank)
      shape = x[0].shape
      size = shape[axis]
      shape[axis] = count
    }
    return [
      x[0].with(shape: shape), TensorType(.i64, [count]), TensorType(.i64, [size]), TensorType(.i64, [count]),
    ]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    let split = axis.map { AxisSplit(x[0].shape, axis: $0) } ?? AxisSplit([x[0].elementCount], axis: 0)
    let order = SliceOrder(x[0], split)
    let ranked = (0..<split.count).sorted { order.compare($0, $1) < 0 }
    var groups: [[Int]] = []
    for index in ranked {
      if let first = groups.last?.first, order.compare(first, index) == 0 {
        groups[groups.count - 1].append(index)
      } else {
        groups.append([index])
      }
    }
    var firsts = groups.map { $0.min() ?? 0 }
    if !sorted {
      let byFirst = groups.indices.sorted { firsts[$0] < firsts[$1] }
      groups = byFirst.map { groups[$0] }
      firsts = byFirst.map { firsts[$0] }
    }
    var inverse = [Int64](repeating: 0, count: split.count)
    for (group, members) in groups.enumerated() { for index in members { inverse[index] = Int64(group) } }
    var sources: [Int] = []
    for outer in 0..<split.outer {
      for index in firsts {
        let start = (outer * split.count + index) * split.inner
        sources.append(contentsOf: start..<start + split.inner)
      }
    }
    var shape = [firsts.count]
    if let axis {
      shape = x[0].shape
      shape[axis] = firsts.count
    }
    return [
      x[0].gathering(sources, shape: shape), HostTensor(.i64, [firsts.count], elements: firsts.map(Int64.init)),
      HostTensor(.i64, [split.count], elements: inverse),
      HostTensor(.i64, [firsts.count], elements: groups.map { Int64($0.count) }),
    ]
  }
}

/// Compares the slices of a tensor along one axis lexicographically.
private struct SliceOrder {
  private let split: AxisSplit
  private let compareElements: (Int, Int) -> Int

  init(_ x: HostTensor, _ split: AxisSplit) {
    self.split = split
    if x.dtype == .string {
      let values = x.strings.map { Array($0.utf8) }
      compareElements = { a, b in
        values[a] == values[b] ? 0 : (values[a].lexicographicallyPrecedes(values[b]) ? -1 : 1)
      }
    } else if x.dtype.isFloat {
      let values = x.doubles
      compareElements = { a, b in
        let (a, b) = (values[a], values[b])
        if a.isNaN || b.isNaN { return a.isNaN ? (b.isNaN ? 0 : 1) : -1 }
        return a < b ? -1 : (a > b ? 1 : 0)
      }
    } else {
      let flip: UInt64 = x.dtype == .u64 ? 0 : 1 << 63
      let values = x.int64s.map { UInt64(bitPattern: $0) ^ flip }
      compareElements = { a, b in values[a] < values[b] ? -1 : (values[a] > values[b] ? 1 : 0) }
    }
  }

  /// Negative, zero or positive as slice `a` comes before, equals or follows slice `b`.
  func compare(_ a: Int, _ b: Int) -> Int {
    for outer in 0..<split.outer {
      let (left, right) = ((outer * split.count + a) * split.inner, (outer * split.count + b) * split.inner)
      for inner in 0..<split.inner {
        let order = compareElements(left + inner, right + inner)
        if order != 0 { return order }
      }
    }
    return 0
  }
}
