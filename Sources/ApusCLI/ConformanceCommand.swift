import Apus
import ApusCPUDevice
import ApusCore
import ApusTesting
import ArgumentParser

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Runs a folder of ONNX backend test cases.
struct ConformanceCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "conformance",
    abstract: "Run a folder of ONNX backend test cases.",
    discussion: """
      A case is a folder with model.onnx and test_data_set_K/{input,output}_J.pb; a case.json may hold rtol and atol. \
      Cases run in processes of their own: one that crashes, hangs or needs too much memory is counted as failed. \
      Inputs whose value must be known when a model is read (the axes of a reduction) are fixed then. Outputs of \
      random operations are compared by type and shape only, and counted apart. Ends with 2 when any case is wrong or failed.

        apus conformance cases/node --mode all --list-failures
        apus conformance samples --backend cuda
        apus conformance samples --backend cuda --dtype bf16
        apus conformance graphs --count 10000 --first 2000
        apus conformance cases/node --exclude '*_expanded*' --json results.json
      """)

  enum ModeChoice: String, CaseIterable, ExpressibleByArgument {
    case raw, optimised, reloaded, all

    var modes: [ConformanceMode] { ConformanceMode(rawValue: rawValue).map { [$0] } ?? ConformanceMode.allCases }
  }

  /// Types that hold less than f32.
  enum NarrowType: String, CaseIterable, ExpressibleByArgument {
    case f16, bf16

    var dtype: DType { self == .f16 ? .f16 : .bf16 }
  }

  @Argument(
    help:
      "The folder of cases, one case, `samples`: those of Apus's own operations, or `graphs`: made-up graphs of them.",
    completion: .directory)
  var folder: String

  @Option(help: ArgumentHelp("What to run on: \(Backend.all.map(\.name).joined(separator: ", ")).", valueName: "NAME"))
  var backend = "cpu"

  @Option(help: "Give the samples operands of this type in place of f32, and compare with references in f64.")
  var dtype: NarrowType?

  @Option(help: "Run the samples in this form and no other.")
  var form: GraphRunner.Form?

  @Option(help: ArgumentHelp("How many graphs to make up.", valueName: "N"))
  var count = 2000

  @Option(help: ArgumentHelp("The number of the first graph; each number always gives the same.", valueName: "N"))
  var first = 0

  @Option(help: ArgumentHelp("Run the cases whose name matches.", valueName: "GLOB"))
  var filter = "*"

  @Option(help: ArgumentHelp("Leave out the cases whose name matches.", valueName: "GLOB"))
  var exclude: String?

  @Option(help: "How a case gets from model to answer.")
  var mode = ModeChoice.optimised

  @Flag(help: "Print each case that is wrong or failed.")
  var listFailures = false

  @Option(help: ArgumentHelp("Write the results as JSON.", valueName: "FILE"), completion: .file())
  var json: String?

  @Option(help: ArgumentHelp("Cases to run at once (default: the cores).", valueName: "N"))
  var jobs: Int?

  @Option(help: ArgumentHelp("Seconds that a case may take in all its modes.", valueName: "S"))
  var timeout = 120

  @Option(help: ArgumentHelp("Memory that a case may take.", valueName: "MIB"))
  var memory = 8192

  @Flag(help: "Show no progress.")
  var quiet = false

  func run() throws {
    if !(1...1_000_000_000).contains(count) || !(0...1_000_000_000).contains(first) {
      throw UsageError("APUS-C-0014", "--count takes 1 to 1000000000, --first 0 to 1000000000")
    }
    if !(1...86_400).contains(timeout) || !(64...1_048_576).contains(memory) || !(1...1024).contains(jobs ?? 1) {
      throw UsageError(
        "APUS-C-0014", "--timeout takes 1 to 86400 s, --memory 64 to 1048576 MiB, --jobs 1 to 1024")
    }
    let chosen = try Backend(argument: backend)
    if folder == Self.samples { return try runSamples(chosen) }
    if folder == Self.graphs { return try runGraphs(chosen) }
    if let dtype {
      throw UsageError(
        "APUS-C-0026", "types are for `samples`: the cases of a folder have theirs", place: "--dtype \(dtype.rawValue)")
    }
    if let form {
      throw UsageError(
        "APUS-C-0026", "forms are for `samples`: cases have modes", place: "--form \(form.rawValue)",
        hint: "Give --mode instead.")
    }
    let folders = try ConformanceCase.find(in: folder, matching: filter, except: exclude)
    let modes = mode.modes
    let suite = ConformanceSuite(
      folders: folders, modes: modes, executable: try Self.ownPath(),
      arguments: [
        ConformanceWorkerCommand.name, "--backend", chosen.name, "--modes",
        modes.map(\.rawValue).joined(separator: ","), "--memory", String(memory),
      ],
      workerCount: jobs ?? CPUFeatures().processorCount, timeout: .seconds(timeout))
    let progress = ProgressBar(isQuiet: quiet)
    let report = try suite.run { progress.update("cases", $0, of: folders.count) }
    progress.finish()
    if let json { try AtomicFile.write(Array((Self.document(report).description + "\n").utf8), to: json) }
    if listFailures { printFailures(report) }
    if modes.count > 1 { for mode in modes { print("\(mode.rawValue): \(report.summary(of: mode))") } }
    print(report.summary)
    if !report.isClean { throw ExitStatus(code: ExitStatus.userError) }
  }

  private static let samples = "samples"
  private static let graphs = "graphs"

  /// Compares made-up graphs in every form with the interpreter, in this process.
  private func runGraphs(_ backend: Backend) throws {
    let suite = RandomGraphSuite(target: try backend.makeTarget("native", jobs), device: try backend.makeDevice(nil))
    let progress = ProgressBar(isQuiet: quiet)
    var failureCount = 0
    let seeds = UInt64(first)..<UInt64(first + count)
    for start in stride(from: seeds.lowerBound, to: seeds.upperBound, by: RandomGraphSuite.batchSize) {
      progress.update("graphs", Int(start - seeds.lowerBound), of: count)
      let batch = start..<min(start + UInt64(RandomGraphSuite.batchSize), seeds.upperBound)
      for failure in suite.check(Array(batch)).failures {
        failureCount += 1
        print(failure)
      }
    }
    progress.finish()
    print("\(count) graphs in \(suite.formCount) forms: \(failureCount) complaints")
    if failureCount > 0 { throw ExitStatus(code: ExitStatus.userError) }
  }

  /// Runs the samples of all operations in every form, in this process.
  private func runSamples(_ backend: Backend) throws {
    let suite = SampleSuite(
      target: try backend.makeTarget("native", jobs), device: try backend.makeDevice(nil), isWide: dtype != nil)
    let progress = ProgressBar(isQuiet: quiet)
    var refused: Set<String> = []
    var undoubled: Set<String> = []
    let groups = dtype.map { narrow in
      SampleGroup.all.map { group in
        group.narrowed(to: narrow.dtype) {
          refused.insert($0)
        } takesNoDouble: {
          undoubled.insert($0)
        }
      }
    }
    let forms = form.map { [$0] } ?? GraphRunner.Form.allCases
    let runs = (groups ?? SampleGroup.all).flatMap { group in forms.map { (group, $0) } }
    var complaints: [String] = []
    for (index, (group, form)) in runs.enumerated() {
      progress.update("samples", index, of: runs.count)
      complaints += suite.complaints(group, form)
    }
    progress.finish()
    complaints.forEach { print($0) }
    if let dtype {
      print("operations that take no \(dtype.rawValue) in place of f32: \(refused.sorted().joined(separator: ", "))")
      print(
        "compared with what their references give for \(dtype.rawValue): \(undoubled.sorted().joined(separator: ", "))")
      let tolerance = Closeness.tolerance(dtype.dtype, 0)
      print(
        "the others with references in f64: \(tolerance) of the larger of 1 and the magnitude, or what a sample accepts"
      )
    }
    let count = (groups ?? SampleGroup.all).reduce(0) { $0 + $1.samples.count }
    print("\(count) samples in \(forms.count) forms: \(complaints.count) complaints")
    if !complaints.isEmpty { throw ExitStatus(code: ExitStatus.userError) }
  }

  private func printFailures(_ report: ConformanceReport) {
    for result in report.results where result.outcome == .wrong || result.outcome == .failed {
      print("\(result.outcome.rawValue) \(result.name) (\(result.mode.rawValue)): \(result.message)")
    }
  }

  private static func document(_ report: ConformanceReport) -> JSON {
    .array(
      report.results.map { result in
        .object([
          ("name", .string(result.name)), ("mode", .string(result.mode.rawValue)),
          ("outcome", .string(result.outcome.rawValue)), ("message", .string(result.message)),
        ])
      })
  }

  static func ownPath() throws(UsageError) -> String {
    #if os(Linux)
      return "/proc/self/exe"
    #else
      if let path = realpath(CommandLine.arguments[0], nil) {
        defer { free(path) }
        return String(cString: path)
      }
      throw UsageError("APUS-C-0023", "cannot find this program's own file")
    #endif
  }
}

extension GraphRunner.Form: ExpressibleByArgument {}
