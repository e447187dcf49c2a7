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

  package init(backend: Backend = .cpu, threads: Int? = nil) throws(DeviceError) {
    self.backend = backend
    device = try backend.makeDevice(threads)
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
    let loaded: LoadedModel
    do {
      test = try ConformanceCase(folder: folder)
      loaded = try Self.load(test, test.dataSets[0])
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
        (result.outcome, result.message) = try run(test, loaded, mode)
      } catch { (result.outcome, result.message) = Self.judge(error) }
      report(result)
    }
  }

  private static func judge(_ error: any Error) -> (ConformanceOutcome, String) {
    guard let error = error as? any RoomError else { return (.failed, "\(error)") }
    let isUnsupported = error.problems.contains { unsupportedCodes.contains($0.code) }
    return (isUnsupported ? .unsupported : .failed, error.description)
  }

  /// A model, and which inputs have become constants of it.
  private struct LoadedModel {
    var model: Model
    var fixed: Set<Int> = []
  }

  /// Largest input that is fixed where its value must be known when the model is read.
  private static let fixedElementLimit = 16

  /// Reads the model. Where it needs values that must be known then (the axes of a reduction), the small inputs of the
  /// data set become constants.
  private static func load(_ test: ConformanceCase, _ data: ConformanceCase.DataSet) throws(ImportError) -> LoadedModel
  {
    do { return LoadedModel(model: try importModel(test.modelPath)) } catch {
      guard error.problems.contains(where: { $0.code == "APUS-I-0015" }) else { throw error }
      var constants: [String: HostTensor] = [:]
      var fixed: Set<Int> = []
      for (index, (path, input)) in zip(data.inputs, try modelInputs(test.modelPath)).enumerated() {
        guard let type = input.type.tensor, type.rank <= 1,
          let value = try HostValue(onnxFile: path, type: input.type).tensor, value.elementCount <= fixedElementLimit
        else { continue }
        constants[input.name] = value
        fixed.insert(index)
      }
      return LoadedModel(model: try importModel(test.modelPath, constants: constants), fixed: fixed)
    }
  }

  private func run(
    _ test: ConformanceCase, _ loaded: LoadedModel, _ mode: ConformanceMode
  ) throws -> (ConformanceOutcome, String) {
    var loaded = loaded
    var engine = try engine(loaded.model, mode)
    let isRandom = Self.isRandom(loaded.model.graph)
    for (index, data) in test.dataSets.enumerated() {
      if index > 0, !loaded.fixed.isEmpty {
        loaded = try Self.load(test, data)
        engine = try self.engine(loaded.model, mode)
      }
      if let difference = try Self.difference(engine, data, fixed: loaded.fixed, isRandom ? nil : test.tolerance) {
        return (.wrong, "data set \(index): \(difference)")
      }
    }
    return isRandom ? (.random, "types and shapes are as expected, the values are random") : (.pass, "")
  }

  private func engine(_ model: Model, _ mode: ConformanceMode) throws -> (engine: Engine, plan: Plan) {
    let options = mode == .raw ? BuildOptions(passes: [], fuses: false) : BuildOptions()
    var plan = try build(model, for: backend, jobs: 1, options: options).plans[0]
    if mode == .reloaded { plan = try Self.reloaded(plan) }
    return (try Engine(plans: [plan], device: device, hostOperations: CatalogueHostOperations()), plan)
  }

  /// The plan written to an engine file and read back.
  private static func reloaded(_ plan: Plan) throws -> Plan {
    let folder = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    let path = "\(folder)/apus-conformance-\(getpid()).apus"
    try EngineFile.write([plan], to: path)
    defer { unlink(path) }
    return try EngineFile.read(path)[0]
  }

  /// Whether an operation draws random numbers, so that only types and shapes can be expected.
  private static func isRandom(_ graph: Graph) -> Bool {
    graph.order.contains { !graph[$0].op.isPure || graph[$0].op.bodies.contains(where: isRandom) }
  }

  /// Runs a data set; what differs from the expected outputs, or nil. Without a tolerance only types and shapes count.
  private static func difference(
    _ built: (engine: Engine, plan: Plan), _ dataSet: ConformanceCase.DataSet, fixed: Set<Int>, _ tolerance: Tolerance?
  ) throws -> String? {
    let plan = built.plan
    let context = try built.engine.makeContext()
    var inputs: [HostValue] = []
    let free = dataSet.inputs.indices.filter { !fixed.contains($0) }.map { dataSet.inputs[$0] }
    for (path, input) in zip(free, plan.inputs) {
      inputs.append(try HostValue(onnxFile: path, type: input.type))
    }
    let outputs = try context.run(ordered: inputs)
    for ((path, binding), output) in zip(zip(dataSet.outputs, plan.outputs), outputs) {
      let expected = try HostValue(onnxFile: path, type: binding.type)
      guard let tolerance else {
        if output.type == expected.type { continue }
        return "output '\(binding.name)': a \(output.type), \(expected.type) expected"
      }
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
