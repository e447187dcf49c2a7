import Apus
import ApusCompiler
import Foundation

extension Backend {
  /// What the tests of profiles run on: the CPU, or what `APUS_TEST_BACKEND` names.
  static let underTest: Backend = {
    let name = ProcessInfo.processInfo.environment["APUS_TEST_BACKEND"] ?? cpu.name
    guard let backend = all.first(where: { $0.name == name }) else {
      preconditionFailure("APUS_TEST_BACKEND is '\(name)', which is none of \(all.map(\.name))")
    }
    return backend
  }()

  /// A target that this machine runs.
  static let ownTarget =
    underTest.name == cpu.name
    ? "x86-64-v3" : (try? underTest.makeTarget("native", nil).fingerprint.target) ?? "sm_90a"

  /// A target that it need not run.
  static let otherTarget = underTest.name == cpu.name ? "x86-64-v4" : "sm_100a"
}
