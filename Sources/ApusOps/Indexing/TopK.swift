package import ApusCore
package import ApusGraph

/// Finds the `k` largest (or smallest) elements along one axis, and where they are.
///
/// - Shapes: x `[…, n, …]` → values and indices `[…, k, …]`, k ≤ n.
/// - Types: values as x (numeric or bool), indices i64.
/// - Numerics: of equal elements the one of lower index comes first; NaN counts as largest. Results are always sorted,
///   `sorted` records what the model asked for.
/// - Throws: ``EvaluationError`` `APUS-V-0203` when k is larger than the axis.
/// - Source: ONNX TopK-24.
package struct TopK: TensorOperation {
  package let axis: Int
  package let k: Dim
  package let largest: Bool
  package let sorted: Bool

  package init(axis: Int, k: Dim, largest: Bool = true, sorted: Bool = true) {
    self.axis = axis
    self.k = k
    self.largest = largest
    self.sorted = sorted
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    axis = try attributes.int("axis")
    k = try attributes.dim("k")
    largest = try attributes.bool("largest")
    sorted = try attributes.bool("sorted")
  }

  package var name: String { "top_k" }
  package var attributes: Attributes {
    ["axis": .int(axis), "k": .dim(k), "largest": .bool(largest), "sorted": .bool(sorted)]
  }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    try expectAxis(axis, rank: x[0].rank)
    guard x[0].dtype != .string else { throw shapeError("APUS-S-0204", "strings have no order") }
    if k.range.upper < 0 || (x[0].shape[axis] - k).range.upper < 0 {
      throw shapeError("APUS-S-0205", "k = \(k) is outside 0 ... \(x[0].shape[axis])")
    }
    var shape = x[0].shape
    shape[axis] = k
    return [x[0].with(shape: shape), TensorType(.i64, shape)]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    let split = AxisSplit(x[0].shape, axis: axis)
    guard let k = k.constantValue, k >= 0, k <= split.count else {
      throw evaluationError("APUS-V-0203", "k = \(k) is outside 0 ... \(split.count)")
    }
    var lines: [[Int]]
    if x[0].dtype.isFloat {
      let keys = x[0].doubles.map { largest ? ($0.isNaN ? -.infinity : -$0) : ($0.isNaN ? .infinity : $0) }
      lines = best(keys, split, k)
    } else {
      // Order-preserving map of the integer onto an unsigned one, turned round for the largest.
      let isUnsigned = x[0].dtype == .u64
      let keys = x[0].int64s.map { value -> UInt64 in
        let bits = isUnsigned ? UInt64(bitPattern: value) : UInt64(bitPattern: value) ^ (1 << 63)
        return largest ? ~bits : bits
      }
      lines = best(keys, split, k)
    }
    var shape = x[0].shape
    shape[axis] = k
    var positions = [Int64](repeating: 0, count: split.outer * k * split.inner)
    var sources = [Int](repeating: 0, count: positions.count)
    for outer in 0..<split.outer {
      for inner in 0..<split.inner {
        for (rank, index) in lines[outer * split.inner + inner].enumerated() {
          let target = (outer * k + rank) * split.inner + inner
          positions[target] = Int64(index)
          sources[target] = (outer * split.count + index) * split.inner + inner
        }
      }
    }
    lines = []
    return [x[0].gathering(sources, shape: shape), HostTensor(.i64, shape, elements: positions)]
  }

  /// Per line along the axis, the positions of the `k` smallest keys in order.
  private func best<Key: Comparable>(_ keys: [Key], _ split: AxisSplit, _ k: Int) -> [[Int]] {
    var lines: [[Int]] = []
    for outer in 0..<split.outer {
      for inner in 0..<split.inner {
        let base = outer * split.count * split.inner + inner
        let key = { (index: Int) in keys[base + index * split.inner] }
        if k * 16 > split.count {
          // Swift's sort is stable: of equal keys the lower index stays first.
          lines.append(Array((0..<split.count).sorted { key($0) < key($1) }.prefix(k)))
        } else {
          lines.append(smallest(split.count, k, key))
        }
      }
    }
    return lines
  }

  /// Keeps a sorted list of the `k` smallest while scanning once.
  private func smallest<Key: Comparable>(_ count: Int, _ k: Int, _ key: (Int) -> Key) -> [Int] {
    guard k > 0 else { return [] }
    var kept: [(key: Key, index: Int)] = []
    kept.reserveCapacity(k + 1)
    for index in 0..<count {
      let candidate = key(index)
      if kept.count == k, let last = kept.last, !(candidate < last.key) { continue }
      var (low, high) = (0, kept.count)
      while low < high {
        let middle = (low + high) / 2
        if candidate < kept[middle].key { high = middle } else { low = middle + 1 }
      }
      kept.insert((candidate, index), at: low)
      if kept.count > k { kept.removeLast() }
    }
    return kept.map(\.index)
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { x[0].tensor?.elementCount ?? 0 }
}
