package import ApusCore
package import ApusPlan

/// Which profile of an engine a run uses.
///
/// Written as an index, a name, or `.automatic`:
///
///     try context.run(inputs: inputs, profile: "decode")
///     try engine.withProfile(.automatic) { … }
public struct ProfileSelection: Sendable, Hashable {
  enum Kind: Sendable, Hashable {
    case index(Int)
    case name(String)
    case automatic
    case fastest
  }

  let kind: Kind

  /// The profile at a position in the order of declaration, from 0.
  public static func index(_ index: Int) -> ProfileSelection { ProfileSelection(kind: .index(index)) }

  public static func named(_ name: String) -> ProfileSelection { ProfileSelection(kind: .name(name)) }

  /// The first profile, in the order of declaration, that holds the shapes of the call. It depends on nothing else.
  public static let automatic = ProfileSelection(kind: .automatic)

  /// Of the profiles that hold the shapes of the call, the one that should take the least time by what was measured when
  /// the engine was built.
  public static let fastest = ProfileSelection(kind: .fastest)

  /// Whether the shapes of a call decide.
  package var dependsOnShapes: Bool { kind == .automatic || kind == .fastest }
}

extension ProfileSelection: CustomStringConvertible {
  public var description: String {
    switch kind {
    case .index(let index): "\(index)"
    case .name(let name): "'\(name)'"
    case .automatic: "auto"
    case .fastest: "fastest"
    }
  }
}

extension ProfileSelection: ExpressibleByIntegerLiteral, ExpressibleByStringLiteral {
  public init(integerLiteral value: Int) { self = .index(value) }
  public init(stringLiteral value: String) { self = .named(value) }
}

// MARK: Scopes

extension ProfileSelection {
  /// One scope, with those around it: a list, since looking it through allocates nothing.
  private final class Scope: Sendable {
    let engine: ObjectIdentifier
    let selection: ProfileSelection
    let outer: Scope?

    init(engine: ObjectIdentifier, selection: ProfileSelection, outer: Scope?) {
      self.engine = engine
      self.selection = selection
      self.outer = outer
    }
  }

  /// The innermost scope of the current task.
  @TaskLocal private static var scope: Scope?

  /// What the current task asked for.
  static func pinned(for engine: Engine) -> ProfileSelection? {
    var next = scope
    while let scope = next {
      if scope.engine == ObjectIdentifier(engine) { return scope.selection }
      next = scope.outer
    }
    return nil
  }

  static func pinning<Result, Failure: Error>(
    _ selection: ProfileSelection, for engine: Engine, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let inner = Scope(engine: ObjectIdentifier(engine), selection: selection, outer: scope)
    let result = $scope.withValue(inner) { () -> Swift.Result<Result, Failure> in
      Swift.Result { () throws(Failure) in try body() }
    }
    return try result.get()
  }
}

extension Engine {
  /// Runs `body`, in which calls of this engine use the profile given unless they name one themselves.
  ///
  /// The choice belongs to the current task and what it starts: other tasks keep theirs. Scopes nest, and end with `body`
  /// however it ends.
  ///
  /// - Throws: ``RunError`` `APUS-R-0020` before `body` runs when the engine has no such profile.
  public func withProfile<Result>(_ selection: ProfileSelection, _ body: () throws -> Result) throws -> Result {
    _ = try index(of: selection)
    return try ProfileSelection.pinning(selection, for: self, body)
  }

  /// The position of a profile; where the shapes decide, the first.
  package func index(of selection: ProfileSelection) throws(RunError) -> Int { try selection.index(in: profiles) }
}

extension ProfileSelection {
  /// The position among these profiles; where the shapes decide, the first.
  package func index(in profiles: [Profile]) throws(RunError) -> Int {
    switch kind {
    case .automatic, .fastest: return 0
    case .index(let index): if profiles.indices.contains(index) { return index }
    case .name(let name): if let index = profiles.firstIndex(where: { $0.name == name }) { return index }
    }
    throw RunError.unknownProfile(self, profiles)
  }
}
