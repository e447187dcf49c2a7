import ApusCore
import ApusTesting
import Testing

@Suite struct ComparisonTests {
  private let tolerance = Tolerance(relative: 1e-3, absolute: 1e-7)

  private func compare(_ a: HostTensor, _ b: HostTensor) -> Comparison {
    Comparison.compare(.tensor(a), .tensor(b), tolerance)
  }

  private func floats(_ values: Float...) -> HostTensor { HostTensor(.f32, [values.count], elements: values) }

  @Test func withinAndBeyondTolerance() {
    #expect(compare(floats(1.0009, -2), floats(1, -2)).isEqual)
    let beyond = compare(floats(1, -2.01), floats(1, -2))
    #expect(!beyond.isEqual && beyond.mismatchCount == 1)
    #expect(beyond.difference?.contains("[1]") == true)
    #expect(abs(beyond.maxAbsolute - 0.01) < 1e-6 && abs(beyond.maxRelative - 0.005) < 1e-6)
  }

  @Test func notFinite() {
    #expect(compare(floats(.nan, .infinity, -.infinity), floats(.nan, .infinity, -.infinity)).isEqual)
    #expect(!compare(floats(.nan), floats(0)).isEqual)
    #expect(!compare(floats(0), floats(.nan)).isEqual)
    #expect(!compare(floats(.infinity), floats(-.infinity)).isEqual)
    #expect(!compare(floats(3e38), floats(.infinity)).isEqual)
    #expect(compare(floats(3e38), floats(.infinity)).maxAbsolute == .infinity)
  }

  @Test func integersAreExact() {
    let large = HostTensor(.i64, [1], elements: [Int64.max])
    #expect(compare(large, large).isEqual)
    #expect(!compare(large, HostTensor(.i64, [1], elements: [Int64.max - 1])).isEqual)
    #expect(
      !compare(HostTensor(.u64, [1], elements: [UInt64.max]), HostTensor(.u64, [1], elements: [UInt64(0)])).isEqual)
    #expect(!compare(HostTensor(.bool, [1], int64s: [1]), HostTensor(.bool, [1], int64s: [0])).isEqual)
  }

  @Test func typesAndShapesMustMatch() {
    #expect(!compare(floats(1), HostTensor(.f64, [1], doubles: [1])).isEqual)
    #expect(!compare(floats(1), floats(1).reshaped([1, 1])).isEqual)
    #expect(!compare(HostTensor(strings: ["a"], shape: [1]), HostTensor(strings: ["b"], shape: [1])).isEqual)
  }

  @Test func containers() {
    let type = ValueType.tensor(TensorType(.f32, sizes: [1]))
    let one = HostValue.sequence([.tensor(floats(1))], element: type)
    let two = HostValue.sequence([.tensor(floats(1)), .tensor(floats(2))], element: type)
    let other = HostValue.sequence([.tensor(floats(1)), .tensor(floats(3))], element: type)
    #expect(Comparison.compare(two, two, tolerance).isEqual)
    #expect(!Comparison.compare(one, two, tolerance).isEqual)
    #expect(Comparison.compare(two, other, tolerance).difference?.hasPrefix("[1]") == true)
    #expect(!Comparison.compare(.optional(nil, element: type), .optional(two, element: type), tolerance).isEqual)
    #expect(!Comparison.compare(.tensor(floats(1)), one, tolerance).isEqual)
  }
}
