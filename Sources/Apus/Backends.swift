import ApusCPUDevice
import ApusCPUTarget
import ApusCUDADevice
import ApusCUDATarget
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
  /// The device of this machine, with a number of threads where that is for the host to say.
  package let makeDevice: @Sendable (Int?) throws(DeviceError) -> any Device

  package static let cpu = Backend(
    name: "cpu", targets: CPUTarget.names,
    makeTarget: { (name, jobs) throws(BuildError) in
      let features = CPUFeatures()
      return try CPUCodeTarget(name: name, machineFeatures: features.names, jobs: jobs ?? features.processorCount)
    },
    makeDevice: { threads throws(DeviceError) in CPUDevice(threads: threads) })

  package static let cuda = Backend(
    name: "cuda", targets: CUDAArchitecture.names,
    makeTarget: { (name, jobs) throws(BuildError) in
      let native = try? CUDADriver.processors().first?.architecture
      return try CUDACodeTarget(name: name, native: native, jobs: jobs ?? CPUFeatures().processorCount)
    },
    makeDevice: { _ throws(DeviceError) in try CUDADevice() })

  /// The backends there are: the only list of them.
  package static let all = [cpu, cuda]

  /// - Throws: ``EngineFileError`` `APUS-E-0011` for a name that is not known.
  package static func named(_ name: String) throws(EngineFileError) -> Backend {
    if let backend = all.first(where: { $0.name == name }) { return backend }
    throw EngineFileError(
      "APUS-E-0011", "there is no backend '\(name)'", hint: Spelling.hint(for: name, in: all.map(\.name)))
  }
}
