package import ApusCompiler
@_exported public import ApusCore
import ApusGraph
package import ApusImport
import ApusOps
@_exported public import ApusPlan
@_exported public import ApusRuntime

#if canImport(FoundationEssentials)
  public import FoundationEssentials
#else
  public import Foundation
#endif

/// Reads a model of any format in ``Importers``.
///
/// - Parameters:
///   - shapes: sizes that replace those of the inputs named.
///   - values: elements of integer inputs that decide sizes.
///   - constants: inputs whose value is fixed; they are no inputs of the model any more.
/// - Throws: ``ImportError`` with every problem of the model.
package func importModel(
  _ path: String, shapes: [String: [Int]] = [:], values: [String: [Dim]] = [:], constants: [String: HostTensor] = [:]
) throws(ImportError) -> Model {
  let options = ImportOptions(
    shapes: shapes.mapValues { $0.map { Dim($0) } }, values: values, constants: constants, catalogue: .standard)
  return try Importers.find(for: path).load(path, options)
}

/// Names and types of a model's inputs, without reading the rest of it.
package func modelInputs(_ path: String) throws(ImportError) -> [(name: String, type: ValueType)] {
  try Importers.find(for: path).inputs(of: path)
}

/// Compiles a model for a backend's targets, and times its profiles when there are several and this machine can run them.
///
/// - Parameter targets: of the backend's target names; `native` is this machine.
/// - Parameter jobs: how many compilers run at once; nil for one per core.
/// - Throws: ``BuildError`` with every problem of the phase that failed.
package func build(
  _ model: Model, for backend: Backend = .cpu, targets names: [String] = ["native"], jobs: Int? = nil,
  options: BuildOptions = BuildOptions()
) throws(BuildError) -> BuildResult {
  var targets: [any Target] = []
  for name in names { targets.append(try backend.makeTarget(name, jobs)) }
  var result = try Builder.build(
    model.graph, name: model.name, metadata: model.metadata, targets: targets, options: options)
  // Times tell `.fastest` what to choose. An engine for another machine has none, one with a lock those of the lock.
  if options.lock == nil, result.plans.byTarget[0].count > 1, let engine = try? Engine(plans: result.plans) {
    options.progress(.measure, 0, 0)
    result.plans = result.plans.replacing(with: engine.timed())
  }
  return result
}

/// Builds the model in a file.
///
/// - Parameters:
///   - shapes: sizes that replace those of the inputs named; inputs left out keep their symbols.
///   - profiles: ranges of sizes, each with kernels of its own; none for one plan that takes every size.
///   - breaks: names of nodes after which the model is cut into pieces, compiled one by one.
///   - backend: what the engine runs on: `cpu` or `cuda`.
///   - targets: `native`, or the backend's names of machines such as `x86-64-v3` and `sm_90a`: the engine has plans for each of
///     them.
///   - choice: what is measured, or which lock decides, to choose how steps are computed.
///   - auxiliaryStreams: how many streams beside the first branches may run on where they leave a GPU idle, 0 to 8; nil for
///     two.
///   - warn: called with each corner of a profile that the model cannot be computed for.
/// - Throws: ``ImportError`` or ``BuildError``.
/// - Returns: a plan for each target and profile.
public func buildPlans(
  contentsOf url: URL, shapes: [String: [Int]] = [:], profiles: [Profile] = [], breaks: [String] = [],
  backend: String = "cpu", targets: [String] = ["native"], choosing choice: TacticChoice = TacticChoice(),
  auxiliaryStreams: Int? = nil, warn: (Diagnostic) -> Void = { _ in }
) throws -> [Plan] {
  let model = try importModel(url.path, shapes: shapes)
  let options = try buildOptions(profiles, breaks: breaks, auxiliaryStreams)
  let (result, tuning) = try build(
    model, for: try .named(backend), targets: targets, options: options, choosing: choice)
  (result.warnings + (tuning?.warnings ?? [])).forEach(warn)
  return result.plans
}

/// Adds profiles to an engine: its plans stay as they are, with their steps, tactics, images and constants; the new ones share
/// what is equal.
///
/// - Parameters:
///   - url: the model that the plans were built from.
///   - plans: those of the engine, as ``Engine/plans`` or `buildPlans` gives them.
///   - shapes: those that the plans were built with.
///   - backend: the one that the plans were built for, as are `targets`.
/// - Throws: ``ImportError``, or ``BuildError``: `APUS-B-0040` for another model, `-0041` other targets, `-0042` a name that is
///   taken.
/// - Returns: the plans, those of each target with those for `profiles` behind them.
public func buildPlans(
  contentsOf url: URL, adding profiles: [Profile], to plans: [Plan], shapes: [String: [Int]] = [:],
  backend: String = "cpu", targets: [String] = ["native"], auxiliaryStreams: Int? = nil
) throws -> [Plan] {
  if profiles.isEmpty { return plans }
  let model = try importModel(url.path, shapes: shapes)
  let options = try buildOptions(profiles, earlier: plans, auxiliaryStreams)
  return try build(model, for: try .named(backend), targets: targets, options: options).plans
}

/// Builds the model in a file for the profiles that its inputs declare.
///
/// - Parameters:
///   - inputs: declarations; inputs of the model left out keep their symbols.
///   - profileNames: names of the profiles by position.
///   - breaks: names of nodes after which the model is cut into pieces, compiled one by one.
///   - backend: what the engine runs on: `cpu` or `cuda`.
///   - choice: what is measured, or which lock decides, to choose how steps are computed.
///   - warn: called with each corner of a profile that the model cannot be computed for.
/// - Throws: ``BuildError`` with every mistake of the declarations, `APUS-B-0026` when the model has an input of another
///   element type; ``ImportError`` or ``BuildError`` of the model.
/// - Returns: a plan for each target and profile.
public func buildPlans(
  contentsOf url: URL, inputs: [Input], profileNames: [String] = [], breaks: [String] = [],
  backend: String = "cpu", targets: [String] = ["native"], choosing choice: TacticChoice = TacticChoice(),
  auxiliaryStreams: Int? = nil,
  warn: (Diagnostic) -> Void = { _ in }
) throws -> [Plan] {
  let set = try ProfileSet(inputs, names: profileNames)
  let model = try Importers.find(for: url.path).load(
    url.path, ImportOptions(shapes: set.shapes, values: set.values, catalogue: .standard))
  try checkTypes(inputs, of: model)
  let options = try buildOptions(set.profiles, breaks: breaks, auxiliaryStreams)
  let (result, tuning) = try build(
    model, for: try .named(backend), targets: targets, options: options, choosing: choice)
  (result.warnings + (tuning?.warnings ?? [])).forEach(warn)
  return result.plans
}

private func buildOptions(
  _ profiles: [Profile], earlier: [Plan] = [], breaks: [String] = [], _ auxiliaryStreams: Int?
) throws(BuildError) -> BuildOptions {
  let count = auxiliaryStreams ?? BuildOptions.usualAuxiliaryStreams
  if !(0...Plan.laneLimit).contains(count) {
    throw BuildError(
      "APUS-B-0068", "0 to \(Plan.laneLimit) streams beside the first are possible, \(count) are asked for",
      place: "auxiliaryStreams")
  }
  return BuildOptions(profiles: profiles, earlier: earlier, breaks: breaks, auxiliaryStreams: count)
}

private func checkTypes(_ inputs: [Input], of model: Model) throws(BuildError) {
  var problems: [Diagnostic] = []
  for id in model.graph.inputs {
    let (name, type) = (model.graph[id].name, model.graph.type(id))
    guard let input = inputs.first(where: { $0.name == name }), type.tensor?.dtype != input.dtype else { continue }
    problems.append(
      Diagnostic("APUS-B-0026", "\(input.dtype) is declared, the model has \(type)", place: "input '\(name)'"))
  }
  if !problems.isEmpty { throw BuildError(problems: problems) }
}

extension [Plan] {
  /// Writes the plans as an engine file, whole or not at all.
  public func write(to url: URL) throws(EngineFileError) { try EngineFile.write(self, to: url.path) }
}

extension Engine {
  /// Loads an engine file and makes it ready on the device that it was built for, with the plans of the target that suits it
  /// best.
  ///
  /// - Parameter threads: how many threads compute; nil for one per core.
  /// - Throws: ``EngineFileError`` with the exact difference when the engine does not fit this machine.
  public convenience init(contentsOf url: URL, threads: Int? = nil) throws(EngineFileError) {
    try self.init(path: url.path, threads: threads)
  }

  package convenience init(path: String, threads: Int? = nil) throws(EngineFileError) {
    let plans = try EngineFile.read(path)
    do { try self.init(plans: plans, threads: threads) } catch { throw error.at(path) }
  }

  /// Makes plans ready on the device that they were built for.
  public convenience init(plans: [Plan], threads: Int? = nil) throws(EngineFileError) {
    try Plan.validate(plans)
    let backend = try Backend.named(plans[0].fingerprint.backend)
    let device: any Device
    do { device = try backend.makeDevice(threads) } catch { throw EngineFileError(problems: error.problems) }
    try self.init(plans: plans, device: device, hostOperations: CatalogueHostOperations())
  }
}
