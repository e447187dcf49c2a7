import Apus
import ApusCompiler
import ApusCore
import ApusOps
import ApusPlan
import ArgumentParser

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

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
        apus build model.onnx --backend cuda --target sm_80,sm_90a,compute_90
        apus build model.onnx --tune quick
        apus build model.onnx --tune 60s --write-lock model.lock
        apus build model.onnx --lock model.lock
        apus build model.onnx --backend cuda --aux-streams 2
        apus build model.onnx --fuse mean,norm --no-fuse softmax --log-fusions fusions.txt
        apus build model.onnx --layout stem/conv=nchw --log-fusions decisions.txt
        apus build model.onnx --backend cuda --target sm_90a --timing-cache h200.timings
        apus build model.onnx --profile "decode: seq=1" --profile "prefill: seq=1..512@256"
        apus build model.onnx --profile "prefill: input_ids=1x1..1x512@1x256"
        apus build model.onnx --profile "any: shape=[-1,4]..[512,4]@[128,4]"
        apus build model.onnx --profile=0 --optShapes=ids:1x1 --profile=1 --minShapes=ids:1x1 --maxShapes=ids:1x512
        apus build model.onnx --from model.apus --add-profile "long: seq=512..4096@1024" -o model.apus

      In brackets stand the elements of an integer input that decide sizes, not its shape. Shape flags are those of \
      trtexec: NAME:SIZExSIZE,… for inputs, each for the --profile=N before it. Of min, opt and max those left out are \
      filled from the others. With --from the engine's profiles stay as they are; give --shape and --break-at as they were. \
      With several targets the engine has code for each and the constants once; the one that suits the device best runs. \
      compute_NN is assembly, which the drivers of newer GPUs compile when the engine is loaded.

      By --tune off (the default) a cost model chooses how steps are computed; quick times the first few ways of each on this \
      machine's device, 10 s at most, full all of them, 5 minutes at most; a time is a limit for what it takes to measure, \
      compare and build again. Where time is left and there is one target, fusion decisions and layouts are tried the other way. With a lock nothing is measured: engines of the same model, options and compiler have the same bytes.
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
    help: ArgumentHelp(
      "Instruction sets or architectures, one or more: "
        + Backend.all.map { "\($0.targets.joined(separator: ", ")) (\($0.name))" }.joined(separator: "; ")
        + " (default: native, or what the engine of --from is for).",
      valueName: "NAME,…"))
  var target: [String] = []

  @Option(help: ArgumentHelp("Fix the shape of an input.", valueName: "NAME=1x3x640x640"))
  var shape: [String] = []

  @OptionGroup var profiles: ProfileOptions

  @Option(
    help: ArgumentHelp("Add a profile to the engine of --from.", valueName: "\"NAME: SYM=MIN..MAX@OPT\""))
  var addProfile: [String] = []

  @Option(
    help: ArgumentHelp("The engine, of the same model, to add profiles to.", valueName: "ENGINE"), completion: .file())
  var from: String?

  @Option(
    help: ArgumentHelp("Cut the model after this node into pieces compiled one by one; repeatable.", valueName: "NODE"))
  var breakAt: [String] = []

  @Flag(help: "Cut the model where only the host can compute a node.")
  var breakAtHost = false

  @Flag(help: "Let the host compute what the backend cannot.")
  var allowHostOps = false

  @Option(
    name: [.customLong("aux-streams"), .customLong("maxAuxStreams")],
    help: ArgumentHelp(
      "Streams beside the first that branches may run on where they leave a GPU idle, 0 to \(Plan.laneLimit).",
      valueName: "N"))
  var auxStreams = BuildOptions.usualAuxiliaryStreams

  @Option(
    help: ArgumentHelp(
      "What to measure of the ways to compute each step (default: off).", valueName: "off|quick|full|TIME"))
  var tune: String?

  @Option(help: ArgumentHelp("Compute each step as a lock says.", valueName: "FILE.lock"), completion: .file())
  var lock: String?

  @Option(help: ArgumentHelp("Write how each step is computed.", valueName: "FILE.lock"), completion: .file())
  var writeLock: String?

  @Option(
    help: ArgumentHelp("Compute these nodes in one step; repeatable.", valueName: "NODE,NODE…"))
  var fuse: [String] = []

  @Option(
    help: ArgumentHelp(
      "Compute no two of these nodes in one step, a single one in a step of its own; repeatable.",
      valueName: "NODE,…"))
  var noFuse: [String] = []

  @Option(
    help: ArgumentHelp(
      "Put the channels of these convolutions or pools before their pixels (nchw) or last (nhwc, as usual); repeatable.",
      valueName: "NODE,…=nchw|nhwc"))
  var layout: [String] = []

  @OptionGroup var timings: TimingCacheOption

  @Option(help: ArgumentHelp("Compilers to run at once (default: the cores).", valueName: "N"))
  var jobs: Int?

  @Option(
    help: ArgumentHelp(
      "Write which fusions and layouts were taken and refused, why, and what each should gain.", valueName: "FILE"),
    completion: .file())
  var logFusions: String?

  @Flag(help: "Show no progress.")
  var quiet = false

  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let start = ContinuousClock.now
    let output = output ?? Self.engineName(for: model)
    let request = try checkedArguments(output: output)
    let progress = ProgressBar(isQuiet: quiet)
    progress.update("read", 0, of: 0)
    let earlier = try from.map { try EngineFile.read($0) } ?? []
    let path = self.model
    let option = from == nil ? "--profile" : "--add-profile"
    let declarations = try request.profiles.tellingElements { try modelInputs(path) }
    let values = try ProfileArguments.values(declarations, option: option, earlier: earlier) {
      try modelInputs(path)
    }
    let model = try importModel(path, shapes: request.shapes, values: values?.values ?? [:])
    let profiles = try ProfileArguments.parse(
      declarations, option: option, symbols: model.symbols,
      inputs: model.inputTypes, earlier: Set(earlier.map(\.profile.name)).sorted(), fixed: Set(request.shapes.keys),
      values: values)
    let options = BuildOptions(
      profiles: profiles, earlier: earlier, breaks: breakAt, breaksAtHost: breakAtHost,
      allowsHostOperations: allowHostOps, auxiliaryStreams: auxStreams
    ) { progress.update($0.rawValue, $1, of: $2) }
    defer { progress.finish() }
    let targets =
      !request.targets.isEmpty ? request.targets : earlier.isEmpty ? ["native"] : earlier.targets.map(\.target)
    let choice = TacticChoice(
      tuning: request.tuning, timingCache: timings.path.map { URL(fileURLWithPath: $0) },
      lock: lock.map { URL(fileURLWithPath: $0) }, lockOutput: writeLock.map { URL(fileURLWithPath: $0) },
      fusing: fuse.map(Self.names),
      keepingApart: noFuse.map(Self.names), channelsFirst: request.layouts.names(.nchw),
      channelsLast: request.layouts.names(.nhwc))
    var (result, tuning) = try build(
      model, for: request.backend, targets: targets, jobs: jobs, options: options, choosing: choice)
    result.warnings += tuning?.warnings ?? []
    progress.update("write", 0, of: 0)
    try EngineFile.write(result.plans, to: output)
    if let logFusions { try AtomicFile.write(Array(result.log.text.utf8), to: logFusions) }
    progress.finish()
    for warning in result.warnings { printError("warning \(warning)") }
    report(result, output, ContinuousClock.now - start, tuning)
  }

  private static func names(_ list: String) -> [String] { list.split(separator: ",").map(String.init) }

  static func engineName(for model: String) -> String {
    (model.hasSuffix(".onnx") ? String(model.dropLast(5)) : model) + ".apus"
  }

  /// Arguments that make sense by themselves.
  private struct Request {
    var backend: Backend
    var targets: [String]
    var shapes: [String: [Int]]
    var profiles: ProfileDeclarations
    var tuning: Tuning
    var layouts: LayoutArguments
  }

  /// Checks what can be checked before the model is read, all at once.
  private func checkedArguments(output: String) throws(UsageError) -> Request {
    var problems = UsageProblems()
    let names = Backend.all.map(\.name)
    let chosen = Backend.all.first { $0.name == backend }
    if chosen == nil {
      problems.add(
        "APUS-C-0016", "there is no backend '\(backend)'", place: "--backend",
        hint: Spelling.hint(for: backend, in: names))
    }
    let targets = target.flatMap { $0.split(separator: ",", omittingEmptySubsequences: false).map(String.init) }
    if let chosen {
      for target in targets where !chosen.targets.contains(target) {
        problems.add(
          "APUS-C-0016", "backend \(chosen.name) has no target '\(target)'", place: "--target",
          hint: Spelling.hint(for: target, in: chosen.targets))
      }
    }
    if let jobs, !(1...1024).contains(jobs) {
      problems.add("APUS-C-0014", "1 to 1024 jobs are possible, \(jobs) are asked for", place: "--jobs")
    }
    if !(0...Plan.laneLimit).contains(auxStreams) {
      problems.add(
        "APUS-C-0014", "0 to \(Plan.laneLimit) streams are possible, \(auxStreams) are asked for",
        place: "--aux-streams")
    }
    let folder = output.lastIndex(of: "/").map { $0 == output.startIndex ? "/" : String(output[..<$0]) } ?? "."
    if access(folder, W_OK) != 0 {
      problems.add(
        "APUS-C-0021", "cannot write into '\(folder)': \(String(cString: strerror(errno)))", place: "--output \(output)"
      )
    }
    for list in fuse where Self.names(list).count < 2 {
      problems.add(
        "APUS-C-0035", "at least two nodes are needed", place: "--fuse \(list)", hint: "Name them as --fuse A,B.")
    }
    for list in noFuse where Self.names(list).isEmpty {
      problems.add("APUS-C-0035", "a node is needed", place: "--no-fuse \(list)", hint: "Name it as --no-fuse A.")
    }
    var layouts = LayoutArguments()
    do { layouts = try LayoutArguments(layout) } catch { for problem in error.problems { problems.add(problem) } }
    var tuning = Tuning.off
    do { tuning = try tune.map { text throws(UsageError) in try Tuning(text, place: "--tune") } ?? .off } catch {
      for problem in error.problems { problems.add(problem) }
    }
    if lock != nil, let other = tuning != .off ? "--tune" : from != nil ? "--from" : nil {
      problems.add(
        "APUS-C-0026", other == "--tune" ? "a lock leaves nothing to measure" : "a lock is of a whole engine",
        place: other, hint: "Leave --lock or \(other) out.")
    }
    var declared = ProfileDeclarations.texts([])
    do { declared = try declarations() } catch { for problem in error.problems { problems.add(problem) } }
    var shapes: [String: [Int]] = [:]
    do { shapes = try ShapeArguments(shape, inputs: nil).byName } catch {
      for problem in error.problems { problems.add(problem) }
    }
    try problems.throwIfAny()
    guard let chosen else { throw UsageError(problems: problems.found) }
    return Request(
      backend: chosen, targets: targets, shapes: shapes, profiles: declared, tuning: tuning,
      layouts: layouts)
  }

  /// The profiles to build: those to add, or those of a new engine.
  private func declarations() throws(UsageError) -> ProfileDeclarations {
    let declared = try profiles.declarations()
    guard let from else {
      if addProfile.isEmpty { return declared }
      throw UsageError(
        "APUS-C-0026", "there is no engine to add a profile to", place: "--add-profile \"\(addProfile[0])\"",
        hint: "Name it with --from ENGINE.apus, or declare the profiles of a new engine with --profile.")
    }
    var problems = UsageProblems()
    if addProfile.isEmpty {
      problems.add(
        "APUS-C-0026", "there is no profile to add", place: "--from \(from)",
        hint: "Give --add-profile \"NAME: SYMBOL=MIN..MAX@OPT\".")
    }
    if !declared.isEmpty {
      problems.add(
        "APUS-C-0026", "an engine's own profiles stay as they are", place: "--profile",
        hint: "Add one with --add-profile.")
    }
    try problems.throwIfAny()
    return .texts(addProfile)
  }

  private func report(_ result: BuildResult, _ path: String, _ duration: Duration, _ tuning: TuningReport?) {
    let targets = result.plans.byTarget
    let plans = targets[0]
    let (seconds, plan) = (duration / .seconds(1), plans[0])
    let steps = plans.reduce(0) { $0 + $1.stepCount }
    let functions = targets.reduce(0) { $0 + $1[0].functions.count }
    if json {
      print(
        JSON.object([
          ("model", .string(model)), ("engine", .string(path)), ("engine_bytes", .int(FileSize.of(path))),
          ("seconds", .number(seconds)), ("steps", .int(steps)), ("functions", .int(functions)),
          ("targets", .strings(result.plans.targets.map(\.target))), ("constant_bytes", .int(plan.constants.byteCount)),
          ("inputs", .array(plan.inputs.map { JSON.binding($0.name, $0.type) })),
          ("outputs", .array(plan.outputs.map { JSON.binding($0.name, $0.type) })),
          ("profiles", .strings(plans.map(\.profile.name))), ("pieces", .int(plan.pieces.count)),
          ("tuning", tuning.map { TuningText(report: $0).json } ?? .null),
          ("warnings", .array(result.warnings.map(JSON.diagnostic))),
        ]))
      return
    }
    print(
      """
      \(path): \(Units.bytes(FileSize.of(path))), \(plans.count == 1 ? "" : "\(plans.count) profiles, ")\(plan.pieces.isEmpty ? "" : "\(plan.pieces.count) pieces, ")\(steps) steps, \(functions) kernels for \
      \(plan.fingerprint.backend) \(result.plans.targets.names), in \(Units.fixed(seconds, 1)) s
      """)
    if let tuning { print("tuning: " + TuningText(report: tuning).text, terminator: "") }
  }
}
