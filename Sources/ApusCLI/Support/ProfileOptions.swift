import ApusCore
import ArgumentParser
import Synchronization

/// The options of `apus build` that declare profiles. trtexec's shape flags belong to the `--profile=N` before them, so the
/// order in which all of these were typed is kept.
struct ProfileOptions: ParsableArguments {
  @Option(
    name: .customLong("profile"),
    help: ArgumentHelp(
      "Ranges of dynamic sizes, and which to tune for; a mere number opens a group of shape flags, as in trtexec.",
      valueName: "\"NAME: SYM=MIN..MAX@OPT\"|N"), transform: { TypedText($0) })
  var profiles: [TypedText] = []

  @Option(
    name: .customLong("minShapes"),
    help: ArgumentHelp("Least shapes of a profile, as in trtexec.", valueName: "NAME:1x3x224x224,…"),
    transform: { TypedText($0) })
  var minShapes: [TypedText] = []

  @Option(
    name: .customLong("optShapes"),
    help: ArgumentHelp("Shapes to tune a profile for, as in trtexec.", valueName: "NAME:1x3x224x224,…"),
    transform: { TypedText($0) })
  var optShapes: [TypedText] = []

  @Option(
    name: .customLong("maxShapes"),
    help: ArgumentHelp("Greatest shapes of a profile, as in trtexec.", valueName: "NAME:1x3x224x224,…"),
    transform: { TypedText($0) })
  var maxShapes: [TypedText] = []

  @Option(
    name: .customLong("shapes"),
    help: ArgumentHelp("The only shapes of a profile, as in trtexec.", valueName: "NAME:1x3x224x224,…"),
    transform: { TypedText($0) })
  var shapes: [TypedText] = []

  /// What was typed, as one kind of declaration.
  ///
  /// - Throws: ``UsageError`` `APUS-C-0026` when both kinds occur, or the mistakes of ``ShapeFlags``.
  func declarations() throws(UsageError) -> ProfileDeclarations {
    let own = profiles.filter { Int($0.text) == nil }
    var flags = profiles.filter { Int($0.text) != nil }.map { (ShapeFlags.Kind.profile, $0) }
    for (kind, texts) in [
      (ShapeFlags.Kind.min, minShapes), (.opt, optShapes), (.max, maxShapes), (.all, shapes),
    ] {
      flags += texts.map { (kind, $0) }
    }
    if flags.isEmpty { return .texts(own.map(\.text)) }
    flags.sort { $0.1.position < $1.1.position }
    if let first = own.first {
      throw UsageError(
        "APUS-C-0026", "two ways of declaring profiles are mixed: this one, and trtexec's, \(flags[0].0.rawValue)",
        place: "--profile \"\(first.text)\"", hint: "Declare all profiles in one way.")
    }
    return .shapes(try ShapeFlags.profiles(of: flags.map { ($0.0, $0.1.text) }))
  }
}

/// The value of an option with its place among the options typed.
struct TypedText: Sendable {
  /// Values are made while the command line is read from left to right.
  private static let count = Atomic<Int>(0)

  let text: String
  let position: Int

  init(_ text: String) {
    self.text = text
    position = Self.count.wrappingAdd(1, ordering: .relaxed).newValue
  }
}

/// Profiles as they were typed.
enum ProfileDeclarations {
  /// As `NAME: SYMBOL=MIN..MAX@OPT, …`.
  case texts([String])
  /// As trtexec's shape flags.
  case shapes([ShapeFlags.Profile])

  /// The declarations with elements told from shapes. trtexec's flags write both alike: what cannot be an input's shape, and
  /// has as many numbers as the input has elements, are its elements.
  func tellingElements(of inputs: () throws -> [(name: String, type: ValueType)]) rethrows -> ProfileDeclarations {
    guard case .shapes(var profiles) = self else { return self }
    let types = Dictionary(try inputs().map { ($0.name, $0.type) }, uniquingKeysWith: { first, _ in first })
    for profile in profiles.indices {
      for input in profiles[profile].inputs.indices {
        let sizes = profiles[profile].inputs[input]
        guard let type = types[sizes.name]?.tensor, type.dtype.isInteger, type.rank <= 1,
          let shape = type.constantShape, sizes.min.count == shape.first ?? 1
        else { continue }
        profiles[profile].inputs[input].areValues = sizes.min != shape || sizes.max != shape
      }
    }
    return .shapes(profiles)
  }

  var isEmpty: Bool {
    switch self {
    case .texts(let texts): texts.isEmpty
    case .shapes(let profiles): profiles.isEmpty
    }
  }
}
