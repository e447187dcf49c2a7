package import ApusCore

/// How far a number may be from the expected one: `|a − b| ≤ absolute + relative · |b|`.
package struct Tolerance: Sendable, Hashable {
  package var relative: Double
  package var absolute: Double

  package init(relative: Double, absolute: Double) {
    self.relative = relative
    self.absolute = absolute
  }

  /// What the ONNX backend tests use where a case says nothing else.
  package static let conformance = Tolerance(relative: 1e-3, absolute: 1e-7)
}

/// What the comparison of a value with the expected one found.
package struct Comparison: Sendable {
  /// Largest `|a − b|` over all numbers; infinite where one of both is not finite and they differ.
  package var maxAbsolute = 0.0
  /// Largest `|a − b|` divided by the largest `|b|`, which says more than element by element where elements are near 0.
  package var maxRelative = 0.0
  /// Elements beyond the tolerance.
  package var mismatchCount = 0
  package var elementCount = 0
  /// What differs first: type, shape, or an element; nil when all agree.
  package var difference: String?

  package var isEqual: Bool { difference == nil }
}

extension Comparison {
  /// Compares values as `numpy.allclose(…, equal_nan=True)` does; integers, bool and strings exactly; containers element
  /// by element; types and shapes must be the same.
  package static func compare(_ actual: HostValue, _ expected: HostValue, _ tolerance: Tolerance) -> Comparison {
    var comparison = Comparison()
    comparison.add(actual, expected, tolerance, place: "")
    return comparison
  }

  private mutating func differ(_ place: String, _ text: @autoclosure () -> String) {
    if difference == nil { difference = place.isEmpty ? text() : "\(place): \(text())" }
  }

  private mutating func add(_ actual: HostValue, _ expected: HostValue, _ tolerance: Tolerance, place: String) {
    switch (actual, expected) {
    case (.tensor(let a), .tensor(let b)): add(a, b, tolerance, place: place)
    case (.sequence(let a, _), .sequence(let b, _)):
      if a.count != b.count { return differ(place, "\(a.count) elements, \(b.count) expected") }
      for (index, (x, y)) in zip(a, b).enumerated() { add(x, y, tolerance, place: "\(place)[\(index)]") }
    case (.optional(let a, _), .optional(let b, _)):
      switch (a, b) {
      case (nil, nil): break
      case (let a?, let b?): add(a, b, tolerance, place: place)
      default: differ(place, a == nil ? "nothing, a value is expected" : "a value, nothing is expected")
      }
    default: differ(place, "a \(actual.type), \(expected.type) expected")
    }
  }

  private mutating func add(_ a: HostTensor, _ b: HostTensor, _ tolerance: Tolerance, place: String) {
    elementCount += b.elementCount
    if a.dtype != b.dtype || a.shape != b.shape {
      mismatchCount += b.elementCount
      return differ(place, "\(a.type), \(b.type) expected")
    }
    switch a.dtype {
    case .string:
      for (index, (x, y)) in zip(a.strings, b.strings).enumerated() where x != y {
        mismatchCount += 1
        differ(place, "element \(Self.coordinates(index, a.shape)) is \"\(x)\", \"\(y)\" expected")
      }
    case .bool: addIntegers(a.int64s.map { $0 != 0 ? 1 : 0 }, b.int64s.map { $0 != 0 ? 1 : 0 }, a.shape, place)
    case .u64: addIntegers(a.elements(as: UInt64.self), b.elements(as: UInt64.self), a.shape, place)
    case _ where a.dtype.isFloat: addFloats(a.doubles, b.doubles, a.shape, tolerance, place)
    default: addIntegers(a.int64s, b.int64s, a.shape, place)
    }
  }

  private mutating func addIntegers<Number: FixedWidthInteger>(
    _ a: [Number], _ b: [Number], _ shape: [Int], _ place: String
  ) {
    var largest = 0.0
    var error = 0.0
    for index in b.indices {
      largest = max(largest, Double(b[index]).magnitude)
      if a[index] == b[index] { continue }
      mismatchCount += 1
      error = max(error, (Double(a[index]) - Double(b[index])).magnitude)
      differ(place, "element \(Self.coordinates(index, shape)) is \(a[index]), \(b[index]) expected")
    }
    note(error, largest)
  }

  private mutating func addFloats(
    _ a: [Double], _ b: [Double], _ shape: [Int], _ tolerance: Tolerance, _ place: String
  ) {
    var largest = 0.0
    var error = 0.0
    for index in b.indices {
      let (x, y) = (a[index], b[index])
      if y.isFinite { largest = max(largest, y.magnitude) }
      if x == y || (x.isNaN && y.isNaN) { continue }
      let distance = x.isFinite && y.isFinite ? (x - y).magnitude : .infinity
      error = max(error, distance)
      if distance <= tolerance.absolute + tolerance.relative * y.magnitude, distance.isFinite { continue }
      mismatchCount += 1
      differ(place, "element \(Self.coordinates(index, shape)) is \(x), \(y) expected")
    }
    note(error, largest)
  }

  private mutating func note(_ error: Double, _ largest: Double) {
    maxAbsolute = max(maxAbsolute, error)
    if error > 0 { maxRelative = max(maxRelative, largest > 0 ? error / largest : .infinity) }
  }

  private static func coordinates(_ index: Int, _ shape: [Int]) -> [Int] {
    var rest = index
    var coordinates: [Int] = []
    for size in shape.reversed() where size > 0 {
      coordinates.append(rest % size)
      rest /= size
    }
    return coordinates.reversed()
  }
}
