import ApusCore
import ApusGraph

/// Checks of the operations that take indices or several kinds of operands.
extension Operation {
  func attributeError(_ message: String, hint: String = "") -> GraphError {
    GraphError("APUS-G-0201", "\(name): \(message)", hint: hint)
  }

  func expectOperands(_ x: [ValueType], _ counts: ClosedRange<Int>) throws(ShapeError) {
    if counts.contains(x.count) { return }
    throw shapeError("APUS-S-0010", "\(counts.lowerBound) operands or more are expected, \(x.count) given")
  }

  /// Refuses operands that `infer` does not accept with the sizes they really have.
  func validate(_ x: [HostTensor]) throws(EvaluationError) {
    do { _ = try infer(x.map { .tensor($0.type) }) } catch { throw EvaluationError(problems: error.problems) }
  }

  func expectRank(_ x: TensorType, _ ranks: ClosedRange<Int>, _ what: String) throws(ShapeError) {
    guard ranks.contains(x.rank) else {
      let expected = ranks.count == 1 ? "\(ranks.lowerBound)" : "\(ranks.lowerBound) or more"
      throw shapeError("APUS-S-0202", "\(what) is \(x), a rank of \(expected) is expected")
    }
  }

  func expectAxis(_ axis: Int, rank: Int) throws(ShapeError) {
    guard axis >= 0 && axis < rank else {
      throw shapeError("APUS-S-0203", "axis \(axis) is outside 0 ..< \(rank)")
    }
  }

  func expectIndices(_ x: TensorType, _ what: String) throws(ShapeError) {
    guard x.dtype == .i64 || x.dtype == .i32 else {
      throw shapeError("APUS-S-0204", "\(what) is \(x), i64 or i32 is expected")
    }
  }

  func expectFloat(_ x: TensorType, _ what: String) throws(ShapeError) {
    guard x.dtype.isFloat else { throw shapeError("APUS-S-0204", "\(what) is \(x), a float type is expected") }
  }

  func expectString(_ x: TensorType, _ what: String) throws(ShapeError) {
    guard x.dtype == .string else { throw shapeError("APUS-S-0204", "\(what) is \(x), strings are expected") }
  }

  /// Refuses sizes that cannot be equal whatever the symbols are.
  func expectEqual(_ x: Dim, _ y: Dim, _ what: String) throws(ShapeError) {
    if let difference = (x - y).constantValue, difference != 0 {
      throw shapeError("APUS-S-0205", "\(what): \(x) and \(y) differ")
    }
  }

  func expectConstant(_ dim: Dim, _ what: String) throws(ShapeError) -> Int {
    guard let value = dim.constantValue, value >= 0 else {
      throw shapeError("APUS-S-0206", "\(what) must be known before running, found \(dim)")
    }
    return value
  }

  /// Symbols among sizes that this operation sets.
  static func symbols(_ dims: [Dim]) -> [Symbol] { dims.compactMap(\.asSymbol) }
}

/// How a tensor divides around one axis: `outer` blocks of `count` slices of `inner` elements.
struct AxisSplit {
  let outer: Int
  let count: Int
  let inner: Int

  init(_ shape: [Int], axis: Int) {
    outer = shape[..<axis].reduce(1, saturatingMultiply)
    count = shape[axis]
    inner = shape[(axis + 1)...].reduce(1, saturatingMultiply)
  }
}

/// Calls `body` for every coordinate of `shape`, the last axis fastest.
func forEachCoordinate(_ shape: [Int], _ body: ([Int]) -> Void) {
  guard shape.allSatisfy({ $0 > 0 }) else { return }
  var coordinate = [Int](repeating: 0, count: shape.count)
  while true {
    body(coordinate)
    var axis = shape.count - 1
    while axis >= 0 {
      coordinate[axis] += 1
      if coordinate[axis] < shape[axis] { break }
      coordinate[axis] = 0
      axis -= 1
    }
    if axis < 0 { return }
  }
}

/// The elements of an integer tensor when all are known and constant.
func knownInts(_ dims: [Dim]?) -> [Int]? {
  guard let dims else { return nil }
  let values = dims.compactMap(\.constantValue)
  return values.count == dims.count ? values : nil
}
