package import ApusCore

/// Tensors of made-up elements that depend on a seed only.
package enum RandomTensor {
  /// SplitMix64.
  ///
  /// - Source: Steele, Lea & Flood, Fast Splittable Pseudorandom Number Generators, 2014.
  package struct Generator: RandomNumberGenerator {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
      state &+= 0x9e37_79b9_7f4a_7c15
      var value = state
      value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
      value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
      return value ^ (value >> 31)
    }
  }

  /// Elements that are drawn; odd, so that rows differ.
  private static let period = (1 << 20) - 1

  /// Elements drawn evenly from a range: −2 … 2 for floats, −9 … 9 for integers (0 … 9 for unsigned ones) where none is
  /// given. Strings are a few letters. After the first million elements they repeat.
  package static func make(
    _ dtype: DType, _ shape: [Int], seed: UInt64, range: ClosedRange<Double>? = nil
  ) -> HostTensor {
    var generator = Generator(seed: seed)
    let count = shape.reduce(1, saturatingMultiply)
    if count > period, dtype != .string {
      let start = make(dtype, [period], seed: seed, range: range)
      return HostTensor(dtype, shape) { bytes in
        start.withUnsafeBytes { source in
          var offset = 0
          while offset < bytes.count {
            let part = min(source.count, bytes.count - offset)
            UnsafeMutableRawBufferPointer(rebasing: bytes[offset..<offset + part])
              .copyMemory(from: UnsafeRawBufferPointer(rebasing: source[..<part]))
            offset += part
          }
        }
      }
    }
    switch dtype {
    case .string:
      let letters = Array("abcXY z")
      let strings = (0..<count).map { _ in
        String(
          (0..<Int.random(in: 0...4, using: &generator)).map { _ in
            letters[Int.random(in: 0..<letters.count, using: &generator)]
          })
      }
      return HostTensor(strings: strings, shape: shape)
    case .bool:
      return HostTensor(dtype, shape, elements: (0..<count).map { _ in UInt8.random(in: 0...1, using: &generator) })
    case _ where dtype.isFloat:
      let range = range ?? -2...2
      return HostTensor(dtype, shape, doubles: (0..<count).map { _ in Double.random(in: range, using: &generator) })
    default:
      let range = range ?? (dtype.isUnsignedInteger ? 0...9 : -9...9)
      let bounds = Int64(range.lowerBound.rounded(.up))...Int64(range.upperBound.rounded(.down))
      return HostTensor(dtype, shape, int64s: (0..<count).map { _ in Int64.random(in: bounds, using: &generator) })
    }
  }
}
