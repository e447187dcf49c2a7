import Apus
import ApusCore
import ApusImport
import ApusPlan
import ApusRuntime
import ArgumentParser

/// Says what is in an engine or a model, without running it.
struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Say what is in an engine or a model, without running it.",
    discussion: """
      For an engine of any target: inputs, outputs, symbols and profiles, steps with their tactics, memory and \
      fingerprint. Sizes are shown for the shapes given, else for those the profile is tuned for. For a model \
      that is not built: inputs, outputs, operations and metadata.

        apus inspect model.apus --shape images=1x3x640x640
        apus inspect model.apus --profile decode
        apus inspect model.apus --target sm_90a
        apus inspect model.onnx --json | jq .metadata
      """)

  @Argument(help: "The engine (.apus) or model (.onnx).", completion: .file())
  var model: String

  @Option(help: ArgumentHelp("Shape of an input.", valueName: "NAME=1x3x640x640"))
  var shape: [String] = []

  @Option(help: ArgumentHelp("The profile whose steps are shown (default: the first).", valueName: "NAME|INDEX"))
  var profile: String?

  @Option(help: ArgumentHelp("The target whose steps are shown (default: the first).", valueName: "NAME"))
  var target: String?

  @Flag(help: "Print JSON.")
  var json = false

  private func chosen(from plans: [Plan]) throws -> Plan {
    guard let profile else { return plans[0] }
    let selection = Int(profile).map { ProfileSelection.index($0) } ?? .named(profile)
    return plans[try selection.index(in: plans.map(\.profile))]
  }

  private func plansOfTarget(_ plans: [Plan]) throws(UsageError) -> [Plan] {
    let targets = plans.byTarget
    guard let target else { return targets[0] }
    if let chosen = targets.first(where: { $0[0].fingerprint.target == target }) { return chosen }
    throw UsageError(
      "APUS-C-0016", "the engine is for \(plans.targets.names), not for '\(target)'", place: "--target",
      hint: Spelling.hint(for: target, in: plans.targets.map(\.target)))
  }

  func run() throws {
    let byteCount = FileSize.of(model)
    guard try ModelFile.isEngine(model) else {
      if !shape.isEmpty {
        throw UsageError(
          "APUS-C-0008", "shapes are shown for engines only", place: "--shape", hint: "Build the model first.")
      }
      let report = ModelReport(model: try importModel(model), fileByteCount: byteCount)
      return print(json ? report.json.description : report.text, terminator: json ? "\n" : "")
    }
    let all = try EngineFile.read(model)
    let plans = try plansOfTarget(all)
    let plan = try chosen(from: plans)
    let given = try ShapeArguments(shape, inputs: plan.inputTypes)
    let values = SymbolValues(plan: plan, shapes: given.byName)
    let known = try? values.shapes(of: plan.inputTypes)
    let memory = try known.map { try plan.memoryForecast(shapes: $0) }
    let profiles = plans.map { ProfileRow(plan: $0) }
    let report = PlanReport(
      plan: plan, targets: all.targets, profiles: profiles, tactics: TacticComparison(plans: plans),
      fileByteCount: byteCount, values: values,
      memory: memory)
    print(json ? report.json.description : report.text, terminator: json ? "\n" : "")
  }
}
