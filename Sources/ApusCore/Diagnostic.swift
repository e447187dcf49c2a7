/// One problem found in a user's input: what was expected, what was found, where, and what to do.
public struct Diagnostic: Error, Sendable, Hashable {
  /// Stable identifier, `APUS-<room>-<number>`.
  public var code: String
  public var message: String
  /// File and byte offset, node path, step or stream; empty when the message says it all.
  public var place: String
  /// What the user can do about it; empty when nothing helps.
  public var hint: String

  public init(_ code: String, _ message: String, place: String = "", hint: String = "") {
    self.code = code
    self.message = message
    self.place = place
    self.hint = hint
  }
}

extension Diagnostic: CustomStringConvertible {
  public var description: String {
    var text = "\(code): "
    if !place.isEmpty { text += "\(place): " }
    text += message
    if !hint.isEmpty { text += "\n  hint: \(hint)" }
    return text
  }
}

/// A room's error: every problem found, not only the first.
///
/// One type per room is declared with this protocol, so that a typed throw says where a failure came from.
public protocol RoomError: Error, Sendable, CustomStringConvertible {
  var problems: [Diagnostic] { get }
  init(problems: [Diagnostic])
}

extension RoomError {
  public init(_ code: String, _ message: String, place: String = "", hint: String = "") {
    self.init(problems: [Diagnostic(code, message, place: place, hint: hint)])
  }

  public init(_ problem: Diagnostic) { self.init(problems: [problem]) }

  /// The same problems, each with `place` put before its own place.
  public func at(_ place: String) -> Self {
    Self(
      problems: problems.map { problem in
        var placed = problem
        placed.place = placed.place.isEmpty ? place : "\(place): \(placed.place)"
        return placed
      })
  }

  public var description: String { problems.map(\.description).joined(separator: "\n") }
}

/// A shape or type rule of an operation does not hold (`APUS-S-…`).
public struct ShapeError: RoomError {
  public let problems: [Diagnostic]
  public init(problems: [Diagnostic]) { self.problems = problems }
}

/// An operation cannot be computed on the values given (`APUS-V-…`).
public struct EvaluationError: RoomError {
  public let problems: [Diagnostic]
  public init(problems: [Diagnostic]) { self.problems = problems }
}

/// A graph, its text form or an attribute list is malformed (`APUS-G-…`).
public struct GraphError: RoomError {
  public let problems: [Diagnostic]
  public init(problems: [Diagnostic]) { self.problems = problems }
}

/// A model file cannot be read or holds what is not supported (`APUS-I-…`).
public struct ImportError: RoomError {
  public let problems: [Diagnostic]
  public init(problems: [Diagnostic]) { self.problems = problems }
}

/// A graph cannot be compiled to an engine (`APUS-B-…`).
public struct BuildError: RoomError {
  public let problems: [Diagnostic]
  public init(problems: [Diagnostic]) { self.problems = problems }
}

/// An engine file is truncated, corrupt, foreign or does not fit this machine (`APUS-E-…`).
public struct EngineFileError: RoomError {
  public let problems: [Diagnostic]
  public init(problems: [Diagnostic]) { self.problems = problems }
}

/// A device refused an operation (`APUS-D-…`).
public struct DeviceError: RoomError {
  public let problems: [Diagnostic]
  public init(problems: [Diagnostic]) { self.problems = problems }
}

/// A call of a context was given inputs that do not fit, or failed while running (`APUS-R-…`).
public struct RunError: RoomError {
  public let problems: [Diagnostic]
  public init(problems: [Diagnostic]) { self.problems = problems }
}

/// A log of shapes cannot be read, or does not fit the model that advice is asked for (`APUS-A-…`).
public struct AdviceError: RoomError {
  public let problems: [Diagnostic]
  public init(problems: [Diagnostic]) { self.problems = problems }
}
