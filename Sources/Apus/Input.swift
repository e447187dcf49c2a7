package import ApusCore
public import ApusPlan

/// An input as it is declared for a build: its shape, or its shape in each profile.
///
///     Input("input_ids", .i64, profiles: [.fixed([1, 1]), .range(min: [1, 1], opt: [1, 256], max: [1, 512])],
///       sharedDims: [1: "seq"])
///
/// Of an integer input whose elements decide sizes, such as the shape that a Reshape takes, the elements are declared:
///
///     Input("shape", .i64, values: [.fixed([-1, 4]), .range(min: [1, 4], opt: [128, 4], max: [512, 4])])
public struct Input: Sendable, Hashable {
  /// Sizes of every axis, or every element.
  public enum Sizes: Sendable, Hashable {
    case fixed([Int])
    /// From `min` to `max`, tuned at `opt`; nil for the middle.
    case range(min: [Int], opt: [Int]? = nil, max: [Int])
  }

  public let name: String
  public let dtype: DType
  /// One entry for each profile, in the order of the profiles; nil when the shape is the same in all.
  public let profiles: [Sizes]?
  /// The shape in all profiles when `profiles` is nil.
  public let sizes: Sizes
  /// Names of axes. Axes of one name have equal sizes in every call.
  public let sharedDims: [Int: String]
  /// Whether the elements are declared, of which any may be negative, and not the shape.
  public let areValues: Bool

  /// An input whose shape is the same in every profile.
  public init(_ name: String, _ dtype: DType, _ sizes: Sizes, sharedDims: [Int: String] = [:]) {
    self.name = name
    self.dtype = dtype
    self.sizes = sizes
    profiles = nil
    self.sharedDims = sharedDims
    areValues = false
  }

  /// An input with a shape for each profile.
  public init(_ name: String, _ dtype: DType, profiles: [Sizes], sharedDims: [Int: String] = [:]) {
    self.name = name
    self.dtype = dtype
    sizes = profiles.first ?? .fixed([])
    self.profiles = profiles
    self.sharedDims = sharedDims
    areValues = false
  }

  /// An integer input of rank 0 or 1 whose elements decide sizes, with its elements in each profile: 64 at most.
  public init(_ name: String, _ dtype: DType, values: [Sizes]) {
    self.name = name
    self.dtype = dtype
    sizes = values.first ?? .fixed([])
    profiles = values
    sharedDims = [:]
    areValues = true
  }
}

extension Input.Sizes: CustomStringConvertible {
  /// `1x1`, or `1x1..1x512@1x256`.
  public var description: String {
    func text(_ sizes: [Int]) -> String { sizes.map(String.init).joined(separator: "x") }
    return switch self {
    case .fixed(let sizes): text(sizes)
    case .range(let min, let opt, let max): "\(text(min))..\(text(max))\(opt.map { "@\(text($0))" } ?? "")"
    }
  }
}

extension Input: CustomStringConvertible {
  /// `x: f32 4x16`, or `x: f32 profiles=[4x1x16, 4x1x16..4x64x16@4x48x16]`.
  public var description: String {
    let dims = sharedDims.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }.joined(separator: ", ")
    let shape =
      profiles.map { "\(areValues ? "values" : "profiles")=[\($0.map(\.description).joined(separator: ", "))]" }
      ?? "\(sizes)"
    return "\(name): \(dtype) \(shape)" + (dims.isEmpty ? "" : " sharedDims=[\(dims)]")
  }
}

extension Input {
  /// What its numbers are about.
  fileprivate var parts: String { areValues ? "elements" : "axes" }

  /// The name of an axis or element that varies.
  fileprivate func symbol(_ position: Int) -> String {
    if areValues { return Symbol.name(ofElement: position, of: name) }
    return sharedDims[position] ?? "\(Symbol.name(from: name))_\(position)"
  }
}

extension Input.Sizes {
  var min: [Int] {
    switch self {
    case .fixed(let sizes): sizes
    case .range(let min, _, _): min
    }
  }

  var max: [Int] {
    switch self {
    case .fixed(let sizes): sizes
    case .range(_, _, let max): max
    }
  }

  /// The sizes tuned for. `min` and `max` have the same number of axes.
  var opt: [Int] {
    if case .range(_, let opt?, _) = self { return opt }
    return zip(min, max).map { Profile.Range.middle($0, $1) }
  }
}

/// The profiles that declarations of inputs make together, and the envelope that holds them all.
public struct ProfileSet: Sendable {
  /// In the order of declaration.
  public private(set) var profiles: [Profile] = []
  /// The shape of each input over all profiles: a symbol where a size varies.
  package private(set) var shapes: [String: [Dim]] = [:]
  /// The elements of each input of which they are declared: a symbol where one varies.
  package private(set) var values: [String: [Dim]] = [:]
  private var problems: [Diagnostic] = []
  /// The symbol of a varying axis, with the input that gave it its range.
  private var owners: [String: (input: Input, axis: Int)] = [:]

  /// - Parameter names: names of the profiles by position; those left out are called `profile0`, `profile1`, ….
  /// - Throws: ``BuildError`` with every mistake: `APUS-B-0020` an empty list of profiles, `-0021` numbers of axes, `-0022`
  ///   order of the sizes, `-0023` a shared dim, `-0024` numbers of profiles, `-0025` ranges that contradict each other,
  ///   `-0027` elements that cannot decide sizes.
  public init(_ inputs: [Input], names: [String] = []) throws(BuildError) {
    for input in inputs { check(input) }
    checkCounts(inputs)
    if !problems.isEmpty { throw BuildError(problems: problems) }
    let count = inputs.lazy.compactMap(\.profiles?.count).first
    let isDynamic = inputs.contains { $0.sizes.min != $0.sizes.max }
    for index in 0..<(count ?? (isDynamic ? 1 : 0)) {
      profiles.append(Profile(name: names.indices.contains(index) ? names[index] : "profile\(index)", ranges: []))
    }
    for input in inputs { add(input) }
    if !problems.isEmpty { throw BuildError(problems: problems) }
  }

  private mutating func report(_ code: String, _ input: Input, _ profile: Int?, _ message: String, hint: String = "") {
    let place = profile.map { "input '\(input.name)', profile \($0)" } ?? "input '\(input.name)'"
    problems.append(Diagnostic(code, message, place: place, hint: hint))
  }

  private mutating func check(_ input: Input) {
    let entries = input.profiles ?? [input.sizes]
    guard let first = entries.first else {
      return report(
        "APUS-B-0020", input, nil, "its list of profiles is empty", hint: "Declare one shape for each profile.")
    }
    let earlier = problems.count
    for (index, entry) in entries.enumerated() {
      let profile = input.profiles == nil ? nil : index
      let (min, max) = (entry.min, entry.max)
      var opt = [Int]?.none
      if case .range(_, let given, _) = entry { opt = given }
      if min.count != max.count || opt.map({ $0.count != min.count }) ?? false {
        report(
          "APUS-B-0021", input, profile,
          "min has \(min.count) \(input.parts), \(opt.map { "opt \($0.count), " } ?? "")max \(max.count)")
      } else if min.count != first.min.count {
        report("APUS-B-0021", input, profile, "\(first.min.count) \(input.parts) are expected, \(min.count) are given")
      } else {
        checkOrder(input, profile, min, entry.opt, max)
      }
    }
    if problems.count == earlier { checkSharedDims(input, entries) }
    if input.areValues, !input.dtype.isInteger || !(1...Binding.valueLimit).contains(first.min.count) {
      report(
        "APUS-B-0027", input, nil, "\(first.min.count) elements of \(input.dtype) are declared",
        hint: "1 to \(Binding.valueLimit) elements of an integer tensor can decide sizes.")
    }
  }

  private mutating func checkOrder(_ input: Input, _ profile: Int?, _ min: [Int], _ opt: [Int], _ max: [Int]) {
    for axis in min.indices
    where min[axis] < 0 && !input.areValues || min[axis] > opt[axis] || opt[axis] > max[axis] {
      report(
        "APUS-B-0022", input, profile,
        "\(input.areValues ? "element \(axis) needs" : "axis \(axis) needs 0 ≤") min ≤ opt ≤ max, found \(min[axis]), "
          + "\(opt[axis]), \(max[axis])")
    }
  }

  private mutating func checkSharedDims(_ input: Input, _ entries: [Input.Sizes]) {
    for (axis, name) in input.sharedDims.sorted(by: { $0.key < $1.key }) {
      if !entries[0].min.indices.contains(axis) {
        report("APUS-B-0023", input, nil, "axis \(axis) is named '\(name)', the input has \(entries[0].min.count) axes")
      } else if name.isEmpty {
        report("APUS-B-0023", input, nil, "the name of axis \(axis) is empty")
      } else if Set(entries.flatMap { [$0.min[axis], $0.max[axis]] }).count == 1 {
        report(
          "APUS-B-0023", input, nil, "axis \(axis) is named '\(name)' but is \(entries[0].min[axis]) in every profile",
          hint: "Only axes whose size varies have a name.")
      }
    }
  }

  private mutating func checkCounts(_ inputs: [Input]) {
    guard let first = inputs.first(where: { $0.profiles != nil }), let count = first.profiles?.count else { return }
    for input in inputs {
      guard let own = input.profiles?.count, own != count, own != 0, count != 0 else { continue }
      report(
        "APUS-B-0024", input, nil, "\(own) profiles are declared, input '\(first.name)' has \(count)",
        hint: "Every input with profiles declares the same number, in the same order.")
    }
  }

  /// Adds the ranges of an input's axes or elements to each profile.
  private mutating func add(_ input: Input) {
    let entries = input.profiles ?? [Input.Sizes](repeating: input.sizes, count: Swift.max(profiles.count, 1))
    var shape: [Dim] = []
    for axis in entries[0].min.indices {
      let low = entries.map { $0.min[axis] }.min() ?? 0
      let high = entries.map { $0.max[axis] }.max() ?? 0
      if low == high {
        shape.append(Dim(low))
        continue
      }
      let symbol = input.symbol(axis)
      shape.append(Dim(Symbol(symbol, Interval(low, high))))
      let ranges = entries.map {
        Profile.Range(symbol: symbol, min: $0.min[axis], opt: $0.opt[axis], max: $0.max[axis])
      }
      if let owner = owners[symbol] {
        compare(ranges, input, axis, symbol, owner)
      } else {
        owners[symbol] = (input, axis)
        for index in profiles.indices { profiles[index].ranges.append(ranges[index]) }
      }
    }
    if input.areValues { values[input.name] = shape } else { shapes[input.name] = shape }
  }

  private mutating func compare(
    _ ranges: [Profile.Range], _ input: Input, _ axis: Int, _ symbol: String, _ owner: (input: Input, axis: Int)
  ) {
    for index in profiles.indices {
      guard let given = profiles[index].ranges.first(where: { $0.symbol == symbol }), given != ranges[index] else {
        continue
      }
      report(
        "APUS-B-0025", input, index,
        "'\(symbol)' is \(ranges[index].sizesText) at axis \(axis), but \(given.sizesText) at axis \(owner.axis) of input "
          + "'\(owner.input.name)'", hint: "Axes of one name are equal in every call: give them one range.")
    }
  }
}
