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

  /// Lowers a region by some of its tactics. Those that cannot compute it any more are left out, and those that launch the same
  /// as one before them.
  ///
  /// - Throws: ``BuildError`` `APUS-B-0055` for a region that cannot be read.
  init(_ alternatives: Alternatives, tactics: [String], _ target: any Target) throws(BuildError) {
    let region = try RegionGraph(alternatives)
    var shared = SharedParts(continuing: [])
    var plans: [Plan] = []
    var keys: [String] = []
    for tactic in tactics {
      guard var plan = try? Builder.sketch(region.graph, tactic: tactic, &shared, target) else { continue }
      plan.functions = shared.functions
      let key = Self.key(plan, region.sizes)
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

  /// The hash of all that decides how long a plan takes on a device: the kernels, whose names are hashes of their sources, and
  /// their sizes.
  private static func key(_ plan: Plan, _ sizes: [String: Int]) -> String {
    var hash = ContentHash()
    hash.add(plan.fingerprint.target)
    func add(_ dim: Dim) { hash.add(UInt64(bitPattern: Int64(dim.evaluate { sizes[$0] } ?? -1))) }
    for step in plan.steps {
      if case .library(let call) = step.action {
        hash.add(call.library.name)
        hash.add(String(describing: call.operation))
        hash.add(UInt64(call.rank))
        call.sizes.forEach(add)
        add(plan.slots[call.buffers[call.buffers.count - 1]].type.tensor?.byteCount ?? 0)
      }
      guard case .launch(let launch) = step.action else { continue }
      let function = plan.functions[launch.function]
      hash.add(function.symbol)
      hash.add(UInt64(function.threads))
      hash.add(UInt64(function.sharedByteCount))
      launch.parameters.forEach(add)
      add(launch.blocks)
      add(launch.scratchBytes)
      for map in launch.maps {
        map.dims.forEach(add)
        for size in map.box { hash.add(UInt64(size)) }
      }
    }
    return hash.hex
  }

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
