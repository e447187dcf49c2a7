import Apus
import ApusCore
import ApusGraph
import ApusTesting
import ArgumentParser

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Says how the models whose paths arrive on standard input fail, for `apus reduce`.
struct ReduceWorkerCommand: ParsableCommand {
  static let name = "reduce-worker"
  static let configuration = CommandConfiguration(commandName: name, shouldDisplay: false)

  @OptionGroup
  var options: ReduceOptions

  func run() throws {
    let shapes = try ShapeArguments(options.shape, inputs: nil).byName
    let seed = options.seed
    let files = options.input
    let check = try ModelCheck(backend: .named(options.backend), shapes: shapes, tolerance: options.tolerance) {
      name, type in
      let given = try TensorFiles.inputs(files.filter { $0.hasPrefix(name + "=") }, of: [(name, .tensor(type))])
      if let value = given[name] { return value }
      let made = RandomTensor.make(
        type.dtype, type.constantShape ?? [], seed: RandomInput.seed(seed, for: name),
        range: RandomInput.range(of: type.dtype))
      return .tensor(made)
    }
    while let request = readLine() {
      let parts = request.split(separator: " ", maxSplits: 1).map(String.init)
      var report = FailureReport()
      if parts[0] == "types" {
        report.types = check.types(of: parts[1]).mapValues { "\($0)" }
      } else if let found = check.failure(of: parts[1]) {
        (report.failure, report.message) = found
      }
      print(report.line + "\n")
      fflush(nil)
    }
  }
}
