import ApusCore

/// Profiles in trtexec's way: `--profile=N` opens a group, and `--minShapes`, `--optShapes`, `--maxShapes` and `--shapes` with
/// shapes as `NAME:1x3x224x224,…` belong to the group before them. Without `--profile=N` there is one group.
struct ShapeFlags {
  enum Kind: String {
    case profile = "--profile"
    case min = "--minShapes"
    case opt = "--optShapes"
    case max = "--maxShapes"
    /// Min, opt and max at once.
    case all = "--shapes"
  }

  /// One group: the sizes of each input it names.
  struct Profile {
    let index: Int
    var inputs: [ProfileSizes] = []

    var place: String { "profile \(index)" }
  }

  /// What a group has said of an input so far.
  private struct Shapes {
    let name: String
    var byKind: [Kind: [Int]] = [:]
  }

  private struct Group {
    let index: Int
    var inputs: [Shapes] = []
  }

  private var groups: [Group] = []
  private var problems = UsageProblems()

  /// The profiles of flags in the order typed, sorted by their numbers.
  ///
  /// - Throws: ``UsageError`` with every mistake: `APUS-C-0027` numbers of profiles, `-0025` the form of a shape, `-0003` a
  ///   shape given twice, `-0004` different numbers of sizes.
  static func profiles(of flags: [(kind: Kind, text: String)]) throws(UsageError) -> [Profile] {
    var reader = ShapeFlags()
    let isNumbered = flags.contains { $0.kind == .profile }
    if !isNumbered { reader.groups = [Group(index: 0)] }
    for flag in flags {
      if flag.kind == .profile { reader.open(flag.text) } else { reader.read(flag.kind, flag.text) }
    }
    reader.checkNumbers()
    let profiles = reader.groups.sorted { $0.index < $1.index }.map { group in
      Profile(index: group.index, inputs: group.inputs.compactMap { reader.sizes(of: $0, group.index) })
    }
    try reader.problems.throwIfAny()
    return profiles
  }

  private mutating func open(_ text: String) {
    let index = Int(text) ?? 0
    if index < 0 || groups.contains(where: { $0.index == index }) {
      let what = index < 0 ? "profiles are numbered from 0" : "profile \(index) is opened twice"
      problems.add("APUS-C-0027", what, place: "--profile=\(text)")
    }
    groups.append(Group(index: index))
  }

  private mutating func checkNumbers() {
    let expected = Set(0..<groups.count)
    for group in groups.sorted(by: { $0.index < $1.index }) {
      if group.inputs.isEmpty, problems.found.isEmpty {
        problems.add(
          "APUS-C-0027", "no shapes follow", place: "--profile=\(group.index)",
          hint: "For instance --profile=\(group.index) --minShapes=x:1x3 --optShapes=x:4x3 --maxShapes=x:8x3.")
      }
      if group.index >= 0, !expected.contains(group.index) {
        problems.add(
          "APUS-C-0027", "\(groups.count) profiles are numbered 0 to \(groups.count - 1)",
          place: "--profile=\(group.index)")
      }
    }
  }

  private mutating func read(_ kind: Kind, _ text: String) {
    let place = "\(kind.rawValue)=\(text)"
    guard let group = groups.indices.last else {
      problems.add(
        "APUS-C-0027", "the shapes stand before the first --profile=N", place: place,
        hint: "Put them after the profile that they belong to.")
      return
    }
    for item in Self.split(text, at: ",") {
      guard let (name, sizes) = Self.shape(item) else {
        problems.add(
          "APUS-C-0025", "'\(item)' is no shape", place: place,
          hint: "Write NAME:SIZExSIZE…, each size an integer, for instance input_ids:1x256.")
        continue
      }
      add(sizes, kind, name, to: group, place)
    }
  }

  private mutating func add(_ sizes: [Int], _ kind: Kind, _ name: String, to group: Int, _ place: String) {
    let position = groups[group].inputs.firstIndex { $0.name == name } ?? groups[group].inputs.count
    if position == groups[group].inputs.count { groups[group].inputs.append(Shapes(name: name)) }
    for own in kind == .all ? [.min, .opt, .max] : [kind] {
      if groups[group].inputs[position].byKind[own] != nil {
        problems.add("APUS-C-0003", "input '\(name)' is given \(own.rawValue) twice in one profile", place: place)
        return
      }
      groups[group].inputs[position].byKind[own] = sizes
    }
  }

  /// The shapes of an input, those left out filled from the others: opt stands for min and max, else each of these for the
  /// other and for opt, max before min.
  private mutating func sizes(of shapes: Shapes, _ group: Int) -> ProfileSizes? {
    let given = shapes.byKind
    guard let min = given[.min] ?? given[.opt] ?? given[.max], let max = given[.max] ?? given[.opt] ?? given[.min]
    else { return nil }
    let opt = given[.opt] ?? max
    if Set([min.count, opt.count, max.count]).count > 1 {
      problems.add(
        "APUS-C-0004", "min has \(min.count) sizes, opt \(opt.count), max \(max.count)",
        place: "profile \(group), input '\(shapes.name)'")
      return nil
    }
    return ProfileSizes(name: shapes.name, min: min, opt: opt, max: max)
  }

  // MARK: Text

  /// Parts between separators that are not inside single quotes; the quotes stay.
  private static func split(_ text: String, at separator: Character) -> [String] {
    var parts = [""]
    var isQuoted = false
    for character in text {
      if character == "'" { isQuoted.toggle() }
      if character == separator, !isQuoted { parts.append("") } else { parts[parts.count - 1].append(character) }
    }
    return parts
  }

  /// The name ends at the last colon outside quotes; `NAME:scalar` and `NAME:` have no sizes.
  private static func shape(_ item: String) -> (name: String, sizes: [Int])? {
    let parts = split(item, at: ":")
    guard parts.count > 1, let text = parts.last, item.count(where: { $0 == "'" }) % 2 == 0 else { return nil }
    let name = parts.dropLast().joined(separator: ":").filter { $0 != "'" }
    if name.isEmpty { return nil }
    if text.isEmpty || text == "scalar" { return (name, []) }
    // Elements may be negative.
    let numbers = text.split(separator: "x", omittingEmptySubsequences: false)
    let sizes = numbers.compactMap { Int($0) }
    return sizes.count == numbers.count ? (name, sizes) : nil
  }
}
