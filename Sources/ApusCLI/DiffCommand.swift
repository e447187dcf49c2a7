import Apus
import ApusCore
import ApusPlan
import ApusRuntime
import ArgumentParser

/// Explains what two engines differ in.
struct DiffCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "diff",
    abstract: "Explain what two engines differ in.",
    discussion: """
      Steps are compared by the nodes of the model that they compute: which are computed together, by which tactic, in which \
      types and by which kernels; further profiles, memory, constants and code. With --time both engines run on this machine in \
      turns; whole runs that are apart by more than the noise and more than --tolerance count as a difference.

      Exit codes: 0 there is no difference, 1 there is one, 2 an engine cannot be read.

        apus diff a.apus b.apus
        apus diff before.apus after.apus --time --tolerance 3
        apus diff a.apus b.apus --json | jq '.differences[] | select(.topic == "tactic")'
      """)

  @Argument(help: "An engine (.apus).", completion: .file())
  var first: String

  @Argument(help: "Another one.", completion: .file())
  var second: String

  @Flag(help: "Run both on this machine and compare the time of each step.")
  var time = false

  @Option(help: ArgumentHelp("Seconds to time each profile for.", valueName: "S"))
  var duration = 4.0

  @Option(help: ArgumentHelp("How much slower or faster a run may be, in percent.", valueName: "PERCENT"))
  var tolerance = 5.0

  @Option(help: ArgumentHelp("Threads that compute (default: one per core).", valueName: "N"))
  var threads: Int?

  @Flag(help: "Show no progress.")
  var quiet = false

  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    try checkArguments()
    let plans = [try EngineFile.read(first), try EngineFile.read(second)]
    var diff = EngineDiff(plans[0], plans[1])
    let isEqual = try Self.haveEqualBytes(first, second)
    if diff.entries.isEmpty, !isEqual { diff.add(.bytes, "", "files", "some bytes", "other bytes") }
    var times: EngineTimeDiff?
    if time {
      let progress = ProgressBar(isQuiet: quiet)
      let found = try EngineTimeDiff(
        try Engine(path: first, threads: threads), try Engine(path: second, threads: threads), seconds: duration
      ) { progress.update("measure", $0, of: $1) }
      progress.finish()
      for run in found.runs where run.whole.differs(by: tolerance / 100) {
        diff.add(
          .time, "profile '\(run.profile)'", "a run on this machine", DiffText.text(run.whole.first),
          DiffText.text(run.whole.second))
      }
      times = found
    }
    let text = DiffText(diff: diff, times: times, first: first, second: second, share: tolerance / 100)
    print(json ? text.json.description : text.text, terminator: json ? "\n" : "")
    if !diff.entries.isEmpty { throw ExitStatus(code: ExitStatus.difference) }
  }

  private func checkArguments() throws(UsageError) {
    var problems = UsageProblems()
    if !(0...3600).contains(duration) {
      problems.add("APUS-C-0015", "0 to 3600 s are possible, \(duration) is asked for", place: "--duration")
    }
    if !(0...1000).contains(tolerance) {
      problems.add("APUS-C-0015", "0 to 1000 percent are possible, \(tolerance) is asked for", place: "--tolerance")
    }
    if let threads, !(1...1024).contains(threads) {
      problems.add("APUS-C-0014", "1 to 1024 threads are possible, \(threads) are asked for", place: "--threads")
    }
    try problems.throwIfAny()
  }

  private static func haveEqualBytes(_ first: String, _ second: String) throws(FileError) -> Bool {
    let files = (try MappedFile(path: first), try MappedFile(path: second))
    return withExtendedLifetime(files) { files.0.bytes.elementsEqual(files.1.bytes) }
  }
}
