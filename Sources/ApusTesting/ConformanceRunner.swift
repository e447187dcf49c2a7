package import Apus
import ApusCompiler
import ApusCore
import ApusGraph
import ApusImport
import ApusPlan
import ApusRuntime

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Carries one conformance case at a time from model to answer.
package struct ConformanceRunner {
  private let backend: Backend
  private let device: any Device

  package init(backend: Backend = .cpu, threads: Int? = nil) {
    self.backend = backend
    device = backend.makeDevice(threads)
  }

  /// Codes of problems that mean: this is not supported.
  private static let unsupportedCodes: Set = ["APUS-I-0010", "APUS-I-0011", "APUS-I-0015", "APUS-I-0040"]

  /// Runs a case in the modes; the model is read once.
  ///
  /// - Parameter report: hears each result as soon as it is known.
  package func run(_ folder: String, modes: [ConformanceMode], report: (ConformanceResult) -> Void) {
    var result = ConformanceResult(
      name: String(folder.split(separator: "/").last ?? ""), mode: .raw, outcome: .pass)
    let test: ConformanceCase
    let model: Model
    do {
      test = try ConformanceCase(folder: folder)
      model = try importModel(test.modelPath)
    } catch {
      for mode in modes {
        result.mode = mode
        (result.outcome, result.message) = Self.judge(error)
        report(result)
      }
      return
    }
    for mode in modes {
      result.mode = mode
      do {
        (result.outcome, result.message) = try run(test, model, mode)
      } catch { (result.outcome, result.message) = Self.judge(error) }
      report(result)
    }
  }

  private static func judge(_ error: any Error) -> (ConformanceOutcome, String) {
    guard let error = error as? any RoomError else { return (.failed, "\(error)") }
    let isUnsupported = error.problems.contains { unsupportedCodes.contains($0.code) }
    return (isUnsupported ? .unsupported : .failed, error.description)
  }

  private func run(
    _ test: ConformanceCase, _ model: Model, _ mode: ConformanceMode
  ) throws -> (ConformanceOutcome, String) {
    let options = mode == .raw ? BuildOptions(passes: [], fuses: false) : BuildOptions()
    var plan = try build(model, for: backend, jobs: 1, options: options).plan
    if mode == .reloaded { plan = try Self.reloaded(plan) }
    let engine = try Engine(plan: plan, device: device, hostOperations: CatalogueHostOperations())
    let context = try engine.makeContext()
    for (index, dataSet) in test.dataSets.enumerated() {
      if let difference = try Self.difference(context, plan, dataSet, test.tolerance) {
        return (.wrong, "data set \(index): \(difference)")
      }
    }
    return (.pass, "")
  }

  /// The plan written to an engine file and read back.
  private static func reloaded(_ plan: Plan) throws -> Plan {
    let folder = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    let path = "\(folder)/apus-conformance-\(getpid()).apus"
    try EngineFile.write(plan, to: path)
    defer { unlink(path) }
    return try EngineFile.read(path)
  }

  /// Runs a data set; what differs from the expected outputs, or nil.
  private static func difference(
    _ context: borrowing ExecutionContext, _ plan: Plan, _ dataSet: ConformanceCase.DataSet, _ tolerance: Tolerance
  ) throws -> String? {
    var inputs: [HostValue] = []
    for (path, input) in zip(dataSet.inputs, plan.inputs) {
      inputs.append(try HostValue(onnxFile: path, type: input.type))
    }
    let outputs = try context.run(ordered: inputs)
    for ((path, binding), output) in zip(zip(dataSet.outputs, plan.outputs), outputs) {
      let expected = try HostValue(onnxFile: path, type: binding.type)
      let comparison = Comparison.compare(output, expected, tolerance)
      if let difference = comparison.difference {
        return
          "output '\(binding.name)': \(difference) (\(comparison.mismatchCount) of \(comparison.elementCount) differ)"
      }
    }
    if dataSet.outputs.count > outputs.count { return "\(outputs.count) outputs, \(dataSet.outputs.count) expected" }
    return nil
  }
}
