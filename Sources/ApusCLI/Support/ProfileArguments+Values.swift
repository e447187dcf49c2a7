import Apus
import ApusCore
import ApusPlan

/// Elements of inputs that decide sizes.
extension ProfileArguments {
  /// What the profiles say about elements of inputs, after those of an engine that is there; nil when none says anything.
  ///
  /// - Throws: ``UsageError`` with every mistake: `APUS-C-0011` unknown input, `-0013` an input given twice, `-0024` one that
  ///   only some profiles give, `-0027` elements outside of what the engine was imported for; ``BuildError`` of the
  ///   declarations.
  static func values(
    _ declarations: ProfileDeclarations, option: String = "--profile", earlier: [Plan] = [],
    inputs: () throws -> [(name: String, type: ValueType)]
  ) throws -> ProfileSet? {
    let given = Self.values(of: declarations, option)
    let isKnown = earlier.first?.inputs.contains { $0.values != nil } ?? false
    if !isKnown, given.allSatisfy(\.sizes.isEmpty) { return nil }
    let inputs = try inputs()
    var problems = UsageProblems()
    for entry in given { checkNames(entry, inputs.map(\.name), &problems) }
    var declared: [Input] = []
    for input in inputs {
      let before = earlier.compactMap { $0.declaration(of: input.name) }
      let entries = given.map { $0.sizes.first { $0.name == input.name } }
      if before.isEmpty, entries.allSatisfy({ $0 == nil }) { continue }
      for (argument, entry) in zip(given, entries) where entry == nil {
        problems.add(
          "APUS-C-0024", "it gives no values for input '\(input.name)', as others do", place: argument.place)
      }
      declared.append(
        Input(
          input.name, input.type.tensor?.dtype ?? .string, values: before + entries.compactMap { $0?.declaration }))
    }
    try problems.throwIfAny()
    try checkEnvelope(of: declared, earlier.count, option)
    return try ProfileSet(declared)
  }

  /// A profile's elements as they were typed.
  private struct Given {
    let place: String
    let sizes: [ProfileSizes]
  }

  private static func values(of declarations: ProfileDeclarations, _ option: String) -> [Given] {
    switch declarations {
    case .texts(let arguments):
      return arguments.map { argument in
        let parts = argument.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        return Given(
          place: "\(option) \"\(argument)\"",
          sizes: items(parts.last ?? "").compactMap(Self.sizes).filter(\.areValues))
      }
    case .shapes(let profiles):
      return profiles.map { Given(place: $0.place, sizes: $0.inputs.filter(\.areValues)) }
    }
  }

  private static func checkNames(_ given: Given, _ names: [String], _ problems: inout UsageProblems) {
    for (index, entry) in given.sizes.enumerated() {
      if !names.contains(entry.name) {
        problems.add(
          "APUS-C-0011", "the model has no input '\(entry.name)'", place: given.place,
          hint: Spelling.hint(for: entry.name, in: names))
      } else if given.sizes[..<index].contains(where: { $0.name == entry.name }) {
        problems.add("APUS-C-0013", "input '\(entry.name)' is given values twice", place: given.place)
      }
    }
  }

  /// A model is imported for all values that its profiles take, so that those added must be among them.
  private static func checkEnvelope(of inputs: [Input], _ earlier: Int, _ option: String) throws {
    if earlier == 0 { return }
    var problems = UsageProblems()
    for input in inputs {
      let known = Input(input.name, input.dtype, values: Array((input.profiles ?? []).prefix(earlier)))
      let (old, new) = (try ProfileSet([known]).values[input.name], try ProfileSet([input]).values[input.name])
      if old == new { continue }
      let ranges = (old ?? []).map { "\($0.range.lower)…\($0.range.upper)" }.joined(separator: ", ")
      problems.add(
        "APUS-C-0027", "the engine was imported for the values [\(ranges)] of input '\(input.name)'", place: option,
        hint: "Stay within them, or build a new engine with all profiles.")
    }
    try problems.throwIfAny()
  }
}

extension ProfileSizes {
  fileprivate var declaration: Input.Sizes {
    min == max && opt == nil ? .fixed(min) : .range(min: min, opt: opt, max: max)
  }
}

extension Plan {
  /// The elements of an input that decide sizes, as they were declared for this plan.
  fileprivate func declaration(of name: String) -> Input.Sizes? {
    guard let values = inputs.first(where: { $0.name == name })?.values else { return nil }
    let ranges = values.map { value in
      profile.ranges.first { $0.symbol == value.asSymbol?.name }
        ?? Profile.Range(symbol: "", min: value.range.lower, opt: nil, max: value.range.upper)
    }
    return .range(min: ranges.map(\.min), opt: ranges.map(\.opt), max: ranges.map(\.max))
  }
}
