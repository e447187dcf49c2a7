/// Linear indices of source elements in the order of a result's elements: what movement is.
enum IndexMap {
  /// `offset + Σ coordinate · stride` for every coordinate of `shape`.
  static func strided(shape: [Int], strides: [Int], offset: Int = 0) -> [Int] {
    if shape.contains(0) { return [] }
    var indices = [offset]
    for (size, stride) in zip(shape, strides) where size != 1 {
      var next: [Int] = []
      next.reserveCapacity(indices.count * size)
      for base in indices { for step in 0..<size { next.append(base + step * stride) } }
      indices = next
    }
    return indices
  }

  /// The sum of one entry of each axis' table for every coordinate; a negative entry makes the whole index −1, which
  /// stands for no source element.
  static func combining(_ tables: [[Int]]) -> [Int] {
    var indices = [0]
    for table in tables {
      var next: [Int] = []
      next.reserveCapacity(indices.count * table.count)
      for base in indices { for entry in table { next.append(base < 0 || entry < 0 ? -1 : base + entry) } }
      indices = next
    }
    return indices
  }
}
