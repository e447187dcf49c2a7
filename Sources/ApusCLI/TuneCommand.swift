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
      for the order of sums. Figures are kept in a timing cache: what is known is not measured again, and builds on other \
      machines can use it.

        apus tune model.apus --budget 60s
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

  @Option(help: ArgumentHelp("How long to measure: 500ms, 60s, 5m.", valueName: "TIME"))
  var budget = "60s"

  @OptionGroup var timings: TimingCacheOption

  @Option(help: ArgumentHelp("Compilers to run at once (default: the cores).", valueName: "N"))
  var jobs: Int?

  @Flag(help: "Show no progress.")
  var quiet = false

  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    let start = ContinuousClock.now
    let budget = try Budget(budget, place: "--budget").duration
    let progress = ProgressBar(isQuiet: quiet)
    defer { progress.finish() }
    let plans = try EngineFile.read(engine)
    var cache = try timings.file(isMeasuring: true)
    if let warning = cache.cache.warning(cache.path) { printError("warning \(warning)") }
    let (tuned, report) = try tune(plans, for: budget, cache: &cache, jobs: jobs) {
      progress.update($0.rawValue, $1, of: $2)
    }
    let path = output ?? engine
    if output != nil || !report.changes.isEmpty { try EngineFile.write(tuned, to: path) }
    progress.finish()
    for warning in report.warnings { printError("warning \(warning)") }
    let text = TuningText(report: report, seconds: (ContinuousClock.now - start) / .seconds(1))
    print(json ? text.json(path, cache.path).description : text.text(path), terminator: json ? "\n" : "")
  }
}

/// A time on the command line.
struct Budget {
  let duration: Duration

  /// - Throws: ``UsageError`` `APUS-C-0034` for what is no time.
  init(_ text: String, place: String) throws(UsageError) {
    let units: [(String, Double)] = [("ms", 0.001), ("s", 1), ("m", 60), ("", 1)]
    for (suffix, factor) in units where text.hasSuffix(suffix) {
      guard let number = Double(text.dropLast(suffix.count)), number.isFinite, number >= 0, number < 1e7 else { break }
      duration = .seconds(number * factor)
      return
    }
    throw UsageError(
      "APUS-C-0034", "'\(text)' is no time", place: "\(place) \(text)", hint: "Write 500ms, 60s or 5m.")
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

  /// - Parameter isMeasuring: whether figures will be added, so that there must be a file.
  func file(isMeasuring: Bool) throws(BuildError) -> TimingCacheFile {
    if let path { return try TimingCacheFile(path: path) }
    return try TimingCacheFile(path: try BuildCache.folder("timings") + "/timings.txt")
  }
}

/// What tuning came to, in words.
struct TuningText {
  let report: TuningReport
  let seconds: Double

  func text(_ path: String) -> String {
    var text = "\(path): "
    if let target = report.target, let device = report.device {
      text += "tuned \(target) on \(device.model) in \(Units.fixed(seconds, 1)) s; "
    }
    text +=
      "\(report.judgedCount) of \(report.regionCount) regions judged, \(report.measuredCount) tactics measured, "
      + "\(report.knownCount) known; \(report.changes.isEmpty ? "nothing is faster otherwise" : "\(report.changes.count) changed")\n"
    if !report.changes.isEmpty { text += table + "\n" }
    for run in report.runs {
      text +=
        "profile '\(run.profile)': a run takes \(Units.fixed(1000 * run.secondsAfter, 4)) ms, before "
        + "\(Units.fixed(1000 * run.secondsBefore, 4)) ms\(run.isKept ? "; it is left as it was" : "")\n"
    }
    return text
  }

  private var table: String {
    var table = Table([
      ("profile", .left), ("times", .right), ("before", .left), ("us", .right), ("after", .left), ("us", .right),
      ("for instance", .left),
    ])
    for change in report.changes {
      table.add([
        change.profile, String(change.count), change.before, Units.fixed(1e6 * change.secondsBefore, 2), change.after,
        Units.fixed(1e6 * change.secondsAfter, 2), change.sources.first ?? "",
      ])
    }
    return table.text
  }

  func json(_ path: String, _ cache: String) -> JSON {
    .object([
      ("engine", .string(path)), ("seconds", .number(seconds)), ("target", report.target.map { .string($0) } ?? .null),
      ("device", report.device.map { .string($0.model) } ?? .null), ("timing_cache", .string(cache)),
      ("regions", .int(report.regionCount)), ("judged", .int(report.judgedCount)),
      ("tactics_measured", .int(report.measuredCount)), ("tactics_known", .int(report.knownCount)),
      (
        "changes",
        .array(
          report.changes.map { change in
            .object([
              ("profile", .string(change.profile)), ("count", .int(change.count)),
              ("sources", .strings(change.sources)),
              ("before", .string(change.before)), ("before_us", .number(1e6 * change.secondsBefore)),
              ("after", .string(change.after)), ("after_us", .number(1e6 * change.secondsAfter)),
            ])
          })
      ),
      (
        "runs",
        .array(
          report.runs.map { run in
            .object([
              ("profile", .string(run.profile)), ("before_ms", .number(1000 * run.secondsBefore)),
              ("after_ms", .number(1000 * run.secondsAfter)), ("kept", .bool(run.isKept)),
            ])
          })
      ),
      ("warnings", .array(report.warnings.map(JSON.diagnostic))),
    ])
  }
}
