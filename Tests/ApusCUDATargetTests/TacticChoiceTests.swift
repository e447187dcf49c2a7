import ApusCUDATarget
import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import ApusPlan
import Foundation
import Testing

@testable import ApusCompiler

/// Replacing the tactics of steps, without a GPU.
@Suite struct TacticChoiceTests {
  private static func plan(_ text: String, _ target: any Target) throws -> Plan {
    var graph = try GraphText.parse(text, catalogue: .standard)
    graph.outputNames = graph.outputs.indices.map { "y\($0)" }
    return try Builder.build(graph, name: "region", targets: [target], options: BuildOptions()).plans[0]
  }

  private static func target(_ name: String = "sm_90a") throws -> any Target {
    try UncompiledTarget(name)
  }

  /// The steps with functions by name, and slots by what they are.
  private static func account(_ plan: Plan) -> [String] {
    plan.steps.map { step in
      guard case .launch(let launch) = step.action else { return step.name }
      let function = plan.functions[launch.function]
      let slots = launch.buffers.map { "\(plan.slots[$0].type) \(plan.slots[$0].name)" }
      return
        "\(step.tactic) \(step.sources) \(function.symbol) \(function.threads) \(slots) \(launch.parameters) \(launch.blocks)"
    }
  }

  /// The plan after tuning by a cache in which one tactic is the fastest.
  private static func tuned(_ plan: Plan, _ alternatives: Alternatives, to tactic: String, _ target: any Target) throws
    -> Tuner.Outcome
  {
    let candidates = try CandidateSet(
      alternatives, tactics: [alternatives.chosen] + alternatives.tactics.filter { $0 != alternatives.chosen }, target,
      beside: [plan].touchedByteCount)
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("apus-choice-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    var cache = try TimingCacheFile(path: path)
    let place = TimingCache.Place(target: plan.fingerprint.target, device: "a card", driver: "1", compiler: "c")
    try cache.add(
      zip(candidates.tactics, candidates.keys).map { name, key in
        TimingCache.Entry(key: key, place: place, tactic: name, seconds: name == tactic ? 5e-6 : 9e-6, runs: 9)
      })
    return try Tuner.tune([plan], for: target, on: nil, cache: &cache)
  }

  @Test(arguments: CompilationTests.regions.indices) func everyTacticTakesThePlaceOfTheFirst(_ index: Int) throws {
    let target = try Self.target()
    let plan = try Self.plan(CompilationTests.regions[index].graph, target)
    guard let alternatives = plan.steps[0].alternatives else {
      #expect(plan.steps[0].tactic.hasPrefix("conv stem") || plan.steps[0].tactic == "simt 32x32")
      return
    }
    #expect(alternatives.chosen == alternatives.tactics[0] && alternatives.stepCount == plan.steps.count)
    #expect(Set(alternatives.tactics).count == alternatives.tactics.count)
    for tactic in alternatives.tactics.dropFirst().prefix(9) {
      let outcome = try Self.tuned(plan, alternatives, to: tactic, target)
      let new = outcome.plans[0]
      try new.validate()
      #expect(outcome.changes.map(\.after) == [tactic] && outcome.changes[0].before == alternatives.chosen)
      #expect(new.steps[0].tactic == tactic && new.steps[0].alternatives?.chosen == tactic)
      #expect(new.constants.byteCount == plan.constants.byteCount)
      // And back again to what it was.
      let again = try #require(new.steps[0].alternatives)
      let back = try Self.tuned(new, again, to: alternatives.chosen, target).plans[0]
      #expect(Self.account(back) == Self.account(plan), "\(tactic)")
    }
  }

  /// Sizes that vary keep their names and ranges on the way through the region's text.
  @Test func regionsKeepTheirSymbols() throws {
    let target = try Self.target()
    let text = """
      graph(%x: f16[4*seq, 768], %b: f16[3072]) -> (%z) symbols(seq: 1...512@128) {
        %w = constant f16[768, 3072] random(1) %y = matmul(%x, %w) %a = add(%y, %b) %z = relu(%a)
      }
      """
    let plan = try Self.plan(text, target)
    let alternatives = try #require(plan.steps[0].alternatives)
    #expect(alternatives.region.contains("seq: 1...512@128"))
    let tactic = alternatives.tactics[3]
    let new = try Self.tuned(plan, alternatives, to: tactic, target).plans[0]
    #expect(new.steps.last?.tactic == tactic || new.steps[0].tactic == tactic)
    #expect(new.shapeSymbols == plan.shapeSymbols)
    try new.validate()
    #expect(
      GraphText(
        try GraphText.parse(
          alternatives.region, catalogue: .standard,
          constants: [
            "c0": HostTensor(.f16, [768, 3072])
          ])
      ).text == alternatives.region)
  }

  @Test func figuresOfOtherTargetsAreNotTaken() throws {
    let target = try Self.target()
    var plan = try Self.plan(CompilationTests.regions[0].graph, target)
    let alternatives = try #require(plan.steps[0].alternatives)
    let own = try Self.tuned(plan, alternatives, to: alternatives.tactics[1], target)
    #expect(own.knownCount > 1 && own.judgedCount == 1 && own.measuredCount == 0)
    // A region that is not what the step computes stays.
    plan.functions[0].symbol = "k0"
    #expect(try Self.tuned(plan, alternatives, to: alternatives.tactics[1], target).changes.isEmpty)
  }

  @Test func damagedRegionsAreWarnings() throws {
    let target = try Self.target()
    var plan = try Self.plan(CompilationTests.regions[0].graph, target)
    plan.steps[0].alternatives?.region = "graph(%x"
    var cache = try TimingCacheFile(path: "/nonexistent/timings")
    let outcome = try Tuner.tune([plan], for: target, on: nil, cache: &cache)
    #expect(outcome.warnings.map(\.code) == ["APUS-B-0055"] && outcome.changes.isEmpty)
  }

  /// Every tactic that a tuner may try compiles.
  @Test(.enabled(if: CompilationTests.isPossible), arguments: CompilationTests.regions.indices)
  func candidatesCompile(_ index: Int) throws {
    let jobs = ProcessInfo.processInfo.activeProcessorCount
    let target = try CUDACodeTarget(name: "sm_90a", native: nil, jobs: jobs)
    let plan = try Self.plan(CompilationTests.regions[index].graph, try Self.target())
    guard let alternatives = plan.steps[0].alternatives else { return }
    let candidates = try CandidateSet(alternatives, tactics: Array(alternatives.tactics.prefix(14)), target, beside: 0)
    #expect(try candidates.compiled(Set(candidates.tactics), target).count == candidates.tactics.count)
  }
}
