#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// An environment setting for finding faults, declared once where it is used and listed by `apus knobs`.
///
/// Nothing that users need in production is a knob only.
public struct Knob: Sendable {
  public let name: String
  /// Accepted values in words: `0…7`, `off|quick|full`, `directory`.
  public let values: String
  public let defaultValue: String
  public let summary: String
  private let accepts: @Sendable (String) -> Bool

  public init(
    _ name: String, _ values: String, default defaultValue: String, _ summary: String,
    accepts: @escaping @Sendable (String) -> Bool = { _ in true }
  ) {
    self.name = name
    self.values = values
    self.defaultValue = defaultValue
    self.summary = summary
    self.accepts = accepts
  }

  /// A knob that takes one of a few words.
  public static func choice(_ name: String, _ choices: [String], default value: String, _ summary: String) -> Knob {
    Knob(name, choices.joined(separator: "|"), default: value, summary) { choices.contains($0) }
  }

  /// A knob that takes an integer of a range.
  public static func level(_ name: String, _ range: ClosedRange<Int>, default value: Int, _ summary: String) -> Knob {
    Knob(name, "\(range.lowerBound)…\(range.upperBound)", default: String(value), summary) { text in
      Int(text).map(range.contains) ?? false
    }
  }

  /// How much is printed of what is done.
  public static let debug = Knob.level(
    "APUS_DEBUG", 0...7, default: 0,
    "1 devices, 2 time of each step, 3 tactics, 4 kernel source, 5 graph after each pass, 6 kernel IR, 7 assembly")

  /// The value in force: the environment's, or the default.
  ///
  /// - Throws: ``BuildError`` `APUS-K-0001` when the environment holds a value that is not accepted.
  public func value() throws(BuildError) -> String {
    guard let raw = getenv(name) else { return defaultValue }
    let text = String(cString: raw)
    if !accepts(text) {
      throw BuildError("APUS-K-0001", "\(name)='\(text)' is not accepted", hint: "Accepted: \(values).")
    }
    return text
  }

  /// The value as an integer; the default where the environment holds something else.
  public var level: Int { Int((try? value()) ?? defaultValue) ?? 0 }
}
