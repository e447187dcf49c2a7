import Apus
import ApusCompiler
import ApusCore
import ApusPlan
import ArgumentParser

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Compiles a model into an engine file.
struct BuildCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "build",
    abstract: "Compile a model into an engine file.",
    discussion: """
      The engine holds code and weights; running it needs no compiler. Without --shape and --profile all dynamic sizes \
      stay free.

        apus build model.onnx -o model.apus
        apus build model.onnx --shape images=1x3x640x640 --target x86-64-v3
        apus build model.onnx --profile "decode: seq=1" --profile "prefill: seq=1..512@256"
        apus build model.onnx --profile "prefill: input_ids=1x1..1x512@1x256"
      """)

  @Argument(help: "The model (.onnx).", completion: .file())
  var model: String

  @Option(
    name: [.short, .customLong("output")],
    help: ArgumentHelp("The engine file (default: beside the model, ending in .apus).", valueName: "ENGINE"),
    completion: .file())
  var output: String?

  @Option(help: ArgumentHelp("What to run on: \(Backend.all.map(\.name).joined(separator: ", ")).", valueName: "NAME"))
  var backend = "cpu"

  @Option(
    help: ArgumentHelp("Instruction set: \(Backend.cpu.targets.joined(separator: ", ")).", valueName: "NAME"))
  var target = "native"

  @Option(help: ArgumentHelp("Fix the shape of an input.", valueName: "NAME=1x3x640x640"))
  var shape: [String] = []

  @Option(
    help: ArgumentHelp("Ranges of dynamic sizes, and which to tune for.", valueName: "\"NAME: SYM=MIN..MAX@OPT\""))
  var profile: [String] = []

  @Option(help: ArgumentHelp("Compilers to run at once (default: the cores).", valueName: "N"))
  var jobs: Int?

  @Option(
    help: ArgumentHelp("Write which fusions were taken and refused, and why.", valueName: "FILE"), completion: .file())
  var logFusions: String?

  @Flag(help: "Show no progress.")
  var quiet = false

  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let start = ContinuousClock.now
    let path = output ?? Self.engineName(for: model)
    let (chosen, shapes) = try checkedArguments(output: path)
    let progress = ProgressBar(isQuiet: quiet)
    progress.update("read", 0, of: 0)
    let model = try importModel(self.model, shapes: shapes)
    let profiles = try ProfileArguments.parse(
      profile, symbols: model.symbols, inputs: model.inputTypes, fixed: Set(shapes.keys))
    let options = BuildOptions(profiles: profiles) { progress.update($0.rawValue, $1, of: $2) }
    defer { progress.finish() }
    let result = try build(model, for: chosen, target: target, jobs: jobs, options: options)
    progress.update("write", 0, of: 0)
    try EngineFile.write(result.plans, to: path)
    if let logFusions { try AtomicFile.write(Array(result.log.text.utf8), to: logFusions) }
    progress.finish()
    for warning in result.warnings { printError("warning \(warning)") }
    report(result, path, ContinuousClock.now - start)
  }

  static func engineName(for model: String) -> String {
    (model.hasSuffix(".onnx") ? String(model.dropLast(5)) : model) + ".apus"
  }

  /// Checks what can be checked before the model is read, all at once.
  private func checkedArguments(output: String) throws(UsageError) -> (Backend, [String: [Int]]) {
    var problems = UsageProblems()
    let names = Backend.all.map(\.name)
    let chosen = Backend.all.first { $0.name == backend }
    if chosen == nil {
      problems.add(
        "APUS-C-0016", "there is no backend '\(backend)'", place: "--backend",
        hint: Spelling.hint(for: backend, in: names))
    }
    if let chosen, !chosen.targets.contains(target) {
      problems.add(
        "APUS-C-0016", "backend \(chosen.name) has no target '\(target)'", place: "--target",
        hint: Spelling.hint(for: target, in: chosen.targets))
    }
    if let jobs, !(1...1024).contains(jobs) {
      problems.add("APUS-C-0014", "1 to 1024 jobs are possible, \(jobs) are asked for", place: "--jobs")
    }
    let folder = output.lastIndex(of: "/").map { $0 == output.startIndex ? "/" : String(output[..<$0]) } ?? "."
    if access(folder, W_OK) != 0 {
      problems.add(
        "APUS-C-0021", "cannot write into '\(folder)': \(String(cString: strerror(errno)))", place: "--output \(output)"
      )
    }
    var shapes: [String: [Int]] = [:]
    do { shapes = try ShapeArguments(shape, inputs: nil).byName } catch {
      for problem in error.problems { problems.add(problem) }
    }
    try problems.throwIfAny()
    guard let chosen else { throw UsageError(problems: problems.found) }
    return (chosen, shapes)
  }

  private func report(_ result: BuildResult, _ path: String, _ duration: Duration) {
    let plans = result.plans
    let (seconds, plan) = (duration / .seconds(1), plans[0])
    let steps = plans.reduce(0) { $0 + $1.stepCount }
    if json {
      print(
        JSON.object([
          ("model", .string(model)), ("engine", .string(path)), ("engine_bytes", .int(FileSize.of(path))),
          ("seconds", .number(seconds)), ("steps", .int(steps)), ("functions", .int(plan.functions.count)),
          ("target", .string(plan.fingerprint.target)), ("constant_bytes", .int(plan.constants.byteCount)),
          ("inputs", .array(plan.inputs.map { JSON.binding($0.name, $0.type) })),
          ("outputs", .array(plan.outputs.map { JSON.binding($0.name, $0.type) })),
          ("profiles", .strings(plans.map(\.profile.name))), ("warnings", .array(result.warnings.map(JSON.diagnostic))),
        ]))
      return
    }
    print(
      """
      \(path): \(Units.bytes(FileSize.of(path))), \(plans.count == 1 ? "" : "\(plans.count) profiles, ")\(steps) steps, \(plan.functions.count) kernels for \
      \(plan.fingerprint.backend) \(plan.fingerprint.target), in \(Units.fixed(seconds, 1)) s
      """)
  }
}
