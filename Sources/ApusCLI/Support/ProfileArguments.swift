import Apus
import ApusCore
import ApusPlan

/// Turns profiles that were typed into those of a model: by symbol as `NAME: seq=1..512@256, batch=4`, by input as
/// `NAME: input_ids=1x1..1x512@1x256`, by elements that decide sizes as `NAME: shape=[1,4]..[512,4]@[128,4]`, or by
/// trtexec's shape flags.
///
/// `a..b@o` is a range with the size to tune for, `a..b` tunes for the middle, `a` is fixed. `1/2/4/8` are sizes that a symbol's
/// are filled up to, the last tuned for.
struct ProfileArguments {
  private let option: String
  private let symbols: [Symbol]
  private let inputs: [(name: String, type: ValueType)]
  private let fixed: Set<String>
  private let earlier: [String]
  private let values: ProfileSet?
  private var problems = UsageProblems()
  private(set) var profiles: [Profile] = []
  /// Where each range of the profile in hand was given.
  private var origins: [String: String] = [:]

  /// Reads the arguments and checks them against the model's symbols and inputs.
  ///
  /// - Parameters:
  ///   - option: the option they were given with, for messages.
  ///   - earlier: names of profiles that are there already.
  ///   - fixed: inputs whose shapes are given otherwise.
  ///   - values: what ``values(_:option:earlier:inputs:)`` gave.
  /// - Throws: ``UsageError`` with every mistake: `APUS-C-0010` form, `-0011` unknown symbol or input, `-0012` order of the
  ///   sizes, `-0013` a name used twice, `-0017` ranges that contradict each other, `-0018` an input with a shape as well.
  static func parse(
    _ declarations: ProfileDeclarations, option: String = "--profile", symbols: [Symbol],
    inputs: [(name: String, type: ValueType)], earlier: [String] = [], fixed: Set<String> = [],
    values: ProfileSet? = nil
  ) throws(UsageError) -> [Profile] {
    var reader = ProfileArguments(
      option: option, symbols: symbols, inputs: inputs, earlier: earlier, fixed: fixed, values: values)
    switch declarations {
    case .texts(let arguments): for argument in arguments { reader.read(argument) }
    case .shapes(let profiles): for profile in profiles { reader.read(profile) }
    }
    try reader.problems.throwIfAny()
    return reader.profiles
  }

  private init(
    option: String, symbols: [Symbol], inputs: [(name: String, type: ValueType)], earlier: [String],
    fixed: Set<String>, values: ProfileSet?
  ) {
    self.option = option
    self.symbols = symbols
    self.inputs = inputs
    self.earlier = earlier
    self.fixed = fixed
    self.values = values
  }

  /// A profile of trtexec's shape flags.
  private mutating func read(_ shapes: ShapeFlags.Profile) {
    origins = [:]
    var ranges = values?.profiles[earlier.count + profiles.count].ranges ?? []
    for sizes in shapes.inputs where !sizes.areValues {
      if let input = inputs.first(where: { $0.name == sizes.name }) {
        add(sizes, of: input, to: &ranges, shapes.place)
      } else {
        reportInput(sizes.name, shapes.place)
      }
    }
    profiles.append(Profile(name: "profile\(shapes.index)", ranges: ranges))
  }

  private mutating func reportInput(_ name: String, _ place: String) {
    problems.add(
      "APUS-C-0011", "the model has no input '\(name)'", place: place,
      hint: Spelling.hint(for: name, in: inputs.map(\.name)))
  }

  private mutating func read(_ argument: String) {
    let place = "\(option) \"\(argument)\""
    let parts = argument.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    let name = parts.count == 2 ? Self.trimmed(parts[0]) : "profile\(earlier.count + profiles.count)"
    if earlier.contains(name) || profiles.contains(where: { $0.name == name }) {
      problems.add("APUS-C-0013", "two profiles are called '\(name)'", place: place)
    }
    origins = [:]
    var ranges = values?.profiles[earlier.count + profiles.count].ranges ?? []
    for item in Self.items(parts.last ?? "") {
      guard let sizes = Self.sizes(item) else {
        problems.add(
          "APUS-C-0010", "'\(Self.trimmed(item))' is no range of a symbol or an input", place: place,
          hint: "Write SYMBOL=MIN..MAX@OPT, for instance seq=1..512@256, or INPUT=1x1..1x512@1x256.")
        continue
      }
      if sizes.areValues { continue }
      if !symbols.contains(where: { $0.name == sizes.name }), let input = inputs.first(where: { $0.name == sizes.name })
      {
        add(sizes, of: input, to: &ranges, place)
      } else if sizes.min.count == 1 {
        add(Profile.Range(symbol: sizes.name, sizes, axis: 0), "'\(sizes.name)'", to: &ranges, place)
      } else {
        reportInput(sizes.name, place)
      }
    }
    if ranges.isEmpty, parts.last.map({ Self.trimmed($0).isEmpty }) ?? true {
      problems.add(
        "APUS-C-0010", "the profile says nothing", place: place, hint: "Write \"NAME: SYMBOL=MIN..MAX@OPT, …\".")
    }
    profiles.append(Profile(name: name, ranges: ranges))
  }

  /// Takes the range of each axis of an input for the symbol that the axis is.
  private mutating func add(
    _ sizes: ProfileSizes, of input: (name: String, type: ValueType), to ranges: inout [Profile.Range], _ place: String
  ) {
    let shape = input.type.tensor?.shape ?? []
    if fixed.contains(input.name) {
      problems.add(
        "APUS-C-0018", "input '\(input.name)' has both a shape and a profile", place: place,
        hint: "Leave out its --shape: a profile may fix sizes as well.")
      return
    }
    guard sizes.min.count == shape.count else {
      problems.add(
        "APUS-C-0010", "\(sizes.min.count) sizes are given for \(input.type)", place: "\(place), input '\(input.name)'")
      return
    }
    for (axis, dim) in shape.enumerated() {
      let origin = "axis \(axis) of input '\(input.name)'"
      if let symbol = dim.asSymbol {
        add(Profile.Range(symbol: symbol.name, sizes, axis: axis), origin, to: &ranges, place)
      } else if let size = dim.constantValue, sizes.min[axis] != size || sizes.max[axis] != size {
        problems.add(
          "APUS-C-0012", "\(origin) is always \(size), found \(sizes.min[axis])..\(sizes.max[axis])", place: place)
      }
    }
  }

  private mutating func add(
    _ range: Profile.Range, _ origin: String, to ranges: inout [Profile.Range], _ place: String
  ) {
    guard let symbol = symbols.first(where: { $0.name == range.symbol }) else {
      problems.add(
        "APUS-C-0011", "no input has a size called '\(range.symbol)'", place: place,
        hint: Spelling.hint(for: range.symbol, in: symbols.map(\.name)))
      return
    }
    if range.min < 0 || range.min > range.opt || range.opt > range.max {
      problems.add(
        "APUS-C-0012", "\(origin) needs 0 ≤ min ≤ opt ≤ max, found \(range.min), \(range.opt), \(range.max)",
        place: place)
    } else if !symbol.range.contains(range.min) || !symbol.range.contains(range.max) {
      problems.add(
        "APUS-C-0012",
        "\(origin) has \(range.min)..\(range.max), the model allows \(symbol.range.lower) to "
          + (symbol.range.upper == .max ? "any" : "\(symbol.range.upper)"), place: place)
    }
    if let earlier = ranges.first(where: { $0.symbol == range.symbol }) {
      if earlier != range {
        problems.add(
          "APUS-C-0017",
          "'\(range.symbol)' is \(earlier.sizesText) for \(origins[range.symbol] ?? "") and \(range.sizesText) for \(origin)",
          place: place, hint: "Sizes of one name are equal in every call: give them one range.")
      }
      return
    }
    origins[range.symbol] = origin
    ranges.append(range)
  }

  private static func trimmed(_ text: Substring) -> String {
    var text = text
    while text.first?.isWhitespace == true { text.removeFirst() }
    while text.last?.isWhitespace == true { text.removeLast() }
    return String(text)
  }

  static func sizes(_ item: Substring) -> ProfileSizes? {
    guard let split = item.lastIndex(of: "=") else { return nil }
    let name = trimmed(item[..<split])
    let tuned = trimmed(item[item.index(after: split)...]).split(separator: "@", omittingEmptySubsequences: false)
    guard !name.isEmpty, (1...2).contains(tuned.count) else { return nil }
    if tuned[0].contains("/") { return filled(name, tuned) }
    let bounds = tuned[0].firstRange(of: "..").map { [tuned[0][..<$0.lowerBound], tuned[0][$0.upperBound...]] }
    let areValues = tuned[0].hasPrefix("[")
    let read = areValues ? elements : shape
    guard let min = read(bounds?[0] ?? tuned[0]), let max = read(bounds?[1] ?? tuned[0]), min.count == max.count
    else {
      return nil
    }
    if tuned.count == 1 { return ProfileSizes(name: name, areValues: areValues, min: min, opt: nil, max: max) }
    guard let opt = read(tuned[1]), opt.count == min.count else { return nil }
    return ProfileSizes(name: name, areValues: areValues, min: min, opt: opt, max: max)
  }

  private static func filled(_ name: String, _ tuned: [Substring]) -> ProfileSizes? {
    let parts = tuned[0].split(separator: "/", omittingEmptySubsequences: false)
    let steps = parts.compactMap { Int($0) }
    guard steps.count == parts.count, let last = steps.last else { return nil }
    guard tuned.count == 2 else { return ProfileSizes(name: name, min: [1], opt: [last], max: [last], steps: steps) }
    guard let opt = Int(tuned[1]) else { return nil }
    return ProfileSizes(name: name, min: [1], opt: [opt], max: [last], steps: steps)
  }

  /// What the commas outside of brackets separate.
  static func items(_ text: Substring) -> [Substring] {
    var depth = 0
    return text.split { character in
      if character == "[" { depth += 1 }
      if character == "]" { depth -= 1 }
      return character == "," && depth == 0
    }
  }

  private static func elements(_ text: Substring) -> [Int]? {
    guard text.hasPrefix("["), text.hasSuffix("]"), text.count > 2 else { return nil }
    let parts = text.dropFirst().dropLast().split(separator: ",", omittingEmptySubsequences: false)
    let elements = parts.compactMap { Int(trimmed($0)) }
    return elements.count == parts.count ? elements : nil
  }

  private static func shape(_ text: Substring) -> [Int]? {
    let parts = text.split(separator: "x", omittingEmptySubsequences: false)
    let sizes = parts.compactMap { Int($0) }
    return sizes.count == parts.count ? sizes : nil
  }
}

/// A symbol or input with its sizes in a profile, for each axis, or its elements; one axis for a symbol.
struct ProfileSizes {
  let name: String
  var areValues = false
  let min: [Int]
  let opt: [Int]?
  let max: [Int]
  var steps: [Int] = []
}

extension Profile.Range {
  fileprivate init(symbol: String, _ sizes: ProfileSizes, axis: Int) {
    self.init(
      symbol: symbol, min: sizes.min[axis], opt: sizes.opt?[axis], max: sizes.max[axis], steps: sizes.steps)
  }
}
