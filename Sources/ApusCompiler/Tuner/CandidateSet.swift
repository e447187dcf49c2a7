import ApusCore
import ApusGraph
import ApusPlan

/// The ways to compute one region, each a plan of its own: lowered, and compiled where that is asked for.
struct CandidateSet {
  /// By tactic, which is the name of the plan's profile. They share constants and functions.
  private(set) var plans: [Plan]
  /// What timings of the plans are kept under: kernels, sizes and target.
  let keys: [String]
  /// What each symbol is tuned for.
  let sizes: [String: Int]
  /// Sources of the functions by symbol.
  let sources: [String: String]
  /// The region, whose references give what the plans must.
  let region: RegionGraph
  private let alternatives: Alternatives
  private let target: any Target
  /// Whether constants in the layout of the first plan can be brought into others.
  private let isRecoverable = Answer()

  /// What is found out when somebody asks.
  private final class Answer { var value: Bool? }

  /// Lowers a region by some of its tactics. Those that cannot compute it any more are left out, and those that launch the same
  /// as one before them.
  ///
  /// - Parameter byteCount: what a run of the model touches.
  /// - Throws: ``BuildError`` `APUS-B-0055` for a region that cannot be read.
  init(
    _ alternatives: Alternatives, tactics: [String], _ target: any Target, beside byteCount: Int
  ) throws(BuildError) {
    region = try RegionGraph(alternatives)
    self.alternatives = alternatives
    self.target = target
    var shared = SharedParts(continuing: [])
    var plans: [Plan] = []
    var keys: [String] = []
    for tactic in tactics {
      guard var plan = try? Builder.sketch(region.graph, tactic: tactic, &shared, target) else { continue }
      plan.functions = shared.functions
      let key = TimingCache.key(of: plan, region.sizes, beside: byteCount)
      if keys.contains(key) { continue }
      keys.append(key)
      plans.append(plan)
    }
    let constants = shared.constants.makeSection()
    for index in plans.indices { plans[index].share(functions: shared.functions, images: [], constants: constants) }
    self.plans = plans
    self.keys = keys
    sizes = region.sizes
    sources = Dictionary(uniqueKeysWithValues: zip(shared.functions.map(\.symbol), shared.sources))
  }

  var tactics: [String] { plans.map(\.profile.name) }

  func plan(_ tactic: String) -> Plan? { plans.first { $0.profile.name == tactic } }

  /// Whether the steps of a tactic can take the place of those of the first: they read constants in the layouts that are there, or
  /// in others that can be made from them.
  func canReplace(_ tactic: String) -> Bool {
    guard let old = plans.first, let new = plan(tactic) else { return false }
    // Equal constants of the plans are at one place.
    let isThere = new.slots.allSatisfy { slot in
      guard case .constant = slot.storage else { return true }
      return old.slots.contains { $0.storage == slot.storage && $0.type == slot.type }
    }
    if isThere { return true }
    if let known = isRecoverable.value { return known }
    let recovery = ConstantRecovery(alternatives, from: old.profile.name, target)
    let answer = recovery.plan(by: old.profile.name) { old.constant($0) } != nil
    isRecoverable.value = answer
    return answer
  }

  /// What a run takes on a usual machine.
  func usualSeconds(_ rates: MachineRates) -> Double {
    guard let plan = plans.first else { return 0 }
    func sum(_ amount: (Step) -> Dim) -> Double {
      plan.steps.reduce(0) { $0 + Double(amount($1).evaluate { sizes[$0] } ?? 0) }
    }
    let seconds = sum(\.work) / rates.operations + sum(\.traffic) / rates.bytes + rates.launch
    return seconds / 1e6
  }

  /// How many functions plans of some tactics launch.
  func functionCount(_ tactics: Set<String>) -> Int {
    var symbols: Set<String> = []
    for plan in plans where tactics.contains(plan.profile.name) {
      for case .launch(let launch) in plan.steps.map(\.action) {
        symbols.insert(plan.functions[launch.function].symbol)
      }
    }
    return symbols.count
  }

  /// What the region is by the operations' own references; nil where that would take long.
  var reference: (([HostTensor]) -> HostTensor?)? {
    let work = plans.first.map { plan in
      plan.steps.reduce(0) { saturatingAdd($0, $1.work.evaluate { sizes[$0] } ?? .max) }
    }
    guard let work, work <= Self.largestReference else { return nil }
    return { [graph = region.graph] inputs in
      (try? Interpreter.run(graph, inputs: inputs.map { .tensor($0) }))?.first?.tensor
    }
  }

  /// Arithmetic operations that references do in some ten milliseconds.
  private static let largestReference = 1_000_000

  /// Plans of some tactics with their code.
  ///
  /// - Throws: ``BuildError`` when a kernel does not compile.
  func compiled(_ tactics: Set<String>, _ target: any Target) throws(BuildError) -> [Plan] {
    var plans = plans.filter { tactics.contains($0.profile.name) }
    plans.removeUnusedCode()
    guard let functions = plans.first?.functions, !functions.isEmpty else { return plans }
    let images = try target.compile(functions.map { sources[$0.symbol] ?? "" }) { _, _ in }
    var placed = functions
    for index in placed.indices { placed[index].image = images.count == 1 ? 0 : index }
    for index in plans.indices {
      plans[index].share(functions: placed, images: images, constants: plans[index].constants)
    }
    return plans
  }
}
