import Apus
import ApusCore
import ApusPlan

extension Backend {
  /// - Throws: ``UsageError`` `APUS-C-0016` for a name that is not known.
  init(argument name: String) throws(UsageError) {
    guard let backend = Self.all.first(where: { $0.name == name }) else {
      throw UsageError(
        "APUS-C-0016", "there is no backend '\(name)'", place: "--backend",
        hint: Spelling.hint(for: name, in: Self.all.map(\.name)))
    }
    self = backend
  }

  /// - Throws: ``UsageError`` `APUS-C-0016` when plans are for another one.
  func check(_ plans: [Plan]) throws(UsageError) {
    guard let found = plans.first?.fingerprint.backend, found != name else { return }
    throw UsageError(
      "APUS-C-0016", "the engine is for '\(found)', not for '\(name)'", place: "--backend",
      hint: "An engine says itself what it runs on: leave --backend out.")
  }
}
