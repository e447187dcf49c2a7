import ApusCore

/// The command line asks for what cannot be (`APUS-C-…`).
struct UsageError: RoomError {
  let problems: [Diagnostic]
  init(problems: [Diagnostic]) { self.problems = problems }
}

/// Gathers the mistakes of a command line, so that all are reported at once.
struct UsageProblems {
  private(set) var found: [Diagnostic] = []

  mutating func add(_ code: String, _ message: String, place: String, hint: String = "") {
    found.append(Diagnostic(code, message, place: place, hint: hint))
  }

  mutating func add(_ problem: Diagnostic) { found.append(problem) }

  func throwIfAny() throws(UsageError) {
    if !found.isEmpty { throw UsageError(problems: found) }
  }
}

extension JSON {
  static func diagnostic(_ problem: Diagnostic) -> JSON {
    .object([
      ("code", .string(problem.code)), ("place", .string(problem.place)), ("message", .string(problem.message)),
      ("hint", .string(problem.hint)),
    ])
  }
}
