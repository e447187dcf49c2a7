#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Discrete Fourier transforms of one length in f64.
///
/// Powers of two by radix-2 butterflies, short lengths by the definition, others as a convolution of a power of two.
/// Source: Cooley & Tukey 1965; Bluestein 1970.
struct FourierTransform {
  let length: Int
  /// cos and sin of −2πk / length.
  private let roots: [SIMD2<Double>]

  init(length: Int) {
    self.length = length
    roots = (0..<max(length, 1)).map { Self.root($0, max(length, 1)) }
  }

  private static func root(_ k: Int, _ length: Int) -> SIMD2<Double> {
    let angle = -2 * Double.pi * Double(k) / Double(length)
    return SIMD2(cos(angle), sin(angle))
  }

  private static func product(_ a: SIMD2<Double>, _ b: SIMD2<Double>) -> SIMD2<Double> {
    SIMD2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x)
  }

  /// Transforms `length` complex numbers; the inverse divides by the length.
  func callAsFunction(_ x: [SIMD2<Double>], inverse: Bool = false) -> [SIMD2<Double>] {
    if length <= 1 { return x }
    if inverse {
      // Conjugating before and after turns the forward transform into the inverse one.
      let turned = callAsFunction(x.map { SIMD2($0.x, -$0.y) })
      return turned.map { SIMD2($0.x, -$0.y) / Double(length) }
    }
    if length & (length - 1) == 0 { return butterflies(x) }
    return length <= 64 ? definition(x) : convolution(x)
  }

  private func definition(_ x: [SIMD2<Double>]) -> [SIMD2<Double>] {
    (0..<length).map { k in
      var sum = SIMD2<Double>()
      var turn = 0
      for value in x {
        sum += Self.product(value, roots[turn])
        turn += k
        if turn >= length { turn -= length }
      }
      return sum
    }
  }

  private func butterflies(_ x: [SIMD2<Double>]) -> [SIMD2<Double>] {
    let bits = length.trailingZeroBitCount
    var values = (0..<length).map { index -> SIMD2<Double> in
      var (rest, reversed) = (index, 0)
      for _ in 0..<bits {
        reversed = reversed << 1 | rest & 1
        rest >>= 1
      }
      return x[reversed]
    }
    var half = 1
    while half < length {
      let stride = length / (2 * half)
      for block in Swift.stride(from: 0, to: length, by: 2 * half) {
        for offset in 0..<half {
          let odd = Self.product(values[block + half + offset], roots[offset * stride])
          let even = values[block + offset]
          values[block + offset] = even + odd
          values[block + half + offset] = even - odd
        }
      }
      half *= 2
    }
    return values
  }

  private func convolution(_ x: [SIMD2<Double>]) -> [SIMD2<Double>] {
    var padded = 1
    while padded < 2 * length - 1 { padded *= 2 }
    let transform = FourierTransform(length: padded)
    // k² / 2 as an angle, reduced modulo the period while it is an integer.
    let chirp = (0..<length).map { k in
      Self.root(k.multipliedReportingOverflow(by: k).partialValue % (2 * length), 2 * length)
    }
    var signal = [SIMD2<Double>](repeating: .zero, count: padded)
    var filter = signal
    for k in 0..<length {
      signal[k] = Self.product(x[k], chirp[k])
      filter[k] = SIMD2(chirp[k].x, -chirp[k].y)
      if k > 0 { filter[padded - k] = filter[k] }
    }
    let spectrum = zip(transform(signal), transform(filter)).map { Self.product($0, $1) }
    let result = transform(spectrum, inverse: true)
    return (0..<length).map { Self.product(result[$0], chirp[$0]) }
  }
}
