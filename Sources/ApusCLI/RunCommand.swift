import Apus
import ApusCore
import ApusImport
import ApusPlan
import ApusRuntime
import ApusTesting
import ArgumentParser

/// Runs a model once.
struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Run an engine or a model once, and compare its outputs if asked.",
    discussion: """
      A model that is not built is built in memory first. Inputs that are not given are random, the same for the same \
      seed: floats in -1 … 1, integers in 0 … 7. The relative error printed is the largest difference divided by the \
      largest expected value; the comparison itself is per element, |a - b| <= atol + rtol * |b|.

        apus run model.apus --input images=photo.npy --output-dir out
        apus run model.onnx --shape images=1x3x640x640 --compare expected --rtol 1e-4 --atol 1e-5
        apus run model.apus --profile auto --record-shapes shapes.jsonl
      """)

  @Argument(help: "The engine (.apus) or model (.onnx).", completion: .file())
  var model: String

  @Option(
    help: ArgumentHelp("Value of an input: .npy, .npz, .npz:KEY or .pb.", valueName: "NAME=FILE"), completion: .file())
  var input: [String] = []

  @Option(help: ArgumentHelp("Shape of an input.", valueName: "NAME=1x3x640x640"))
  var shape: [String] = []

  @Option(help: ArgumentHelp("Write each output to DIR/NAME.npy.", valueName: "DIR"), completion: .directory)
  var outputDir: String?

  @Option(
    help: ArgumentHelp("Compare with DIR/NAME.npy, or DIR/output_J.pb; a mismatch ends with 2.", valueName: "DIR"),
    completion: .directory)
  var compare: String?

  @Option(help: ArgumentHelp("Relative tolerance per element.", valueName: "R"))
  var rtol = 1e-3

  @Option(help: ArgumentHelp("Absolute tolerance per element.", valueName: "A"))
  var atol = 1e-5

  @Option(help: ArgumentHelp("Seed of random inputs.", valueName: "N"))
  var seed: UInt64 = 0

  @Option(
    help: ArgumentHelp(
      "Run so often and give what the last run gave; GPUs record launches in the second.", valueName: "N"))
  var runs = 1

  @OptionGroup var execution: ExecutionOptions

  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    if !(1...1_000_000).contains(runs) {
      throw UsageError("APUS-C-0015", "1 to 1000000 runs are possible, \(runs) are asked for", place: "--runs")
    }
    let progress = ProgressBar(isQuiet: execution.quiet)
    let profile = try execution.selection()
    let log = try execution.shapeLog()
    let session = try Session(
      model, shapes: shape, profile: profile, backend: execution.chosenBackend(), threads: execution.threadCount(),
      progress: progress)
    let inputs = try InputValues(files: input, seed: seed, session: session)
    let context = try session.engine.makeContext(captures: !execution.noCapture, timeLimit: try execution.limit())
    for _ in 1..<runs { _ = try context.run(inputs: inputs.values, profile: profile) }
    context.record(to: log)
    let start = ContinuousClock.now
    let results = try context.run(inputs: inputs.values, profile: profile)
    let duration = ContinuousClock.now - start
    try log?.flush()
    let bindings = session.plan.outputs
    let files = TensorFiles.fileNames(bindings.map(\.name))
    var outputs: [OutputReport] = []
    for (index, binding) in bindings.enumerated() {
      guard let value = results[binding.name] else { continue }
      var output = OutputReport(name: binding.name, value: value)
      if let folder = outputDir { output.files = try write(value, named: files[index], to: folder) }
      if let folder = compare {
        output.comparison = try compared(value, index: index, file: files[index], binding.name, in: folder)
      }
      outputs.append(output)
    }
    let report = RunReport(
      model: model, inputs: inputs.entries, outputs: outputs, session: session,
      profile: session.engine.profiles[context.activeProfile].name, duration: duration)
    print(json ? report.json.description : report.text)
    if outputs.contains(where: { $0.comparison?.isEqual == false }) {
      throw UsageError(
        "APUS-C-0030", "outputs differ from those in '\(compare ?? "")' by more than rtol \(rtol) and atol \(atol)")
    }
  }

  /// Writes a tensor, or each tensor of a container with a number after the name.
  private func write(_ value: HostValue, named name: String, to folder: String) throws -> [String] {
    try TensorFiles.makeFolder(folder)
    switch value {
    case .tensor(let tensor):
      let path = "\(folder)/\(name).npy"
      try NumPyFile.write(tensor, to: path)
      return [path]
    case .sequence(let elements, _):
      return try elements.enumerated().flatMap { try write($1, named: "\(name).\($0)", to: folder) }
    case .optional(let element, _):
      return try element.map { try write($0, named: name, to: folder) } ?? []
    }
  }

  private func compared(
    _ value: HostValue, index: Int, file: String, _ name: String, in folder: String
  ) throws -> Comparison {
    let tolerance = Tolerance(relative: rtol, absolute: atol)
    let array = "\(folder)/\(file).npy"
    if Directory.isFile(array), let tensor = value.tensor {
      return Comparison.compare(value, .tensor(try NumPyFile.read(array, expecting: tensor.dtype)), tolerance)
    }
    let message = "\(folder)/output_\(index).pb"
    guard Directory.isFile(message) else {
      throw UsageError(
        "APUS-C-0031", "there is neither \(file).npy nor output_\(index).pb to compare with", place: folder,
        hint: "The output is called '\(name)'.")
    }
    return Comparison.compare(value, try HostValue(onnxFile: message, type: value.type), tolerance)
  }
}

/// What all commands that run a model take.
struct ExecutionOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Threads to run with (default: the cores).", valueName: "N"))
  var threads: Int?

  @Option(help: ArgumentHelp("The engine's profile to run (default: the first).", valueName: "NAME|INDEX|auto|fastest"))
  var profile: String?

  @Option(
    name: .customLong("useProfile"),
    help: ArgumentHelp("The engine's profile to run by its number, as in trtexec.", valueName: "N"))
  var useProfile: Int?

  @Option(
    help: ArgumentHelp("Append the shapes that run to a log for `apus advise`.", valueName: "FILE.jsonl"),
    completion: .file())
  var recordShapes: String?

  @Option(help: ArgumentHelp("The longest to wait for a device; it is given up then.", valueName: "S"))
  var timeLimit: Double?

  @Option(
    help: ArgumentHelp(
      "What a model is built for: \(Backend.all.map(\.name).joined(separator: ", ")) (default: cpu).", valueName: "NAME"
    ))
  var backend: String?

  @Flag(help: "Queue the steps of a GPU one by one, without CUDA graphs.")
  var noCapture = false

  @Flag(help: "Show no progress.")
  var quiet = false

  /// - Throws: ``UsageError`` `APUS-C-0014` when the number makes no sense.
  func limit() throws(UsageError) -> Duration? {
    if let timeLimit, !(0.001...86_400).contains(timeLimit) {
      throw UsageError(
        "APUS-C-0014", "0.001 to 86400 s are possible, \(timeLimit) is asked for", place: "--time-limit")
    }
    return timeLimit.map { .seconds($0) }
  }

  /// Which profile is asked for; nil for none.
  ///
  /// - Throws: ``UsageError`` `APUS-C-0026` when it is asked for in two ways.
  func selection() throws(UsageError) -> ProfileSelection? {
    guard let useProfile else { return ProfileSelection(argument: profile) }
    if let profile {
      throw UsageError(
        "APUS-C-0026", "--profile \(profile) says which profile runs already", place: "--useProfile=\(useProfile)",
        hint: "Give one of the two.")
    }
    return .index(useProfile)
  }

  /// - Throws: ``UsageError`` `APUS-C-0016` for a name that is not known.
  func chosenBackend() throws(UsageError) -> Backend? {
    guard let backend else { return nil }
    return try Backend(argument: backend)
  }

  /// The log of shapes that is asked for.
  func shapeLog() throws(FileError) -> ShapeLog? {
    guard let recordShapes else { return nil }
    return try ShapeLog(path: recordShapes)
  }

  /// - Throws: ``UsageError`` `APUS-C-0014` when the number makes no sense.
  func threadCount() throws(UsageError) -> Int? {
    if let threads, !(1...1024).contains(threads) {
      throw UsageError("APUS-C-0014", "1 to 1024 threads are possible, \(threads) are asked for", place: "--threads")
    }
    return threads
  }
}
