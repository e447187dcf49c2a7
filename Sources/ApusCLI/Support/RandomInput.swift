import ApusCore

/// What inputs that nobody gives are made of.
enum RandomInput {
  /// The range elements are drawn from; bool and strings have none.
  static func range(of dtype: DType) -> ClosedRange<Double>? {
    switch dtype {
    case .bool, .string: nil
    case .f8e8m0: 0.25...4
    case .i2: -2...1
    case .u2: 0...3
    case _ where dtype.isFloat: -1...1
    default: 0...7
    }
  }

  /// The range in words.
  static func description(of dtype: DType) -> String {
    guard let range = range(of: dtype) else { return dtype == .bool ? "false or true" : "short words" }
    func number(_ value: Double) -> String { value == value.rounded() ? String(Int(value)) : String(value) }
    return "\(number(range.lowerBound)) … \(number(range.upperBound))"
  }

  /// A seed of its own for each input, so that adding an input changes no other (FNV-1a).
  static func seed(_ seed: UInt64, for name: String) -> UInt64 {
    name.utf8.reduce(seed ^ 0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
  }
}
