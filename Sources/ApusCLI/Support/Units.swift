/// Numbers as people read them.
enum Units {
  /// `512 B`, `1.5 KiB`, `23.0 MiB`.
  static func bytes(_ count: Int) -> String {
    var value = Double(count)
    var unit = 0
    while value >= 1024, unit < 4 {
      value /= 1024
      unit += 1
    }
    return unit == 0 ? "\(count) B" : "\(fixed(value, 1)) \(["B", "KiB", "MiB", "GiB", "TiB"][unit])"
  }

  /// `950`, `1.5 k`, `3.4 G`: a count in steps of thousand.
  static func count(_ count: Int) -> String {
    var value = Double(count)
    var unit = 0
    while value >= 999.95, unit < 5 {
      value /= 1000
      unit += 1
    }
    return unit == 0 ? String(count) : "\(fixed(value, 1)) \(["", "k", "M", "G", "T", "P"][unit])"
  }

  static func milliseconds(_ duration: Duration) -> Double { duration / .milliseconds(1) }

  /// A number with `digits` decimals.
  static func fixed(_ value: Double, _ digits: Int) -> String {
    guard value.isFinite, value.magnitude < 1e15 else { return String(value) }
    let scale = (0..<digits).reduce(1) { product, _ in product * 10 }
    let scaled = Int((value.magnitude * Double(scale)).rounded())
    let sign = value < 0 && scaled != 0 ? "-" : ""
    if digits == 0 { return "\(sign)\(scaled)" }
    let fraction = String(scaled % scale)
    return "\(sign)\(scaled / scale)." + String(repeating: "0", count: digits - fraction.count) + fraction
  }

  /// A number in scientific notation with three digits: `1.23e-07`.
  static func scientific(_ value: Double) -> String {
    guard value.isFinite, value != 0 else { return value == 0 ? "0" : String(value) }
    var exponent = 0
    var mantissa = value.magnitude
    while mantissa >= 9.995 {
      mantissa /= 10
      exponent += 1
    }
    while mantissa < 0.9995 {
      mantissa *= 10
      exponent -= 1
    }
    let digits = String(abs(exponent))
    let padded = digits.count < 2 ? "0" + digits : digits
    return "\(value < 0 ? "-" : "")\(fixed(mantissa, 2))e\(exponent < 0 ? "-" : "+")\(padded)"
  }
}
