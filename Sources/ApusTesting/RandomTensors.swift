package import ApusCore

/// Random numbers that are the same for the same seed on every machine (SplitMix64).
package struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  package init(seed: UInt64) { state = seed }

  /// A stream of its own for each name, so that adding an input changes no other.
  package init(seed: UInt64, name: String) {
    state = name.utf8.reduce(seed ^ 0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
  }

  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}

/// Makes inputs for models that nobody gave any.
package enum RandomTensors {
  /// The values ``make(_:_:using:)`` draws from, in words.
  package static func range(of dtype: DType) -> String {
    switch dtype {
    case .bool: "false or true"
    case .string: "words of 1 to 6 letters"
    case .f8e8m0: "0.25 … 4"
    case .i2: "-2 … 1"
    case .u2: "0 … 3"
    case _ where dtype.isFloat: "-1 … 1"
    default: "0 … 7"
    }
  }

  /// A tensor of random elements: floats in −1 … 1, integers in 0 … 7, both evenly distributed.
  package static func make(
    _ dtype: DType, _ shape: [Int], using generator: inout SeededGenerator
  ) -> HostTensor {
    let count = shape.reduce(1, saturatingMultiply)
    switch dtype {
    case .string:
      let words = (0..<count).map { _ in
        let letters = (0..<Int.random(in: 1...6, using: &generator)).map { _ in
          Unicode.Scalar(UInt8.random(in: 97...122, using: &generator))
        }
        return String(String.UnicodeScalarView(letters))
      }
      return HostTensor(strings: words, shape: shape)
    case .f32:
      return HostTensor(dtype, shape, elements: (0..<count).map { _ in Float(Self.unit(&generator)) })
    case .f8e8m0:
      return HostTensor(dtype, shape, doubles: (0..<count).map { _ in Self.power(&generator) })
    case _ where dtype.isFloat:
      return HostTensor(dtype, shape, doubles: (0..<count).map { _ in Self.unit(&generator) })
    default:
      let range: ClosedRange<Int64> =
        switch dtype {
        case .bool: 0...1
        case .i2: -2...1
        case .u2: 0...3
        default: 0...7
        }
      return HostTensor(dtype, shape, int64s: (0..<count).map { _ in Int64.random(in: range, using: &generator) })
    }
  }

  private static func unit(_ generator: inout SeededGenerator) -> Double {
    Double(generator.next() >> 40) / Double(1 << 23) - 1
  }

  private static func power(_ generator: inout SeededGenerator) -> Double {
    [0.25, 0.5, 1, 2, 4][Int(generator.next() % 5)]
  }
}
