import Apus
import ApusCPUDevice
import ApusCompiler
import ApusCore
import ApusPlan
import ApusRuntime

/// An engine ready to run: from an engine file, or built in memory from a model.
struct Session {
  let engine: Engine
  /// Shapes given on the command line.
  let shapes: [String: [Int]]
  let loadTime: Duration
  /// How long building took, when the file was a model.
  let buildTime: Duration?
  /// The plan whose inputs are made up: that of the profile asked for, or the first that takes the shapes given.
  let plan: Plan

  /// Number of threads that compute.
  var threadCount: Int { (engine.device as? CPUDevice)?.threadCount ?? 1 }

  /// Opens the file.
  ///
  /// - Parameters:
  ///   - shapes: `--shape` arguments; for a model they fix its inputs' shapes before it is built.
  ///   - profile: which profile runs; nil for the first.
  ///   - backend: what a model is built for; nil for the CPU.
  init(
    _ path: String, shapes arguments: [String], profile: ProfileSelection?, backend: Backend?, threads: Int?,
    progress: ProgressBar
  ) throws {
    let start = ContinuousClock.now
    if try ModelFile.isEngine(path) {
      engine = try Engine(path: path, threads: threads)
      try backend?.check(engine.plans)
      shapes = try ShapeArguments(arguments, inputs: nil).byName
      plan = try engine.plan(for: profile, shapes: shapes)
      _ = try ShapeArguments(arguments, inputs: plan.inputTypes)
      buildTime = nil
      loadTime = ContinuousClock.now - start
      return
    }
    shapes = try ShapeArguments(arguments, inputs: nil).byName
    let options = BuildOptions { progress.update($0.rawValue, $1, of: $2) }
    let plans = try build(try importModel(path, shapes: shapes), for: backend ?? .cpu, options: options).plans
    progress.finish()
    let built = ContinuousClock.now
    engine = try Engine(plans: plans, threads: threads)
    plan = try engine.plan(for: profile, shapes: shapes)
    buildTime = built - start
    loadTime = ContinuousClock.now - built
  }
}
