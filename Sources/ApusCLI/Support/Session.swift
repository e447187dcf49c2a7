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

  /// Number of threads that compute.
  var threadCount: Int { (engine.device as? CPUDevice)?.threadCount ?? 1 }

  /// Opens the file.
  ///
  /// - Parameter shapes: `--shape` arguments; for a model they fix its inputs' shapes before it is built.
  init(
    _ path: String, shapes arguments: [String], threads: Int?, progress: ProgressBar
  ) throws {
    let start = ContinuousClock.now
    if try ModelFile.isEngine(path) {
      engine = try Engine(path: path, threads: threads)
      shapes = try ShapeArguments(arguments, inputs: engine.plan.inputTypes).byName
      buildTime = nil
      loadTime = ContinuousClock.now - start
      return
    }
    shapes = try ShapeArguments(arguments, inputs: nil).byName
    let options = BuildOptions { progress.update($0.rawValue, $1, of: $2) }
    let plan = try build(try importModel(path, shapes: shapes), options: options).plan
    progress.finish()
    let built = ContinuousClock.now
    engine = try Engine(plan: plan, threads: threads)
    buildTime = built - start
    loadTime = ContinuousClock.now - built
  }
}
