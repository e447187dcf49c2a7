import Apus
import ApusCompiler
import ApusCore
import ApusPlan
import ArgumentParser

/// Proposes profiles for the shapes that ran.
struct AdviseCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "advise",
    abstract: "Propose profiles for recorded shapes, with what each number of profiles gains.",
    discussion: """
      The log has a line {"shapes": {"input_ids": [1, 17]}, "count": 3} for runs with equal shapes, as --record-shapes of \
      `apus run` and `apus bench` and ShapeLog write it. Proposed are the profiles with the least mean time of a call, for \
      each number of profiles; every shape of the log is in one. A profile is fixed or a range, and a call is run by the \
      first that holds it, as --profile auto does.

      Times are those that the engine holds, else the operations and bytes of the model's steps, else they are taken to \
      grow as the inputs. Without --measure what running away from opt costs is assumed: \(Penalty.text).

        apus advise shapes.jsonl --engine model.apus
        apus advise shapes.jsonl --model model.onnx --measure --max-profiles 3
      """)

  @Argument(help: "The log of shapes (.jsonl).", completion: .file())
  var log: String

  @Option(help: ArgumentHelp("The model (.onnx) that the shapes are for.", valueName: "MODEL"), completion: .file())
  var model: String?

  @Option(
    help: ArgumentHelp("An engine (.apus) of the model, with the times it holds.", valueName: "ENGINE"),
    completion: .file())
  var engine: String?

  @Option(help: ArgumentHelp("The most profiles to propose.", valueName: "K"))
  var maxProfiles = 4

  @Flag(help: "Build the model for some of the shapes, and time these here.")
  var measure = false

  @Flag(help: "Show no progress.")
  var quiet = false

  @Flag(help: "Print JSON.")
  var json = false

  func run() throws {
    try checkArguments()
    let observations = try ShapeObservations(contentsOf: log)
    let progress = ProgressBar(isQuiet: quiet)
    defer { progress.finish() }
    let (space, costs) = try costs(of: observations, progress)
    let proposals = ProfileAdvisor.proposals(space, costs, upTo: maxProfiles)
    progress.finish()
    let report = AdviceReport(space: space, costs: costs, proposals: proposals, model: model)
    print(json ? report.json.description : report.text)
  }

  private func checkArguments() throws(UsageError) {
    var problems = UsageProblems()
    if !(1...ProfileAdvisor.profileLimit).contains(maxProfiles) {
      problems.add(
        "APUS-C-0014", "1 to \(ProfileAdvisor.profileLimit) profiles are possible, \(maxProfiles) are asked for",
        place: "--max-profiles")
    }
    if model != nil, engine != nil {
      problems.add(
        "APUS-C-0026", "a model or an engine says what the shapes are for", place: "--engine",
        hint: "Give one of the two.")
    }
    if measure, model == nil {
      problems.add("APUS-C-0026", "measuring needs the model", place: "--measure", hint: "Name it with --model.")
    }
    try problems.throwIfAny()
  }

  private func costs(of observations: ShapeObservations, _ progress: ProgressBar) throws -> (ShapeSpace, RunCosts) {
    if let path = model {
      progress.update("read", 0, of: 0)
      let model = try importModel(path)
      let space = try ShapeSpace(observations, inputs: model.inputTypes)
      if measure { return (space, try RunCosts.measured(model, space) { progress.update($0.rawValue, $1, of: $2) }) }
      return (space, try RunCosts.byModel(model, space) ?? .byElements(space))
    }
    if let path = engine {
      let plans = try EngineFile.read(path).byTarget.max { $0.timingCount < $1.timingCount } ?? []
      let inputs = Plan.mergedInputs(plans)
      let space =
        try inputs.map { try ShapeSpace(observations, inputs: $0, fixed: Plan.fixedSymbols(plans)) }
        ?? ShapeSpace(observations)
      let costs = plans.sorted { $0.timings.count > $1.timings.count }.lazy.compactMap {
        RunCosts.byPlan($0, space, measuredIn: path)
      }
      return (space, costs.first ?? .byElements(space))
    }
    let space = ShapeSpace(observations)
    return (space, .byElements(space))
  }
}

extension [Plan] {
  fileprivate var timingCount: Int { reduce(0) { $0 + $1.timings.count } }
}
