import Apus
import ApusCompiler
import ApusCore
import ApusPlan
import ArgumentParser

/// Measures the tactics of an engine's steps and keeps the fastest.
struct TuneCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tune",
    abstract: "Measure how an engine's steps can be computed on this machine's device, and keep the fastest ways.",
    discussion: """
      Building chooses by a cost model; here the ways of each product, convolution and attention are timed at the sizes \
      that the profiles are tuned for, and the engine is written anew, whole or not at all. Its results stay the same but \
      for the order of sums. Weights are brought into the layout of the fastest way where their present one only has them in \
      another order; from transformed ones, as 3x3 convolutions have them, there is no way back: `apus build --tune` has the \
      model and measures those too. \
      Figures are kept in a timing cache: what is known is not measured again, and builds on other \
      machines can use it.

        apus tune model.apus --budget 60s
        apus tune model.apus --budget full --write-lock model.lock
        apus tune model.apus --timing-cache h200.timings -o tuned.apus
        apus build model.onnx --backend cuda --target sm_90a --timing-cache h200.timings
      """)

  @Argument(help: "The engine (.apus).", completion: .file())
  var engine: String

  @Option(
    name: [.short, .customLong("output")],
    help: ArgumentHelp("Where to write the tuned engine (default: in place).", valueName: "ENGINE"),
    completion: .file())
  var output: String?

  @Option(help: ArgumentHelp("How much to measure, or how long: 500ms, 60s, 5m.", valueName: "quick|full|TIME"))
  var budget = "60s"

  @Option(help: ArgumentHelp("Write how each step is computed.", valueName: "FILE.lock"), completion: .file())
  var writeLock: String?

  @OptionGroup var timings: TimingCacheOption

  @Option(help: ArgumentHelp("Compilers to run at once (default: the cores).", valueName: "N"))
  var jobs: Int?

  @Flag(help: "Show no progress.")
  var quiet = false

  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    guard let effort = try Tuning(budget, place: "--budget").effort else {
      throw UsageError("APUS-C-0034", "'off' leaves nothing to do", place: "--budget off")
    }
    let progress = ProgressBar(isQuiet: quiet)
    defer { progress.finish() }
    let plans = try EngineFile.read(engine)
    var cache = try timings.file()
    if let warning = cache.cache.warning(cache.path) { printError("warning \(warning)") }
    let (tuned, report) = try tune(
      plans, for: effort, cache: &cache, jobs: jobs, progress: { progress.update($0.rawValue, $1, of: $2) })
    let path = output ?? engine
    if output != nil || !report.changes.isEmpty { try EngineFile.write(tuned, to: path) }
    if let writeLock {
      let lock = try lock(tuned, Wishes(), .named(tuned[0].fingerprint.backend), jobs, report)
      try AtomicFile.write(Array(lock.text.utf8), to: writeLock)
    }
    progress.finish()
    for warning in report.warnings { printError("warning \(warning)") }
    let text = TuningText(report: report)
    let members: [(String, JSON)] = [("engine", .string(path)), ("timing_cache", .string(cache.path))]
    print(
      json ? JSON.object(members + text.members).description : "\(path): \(text.text)", terminator: json ? "\n" : "")
  }
}

extension Tuning {
  /// How much to measure, as the command line says it.
  ///
  /// - Throws: ``UsageError`` `APUS-C-0034` for what is no time and no word.
  init(_ text: String, place: String) throws(UsageError) {
    switch text {
    case "off": self = .off
    case "quick": self = .quick
    case "full": self = .full
    default:
      for (suffix, factor) in [("ms", 0.001), ("s", 1), ("m", 60), ("", 1)] where text.hasSuffix(suffix) {
        guard let number = Double(text.dropLast(suffix.count)), number.isFinite, number >= 0, number < 1e7 else {
          break
        }
        self = .lasting(.seconds(number * factor))
        return
      }
      throw UsageError(
        "APUS-C-0034", "'\(text)' is no time", place: "\(place) \(text)",
        hint: "Write 500ms, 60s or 5m, quick for 10 s at most, or full for 5 minutes at most.")
    }
  }
}

/// Where measured times are kept.
struct TimingCacheOption: ParsableArguments {
  @Option(
    name: .customLong("timing-cache"),
    help: ArgumentHelp(
      "Measured times to choose tactics by, and to add to when measuring (default when measuring: in the cache folder).",
      valueName: "FILE"), completion: .file())
  var path: String?

  func file() throws(BuildError) -> TimingCacheFile {
    if let path { return try TimingCacheFile(path: path) }
    return try .standard()
  }
}
