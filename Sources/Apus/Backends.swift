import ApusCPUDevice
import ApusCPUTarget
package import ApusCompiler
package import ApusCore
package import ApusRuntime

/// What engines are built for and run on: a code target and a device.
package struct Backend: Sendable {
  package let name: String
  /// Names of targets that ``makeTarget`` accepts.
  package let targets: [String]
  /// The target of a name, compiling with a number of jobs at once.
  package let makeTarget: @Sendable (String, Int?) throws(BuildError) -> any Target
  /// The device of this machine, with a number of threads.
  package let makeDevice: @Sendable (Int?) -> any Device

  package static let cpu = Backend(
    name: "cpu", targets: CPUTarget.names,
    makeTarget: { (name, jobs) throws(BuildError) in
      let features = CPUFeatures()
      return try CPUCodeTarget(name: name, machineFeatures: features.names, jobs: jobs ?? features.processorCount)
    },
    makeDevice: { CPUDevice(threads: $0) })

  /// The backends there are: the only list of them.
  package static let all = [cpu]

  /// - Throws: ``EngineFileError`` `APUS-E-0011` for a name that is not known.
  package static func named(_ name: String) throws(EngineFileError) -> Backend {
    if let backend = all.first(where: { $0.name == name }) { return backend }
    throw EngineFileError(
      "APUS-E-0011", "there is no backend '\(name)'", hint: Spelling.hint(for: name, in: all.map(\.name)))
  }
}
