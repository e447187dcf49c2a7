import Apus
import ApusCore
import ApusGraph
import ApusImport
import ApusTesting
import ArgumentParser

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// How `apus reduce` decides whether a model fails.
struct ReduceOptions: ParsableArguments {
  @Option(help: ArgumentHelp("What to run on: \(Backend.all.map(\.name).joined(separator: ", ")).", valueName: "NAME"))
  var backend = "cpu"

  @Option(help: ArgumentHelp("Fix the shape of an input.", valueName: "NAME=1x3x640x640"))
  var shape: [String] = []

  @Option(help: ArgumentHelp("Give an input's value; others are random.", valueName: "NAME=FILE"))
  var input: [String] = []

  @Option(help: ArgumentHelp("Seed of random inputs.", valueName: "N"))
  var seed: UInt64 = 0

  @Option(
    help: ArgumentHelp(
      "Largest difference from the interpreter, relative to the larger of 1 and the magnitude.", valueName: "X"))
  var tolerance = 1e-3

  /// The words that give these options again.
  var words: [String] {
    ["--backend", backend, "--seed", "\(seed)", "--tolerance", "\(tolerance)"]
      + shape.flatMap { ["--shape", $0] } + input.flatMap { ["--input", $0] }
  }
}

/// Cuts a model that fails to the smallest one that still does.
struct ReduceCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reduce",
    abstract: "Cut a failing model to the smallest that still fails.",
    discussion: """
      Failing is an error when the model is read, built or run, a crash, or a result unlike the interpreter's. Nodes are taken \
      away as long as the model fails in the same way: with the same error code, or also wrong, or also crashing. What a \
      node that is gone computed becomes an input of the same type, filled with random numbers. Models are tried in a process \
      of their own, which may crash.

      With --test a shell command decides: it ends with 0 when the model in $MODEL still fails. So any other reference can be compared with.

        apus reduce model.onnx -o small.onnx
        apus reduce model.onnx --shape x=1x3x64x64 --input x=photo.npy --tolerance 1e-4
        apus reduce model.onnx --test 'apus build "$MODEL" 2>&1 | grep -q APUS-S-0041'
      """)

  @Argument(help: "The model (.onnx).", completion: .file())
  var model: String

  @Option(
    name: .shortAndLong,
    help: ArgumentHelp("Where the small model goes (default: MODEL with .reduced.onnx).", valueName: "FILE"),
    completion: .file())
  var output: String?

  @OptionGroup
  var options: ReduceOptions

  @Option(
    help: ArgumentHelp("A shell command that ends with 0 when the model in $MODEL still fails.", valueName: "COMMAND"))
  var test: String?

  @Option(help: ArgumentHelp("Seconds that trying a model may take; longer counts as a crash.", valueName: "S"))
  var timeout = 120

  @Flag(help: "Show no progress.")
  var quiet = false

  func run() throws {
    try validate(options)
    let whole = try ModelCut(path: model)
    let output = output ?? (model.hasSuffix(".onnx") ? String(model.dropLast(5)) : model) + ".reduced.onnx"
    let trial = "\(output).trial.\(getpid()).onnx"
    defer { unlink(trial) }
    let judge = ModelJudge(
      worker: ModelWorker(
        executable: try ConformanceCommand.ownPath(), arguments: [ReduceWorkerCommand.name] + options.words,
        timeout: .seconds(timeout)),
      test: test, timeout: .seconds(timeout), trial: trial)
    guard let (failure, message) = try judge.failure(whole) else {
      throw UsageError(
        "APUS-C-0038",
        test == nil
          ? "the model does not fail: it can be read, built and run, and gives what the interpreter gives"
          : "the model does not fail: the command does not end with 0", place: model,
        hint: test == nil
          ? "Give the inputs with which it fails, --input and --shape, a smaller --tolerance, or a --test of your own."
          : "$MODEL is the file to look at.")
    }
    if !quiet { print("\(model): \(count(whole)); \(message)") }
    let started = ContinuousClock.now
    let small = try ModelReducer.reduced(whole, failing: failure, check: judge.failure, types: judge.types) { smaller in
      if !quiet { print("  \(count(smaller))") }
    }
    try AtomicFile.write(try small.bytes(), to: output)
    let seconds = Double((ContinuousClock.now - started).components.seconds)
    print("\(output): \(count(small)), after \(judge.trialCount) models in \(Int(seconds)) s")
    for node in small.nodeTexts.prefix(20) { print("  \(node)") }
    if let message = try judge.failure(small)?.message, !message.isEmpty { print(message) }
  }

  private func count(_ cut: ModelCut) -> String { cut.wholeCount == 1 ? "1 node" : "\(cut.wholeCount) nodes" }

  private func validate(_ options: ReduceOptions) throws(UsageError) {
    var problems = UsageProblems()
    if !(1...86_400).contains(timeout) {
      problems.add("APUS-C-0014", "--timeout takes 1 to 86400 s", place: "--timeout \(timeout)")
    }
    if !(options.tolerance >= 0) {
      problems.add("APUS-C-0014", "--tolerance takes a number of 0 or more", place: "--tolerance \(options.tolerance)")
    }
    do { _ = try Backend(argument: options.backend) } catch { error.problems.forEach { problems.add($0) } }
    do {
      let inputs = try modelInputs(model)
      do { _ = try ShapeArguments(options.shape, inputs: inputs) } catch { error.problems.forEach { problems.add($0) } }
      do { _ = try TensorFiles.inputs(options.input, of: inputs) } catch { error.problems.forEach { problems.add($0) } }
    } catch { error.problems.forEach { problems.add($0) } }
    try problems.throwIfAny()
  }
}
