#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// How a case is carried from model to answer.
package enum ConformanceMode: String, CaseIterable, Codable, Sendable {
  /// Compiled as imported, without optimisation.
  case raw
  case optimised
  /// Optimised, written to an engine file, read back and run from there.
  case reloaded
}

/// What came of a case in one mode.
package enum ConformanceOutcome: String, Codable, Sendable {
  case pass
  /// Gave types and shapes as expected, and values that are random.
  case random
  /// Refused with an error that says what is not supported.
  case unsupported
  /// Ran and gave another answer.
  case wrong
  /// Crashed, took too long or too much memory, or reported another error.
  case failed
}

/// A case in one mode, its outcome, and why when it is no pass.
package struct ConformanceResult: Codable, Sendable {
  package var name: String
  package var mode: ConformanceMode
  package var outcome: ConformanceOutcome
  /// Why, where the case did not pass.
  package var message: String

  /// The result as one line of JSON.
  package var line: String {
    (try? JSONEncoder().encode(self)).map { String(decoding: $0, as: UTF8.self) } ?? ""
  }

  /// Reads what ``line`` wrote.
  package init?(line: String) {
    guard let result = try? JSONDecoder().decode(Self.self, from: Data(line.utf8)) else { return nil }
    self = result
  }

  package init(name: String, mode: ConformanceMode, outcome: ConformanceOutcome, message: String = "") {
    self.name = name
    self.mode = mode
    self.outcome = outcome
    self.message = message
  }
}

/// The results of a suite, in the order of the cases.
package struct ConformanceReport: Sendable {
  package var results: [ConformanceResult]

  package init(results: [ConformanceResult]) { self.results = results }

  /// `passed N of M (random R, unsupported U, wrong W, failed F)`.
  package var summary: String { Self.summary(results) }

  package func summary(of mode: ConformanceMode) -> String { Self.summary(results.filter { $0.mode == mode }) }

  package var isClean: Bool { !results.contains { $0.outcome == .wrong || $0.outcome == .failed } }

  private static func summary(_ results: [ConformanceResult]) -> String {
    func count(_ outcome: ConformanceOutcome) -> Int { results.count { $0.outcome == outcome } }
    return "passed \(count(.pass)) of \(results.count) "
      + "(random \(count(.random)), unsupported \(count(.unsupported)), wrong \(count(.wrong)), failed \(count(.failed)))"
  }
}
