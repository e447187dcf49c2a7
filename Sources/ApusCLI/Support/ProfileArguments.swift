import ApusCore
import ApusPlan

/// Profiles given on the command line as `NAME: seq=1..512@256, batch=4`.
///
/// `a..b@o` is a range with the size to tune for, `a..b` tunes for `b`, `a` is fixed.
enum ProfileArguments {
  /// Reads the arguments and checks them against the model's symbols.
  ///
  /// - Throws: ``UsageError`` with every mistake: `APUS-C-0010` form, `-0011` unknown symbol, `-0012` order of the sizes,
  ///   `-0013` a name used twice.
  static func parse(_ arguments: [String], symbols: [Symbol]) throws(UsageError) -> [Profile] {
    var problems = UsageProblems()
    var profiles: [Profile] = []
    for (index, argument) in arguments.enumerated() {
      let place = "--profile \"\(argument)\""
      let parts = argument.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
      let name = parts.count == 2 ? trimmed(parts[0]) : "profile\(index)"
      if profiles.contains(where: { $0.name == name }) {
        problems.add("APUS-C-0013", "two profiles are called '\(name)'", place: place)
      }
      var ranges: [Profile.Range] = []
      for item in (parts.last ?? "").split(separator: ",") {
        guard let range = range(item) else {
          problems.add(
            "APUS-C-0010", "'\(trimmed(item))' is no range of a symbol", place: place,
            hint: "Write SYMBOL=MIN..MAX@OPT, for instance seq=1..512@256, or SYMBOL=SIZE.")
          continue
        }
        check(range, symbols, ranges, place, &problems)
        ranges.append(range)
      }
      if ranges.isEmpty, parts.last.map({ trimmed($0).isEmpty }) ?? true {
        problems.add(
          "APUS-C-0010", "the profile says nothing", place: place, hint: "Write \"NAME: SYMBOL=MIN..MAX@OPT, …\".")
      }
      profiles.append(Profile(name: name, ranges: ranges))
    }
    try problems.throwIfAny()
    return profiles
  }

  private static func trimmed(_ text: Substring) -> String {
    var text = text
    while text.first?.isWhitespace == true { text.removeFirst() }
    while text.last?.isWhitespace == true { text.removeLast() }
    return String(text)
  }

  private static func range(_ item: Substring) -> Profile.Range? {
    guard let split = item.lastIndex(of: "=") else { return nil }
    let symbol = trimmed(item[..<split])
    let tuned = trimmed(item[item.index(after: split)...]).split(separator: "@", omittingEmptySubsequences: false)
    guard !symbol.isEmpty, (1...2).contains(tuned.count), let sizes = interval(tuned[0]) else { return nil }
    guard tuned.count == 2 else {
      return Profile.Range(symbol: symbol, min: sizes.min, opt: sizes.max, max: sizes.max)
    }
    guard let opt = Int(tuned[1]) else { return nil }
    return Profile.Range(symbol: symbol, min: sizes.min, opt: opt, max: sizes.max)
  }

  private static func interval(_ text: Substring) -> (min: Int, max: Int)? {
    guard let dots = text.firstRange(of: "..") else { return Int(text).map { ($0, $0) } }
    guard let low = Int(text[..<dots.lowerBound]), let high = Int(text[dots.upperBound...]) else { return nil }
    return (low, high)
  }

  private static func check(
    _ range: Profile.Range, _ symbols: [Symbol], _ earlier: [Profile.Range], _ place: String,
    _ problems: inout UsageProblems
  ) {
    if !symbols.contains(where: { $0.name == range.symbol }) {
      problems.add(
        "APUS-C-0011", "no input has a size called '\(range.symbol)'", place: place,
        hint: Spelling.hint(for: range.symbol, in: symbols.map(\.name)))
    }
    if earlier.contains(where: { $0.symbol == range.symbol }) {
      problems.add("APUS-C-0011", "'\(range.symbol)' is given a range twice", place: place)
    }
    if range.min < 0 || range.min > range.opt || range.opt > range.max {
      problems.add(
        "APUS-C-0012", "'\(range.symbol)' needs 0 ≤ min ≤ opt ≤ max, found \(range.min), \(range.opt), \(range.max)",
        place: place)
    }
  }
}
