import ApusCore
import Synchronization

/// Why a context is of no more use, noted by whichever thread learns it.
final class ContextFailure: Sendable {
  private let isSet = Atomic<Bool>(false)
  private let error = Mutex<RunError?>(nil)

  /// Keeps the first error after which the device does nothing more for the context; others leave it usable.
  func note(_ found: RunError) {
    guard found.problems.contains(where: { Self.fatal.contains($0.code) }) else { return }
    error.withLock { if $0 == nil { $0 = found } }
    isSet.store(true, ordering: .releasing)
  }

  /// The device stopped, or was given up.
  private static let fatal: Set = ["APUS-D-0016", "APUS-D-0017"]

  /// - Throws: ``RunError`` `APUS-R-0027` with what happened before.
  func check() throws(RunError) {
    if !isSet.load(ordering: .acquiring) { return }
    guard let first = error.withLock({ $0 })?.problems.first else { return }
    throw RunError(
      "APUS-R-0027", "the context cannot be used since a run failed: \(first.code): \(first.message)",
      place: first.place, hint: first.hint)
  }
}
