import Apus
import ApusCore
import ApusPlan
import ApusRuntime
import ArgumentParser

/// Measures how fast a model runs.
struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measure latency, throughput, load time and memory.",
    discussion: """
      Runs until the warm-up is over, then measures every run for the duration. Inputs that are not given are random. \
      With --layers the steps are timed one by one, which slows the whole a little, and compared with what the device can do, \
      measured in the same run: the share of the roofline that a step reaches, what bounds it, and what would be saved if it \
      were as fast as that.

        apus bench model.apus --shape images=1x3x640x640 --duration 5
        apus bench model.apus --layers
        apus bench model.apus --profile auto --shape input_ids=1x17 --record-shapes shapes.jsonl
        apus bench model.apus --phase "1 prefill seq=128" --phase "16 decode"
        apus bench model.apus --pipeline 4
        apus bench model.apus --json | jq .latency_ms.median
      """)

  @Argument(help: "The engine (.apus) or model (.onnx).", completion: .file())
  var model: String

  @Option(
    help: ArgumentHelp("Value of an input: .npy, .npz, .npz:KEY or .pb.", valueName: "NAME=FILE"), completion: .file())
  var input: [String] = []

  @Option(help: ArgumentHelp("Shape of an input.", valueName: "NAME=1x3x640x640"))
  var shape: [String] = []

  @Option(help: ArgumentHelp("Milliseconds to run before measuring.", valueName: "MS"))
  var warmup = 200.0

  @Option(help: ArgumentHelp("Seconds to measure for.", valueName: "S"))
  var duration = 3.0

  @Option(help: ArgumentHelp("Runs before measuring, instead of --warmup.", valueName: "N"))
  var warmupRuns: Int?

  @Option(help: ArgumentHelp("Runs to measure, or rounds of the phases, instead of --duration.", valueName: "N"))
  var runs: Int?

  @Option(help: ArgumentHelp("Seed of random inputs.", valueName: "N"))
  var seed: UInt64 = 0

  @OptionGroup var execution: ExecutionOptions

  @Flag(help: "Time each step.")
  var layers = false

  @Option(
    name: .customLong("switch"),
    help: ArgumentHelp("Measure what changing between two profiles costs.", valueName: "A,B"))
  var switched: String?

  @Option(
    help: ArgumentHelp(
      "Measure rounds of calls that change profiles; repeat it for each phase of a round.",
      valueName: "COUNT PROFILE [SYMBOL=SIZE …]"))
  var phase: [String] = []

  @Option(help: ArgumentHelp("Measure batches that are copied and computed at once, N under way.", valueName: "N"))
  var pipeline: Int?

  @Option(
    help: ArgumentHelp(
      "Load the engine or build the model, run and free it, N times, and say what memory is left taken.", valueName: "N"
    ))
  var reload: Int?

  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    try checkArguments()
    var phases: [Phase] = []
    for text in phase { phases.append(try Phase(text)) }
    let progress = ProgressBar(isQuiet: execution.quiet)
    let profile = try execution.selection()
    let log = try execution.shapeLog()
    let session = try Session(
      model, shapes: shape, profile: profile, backend: execution.chosenBackend(), threads: execution.threadCount(),
      progress: progress)
    if let reload {
      let measurement = try ReloadMeasurement(session, count: reload, seed: seed, profile, progress) {
        try Session(
          model, shapes: shape, profile: profile, backend: execution.chosenBackend(), threads: execution.threadCount(),
          progress: ProgressBar(isQuiet: true)
        )
      }
      progress.finish()
      return print(json ? measurement.json.description : measurement.text)
    }
    if let switched { return try measureSwitch(switched, session, progress) }
    if !phases.isEmpty {
      let measurement = try PhaseMeasurement(
        session, phases, rounds: runs, seconds: duration, seed: seed, captures: !execution.noCapture, progress)
      progress.finish()
      return print(json ? measurement.json.description : measurement.text)
    }
    let inputs = try InputValues(files: input, seed: seed, session: session)
    if let pipeline {
      let measurement = try PipelineMeasurement(
        session.engine, inputs.entries, profile ?? 0, depth: pipeline, seconds: duration, runs: runs)
      progress.finish()
      return print(json ? measurement.json.description : measurement.text)
    }
    let context = try session.engine.makeContext(captures: !execution.noCapture, timeLimit: try execution.limit())
    for input in inputs.entries { try context.bind(input: input.name, to: input.value) }
    let warmEnd = ContinuousClock.now + .milliseconds(warmup)
    var warmed = 0
    repeat {
      try context.run(profile: profile)
      warmed += 1
    } while warmupRuns.map({ warmed < $0 }) ?? (ContinuousClock.now < warmEnd)
    let profiler = layers ? LayerProfiler(plan: session.engine.plans[context.activeProfile]) : nil
    if let profiler { context.time(context.activeProfile, with: profiler) }
    context.record(to: log)
    let measurement = try measure(context, profile, progress)
    context.time(context.activeProfile, with: nil)
    let peakMemory = BenchReport.measuredPeakMemory()
    let memory = try MemoryMeasurement(session.engine, context, inputs.entries)
    // Takes memory of its own.
    let ceilings = layers ? try session.engine.device.ceilings() : nil
    let device =
      session.engine.device.sharesHostMemory
      ? nil
      : try DeviceMeasurement(
        session.engine, context, inputs.entries, profile, seconds: duration / 2, count: runs)
    progress.finish()
    try log?.flush()
    let report = BenchReport(
      model: model, inputs: inputs.entries, session: session,
      profile: session.engine.profiles[context.activeProfile].name, measurement: measurement,
      device: device, memory: memory,
      layers: profiler.map {
        LayerTable(layers: $0.layers, ceilings: ceilings, serialisesLanes: $0.serialisesLanes)
      }, peakMemory: peakMemory)
    print(json ? report.json.description : report.text)
  }

  /// Compares two profiles in turn in one context with the same in a context each.
  private func measureSwitch(_ argument: String, _ session: Session, _ progress: ProgressBar) throws {
    let names = argument.split(separator: ",").map { String($0) }
    let pair = names.compactMap { ProfileSelection(argument: $0) }
    guard pair.count == 2, !pair.contains(where: \.dependsOnShapes) else {
      throw UsageError(
        "APUS-C-0019", "two profiles are needed", place: "--switch \(argument)",
        hint: "For instance --switch decode,prefill.")
    }
    let measurement = try SwitchMeasurement(
      session, pair, seconds: duration, seed: seed, captures: !execution.noCapture, progress)
    progress.finish()
    print(json ? measurement.json(names).description : measurement.text(names))
  }

  private func checkArguments() throws(UsageError) {
    var problems = UsageProblems()
    if !(0...3_600_000).contains(warmup) {
      problems.add("APUS-C-0015", "0 to 3600000 ms are possible, \(warmup) is asked for", place: "--warmup")
    }
    if !(0...3600).contains(duration) {
      problems.add("APUS-C-0015", "0 to 3600 s are possible, \(duration) is asked for", place: "--duration")
    }
    if let pipeline, !(1...64).contains(pipeline) {
      problems.add("APUS-C-0015", "1 to 64 batches are possible, \(pipeline) are asked for", place: "--pipeline")
    }
    for (option, count) in [("--warmup-runs", warmupRuns), ("--runs", runs), ("--reload", reload)] {
      if let count, !(1...1_000_000).contains(count) {
        problems.add("APUS-C-0015", "1 to 1000000 runs are possible, \(count) are asked for", place: option)
      }
    }
    if execution.recordShapes != nil, let own = switched != nil ? "--switch" : phase.isEmpty ? nil : "--phase" {
      problems.add("APUS-C-0026", "\(own) measures shapes of its own", place: "--record-shapes")
    }
    try problems.throwIfAny()
  }

  /// Runs for the duration, at least once.
  private func measure(_ context: borrowing ExecutionContext, _ profile: ProfileSelection?, _ progress: ProgressBar)
    throws -> Measurement
  {
    var latencies: [Duration] = []
    latencies.reserveCapacity(1 << 16)
    let start = ContinuousClock.now
    let end = start + .seconds(duration)
    var now = start
    repeat {
      try context.run(profile: profile)
      let finished = ContinuousClock.now
      latencies.append(finished - now)
      progress.update("measure", Int((finished - start) / .milliseconds(1)), of: Int(duration * 1000))
      now = ContinuousClock.now
    } while runs.map({ latencies.count < $0 }) ?? (now < end)
    return Measurement(latencies: latencies, total: now - start)
  }
}
