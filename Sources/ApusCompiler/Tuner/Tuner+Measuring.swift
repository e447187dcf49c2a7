import ApusCore
import ApusPlan
import ApusRuntime

/// What tactics take.
extension Tuner {
  /// Versions of the libraries that the device has, which figures depend on; notes which are missing.
  mutating func libraryVersions() throws(BuildError) -> String {
    guard let device else { return "" }
    let asked = try Self.libraries.value()
    var text = ""
    for library in Library.allCases {
      if asked != "all", asked != library.word {
        declined.insert(library)
        continue
      }
      do {
        try Engine.require([library], on: device)
        text += ", \(library.name) \(Library.text(version: try device.version(of: library)))"
      } catch { missing.insert(library) }
    }
    return text
  }

  /// Tactics that can be measured: those of libraries that are missing are left out, and that is said once.
  private mutating func possible(_ candidates: CandidateSet, _ tactics: [String]) -> Set<String> {
    var possible: Set<String> = []
    for tactic in tactics {
      let needed = candidates.plan(tactic)?.libraries ?? []
      if !needed.isDisjoint(with: declined) { continue }
      let lacking = needed.intersection(missing)
      if lacking.isEmpty {
        possible.insert(tactic)
      } else if let device, !outcome.warnings.contains(where: { $0.code == "APUS-B-0059" }) {
        do { try Engine.require(lacking, on: device) } catch {
          let reasons = error.problems.map(\.message).joined(separator: "; ")
          outcome.warnings.append(
            Diagnostic(
              "APUS-B-0059", "tactics of libraries are left out: \(reasons)", place: error.problems.first?.place ?? ""))
        }
      }
    }
    return possible
  }

  /// What is known, or measured now, of the tactics of a region.
  mutating func seconds(
    of candidates: CandidateSet, _ timer: CandidateTimer?, _ compiler: String
  ) throws -> [String: Double] {
    let name = target.fingerprint.target
    let here = device.map { TimingCache.Place(target: name, device: $0.identity, compiler: compiler) }
    guard let place = here ?? cache.cache.place(knowing: candidates.keys, target: name) else { return [:] }
    var seconds: [String: Double] = [:]
    for (tactic, key) in zip(candidates.tactics, candidates.keys) {
      seconds[tactic] = cache.cache.seconds(key, at: place)
    }
    for (tactic, key) in zip(candidates.tactics, candidates.keys) where seconds[tactic] != nil {
      if counted.insert(key).inserted { outcome.knownCount += 1 }
    }
    guard let timer, seconds.count < candidates.tactics.count else { return seconds }
    let start = ContinuousClock.now
    let open = candidates.tactics.filter { seconds[$0] == nil && (!replaces || candidates.canReplace($0)) }
    pace.sawRecovering(.now - start)
    let wanted = affordable(candidates, possible(candidates, open), timer)
    if wanted.isEmpty { return seconds }
    var measured = try measure(candidates, timer, wanted)
    // The tactic in use is timed along each time: what the machine did otherwise than before shows in it, and counts for none.
    let own = candidates.tactics[0]
    if let before = seconds[own], let now = measured.removeValue(forKey: own)?.seconds, now > 0, now.isFinite {
      for tactic in measured.keys { measured[tactic]?.seconds *= before / now }
    }
    outcome.measuredCount += measured.count
    for (tactic, key) in zip(candidates.tactics, candidates.keys) where measured[tactic] != nil { counted.insert(key) }
    try cache.add(
      zip(candidates.tactics, candidates.keys).compactMap { tactic, key in
        measured[tactic].map {
          TimingCache.Entry(key: key, place: place, tactic: tactic, seconds: $0.seconds, runs: $0.runs)
        }
      })
    return seconds.merging(measured.mapValues(\.seconds)) { $1 }
  }

  /// Those of some tactics that there is time to compile and to run, by the order of the cost model; none when nothing could be
  /// compared.
  private func affordable(
    _ candidates: CandidateSet, _ tactics: Set<String>, _ timer: CandidateTimer
  ) -> Set<String> {
    guard let budget else { return tactics }
    let own = candidates.tactics[0]
    var taken = tactics
    if !pace.hasCompiled, !budget.affords(prediction(candidates, taken.union([own]), timer) * 4) {
      // Nobody knows how long compiling takes here: few tell.
      taken = Set(candidates.tactics.filter(tactics.contains).prefix(2))
    }
    func isAffordable() -> Bool { budget.affords(prediction(candidates, taken.union([own]), timer)) }
    for tactic in candidates.tactics.reversed() where !isAffordable() { taken.remove(tactic) }
    return isAffordable() ? taken : []
  }

  /// What compiling tactics takes, and running each as often as is needed to say something of it.
  private func prediction(_ candidates: CandidateSet, _ tactics: Set<String>, _ timer: CandidateTimer) -> Duration {
    let run = .seconds(pace.slowness * candidates.usualSeconds(target.rates)) + timer.fillDuration
    let runs = tactics.count * (1 + Settling.leastRuns * timer.runsEach)
    return pace.compiling * candidates.functionCount(tactics) + run * runs + .milliseconds(20)
  }

  /// Times tactics and the one in use. Those that do not compile, do not run or compute something else are left out.
  private mutating func measure(
    _ candidates: CandidateSet, _ timer: CandidateTimer, _ tactics: Set<String>
  ) throws -> [String: CandidateTimer.Result] {
    let own = candidates.tactics[0]
    let all = tactics.union([own])
    let plans: [Plan]
    let start = ContinuousClock.now
    do { plans = try candidates.compiled(all, target) } catch {
      // One that does not compile spoils all: they are tried one by one.
      var good = all
      for tactic in candidates.tactics where tactics.contains(tactic) {
        do { _ = try candidates.compiled([tactic], target) } catch {
          outcome.add(error.problems)
          good.remove(tactic)
        }
      }
      if good == all || !good.contains(own) { return [:] }
      return try measure(candidates, timer, good.subtracting([own]))
    }
    if plans.count < 2, tactics != [own] { return [:] }
    pace.sawCompiling(.now - start, functions: candidates.functionCount(all))
    let results: [CandidateTimer.Result]
    let task = CandidateTimer.Task(
      sizes: candidates.sizes, duration: effort?.regionDuration ?? .milliseconds(300), budget: budget,
      reference: candidates.reference)
    do { results = try timer.results(of: plans, task) } catch {
      guard let error = error as? any RoomError else { throw error }
      outcome.add(error.problems)
      return [:]
    }
    let slowest = results.map(\.seconds).filter(\.isFinite).max()
    if let slowest { pace.sawRun(slowest, usual: candidates.usualSeconds(target.rates)) }
    var measured: [String: CandidateTimer.Result] = [:]
    var refused: [String] = []
    let tolerance = Self.tolerance(plans[0].outputs[0].type.tensor?.dtype ?? .f32)
    for (plan, result) in zip(plans, results) {
      if let refusal = result.refusal {
        refused.append("'\(plan.profile.name)': \(refusal.problems[0].message)")
        continue
      }
      if result.difference <= tolerance, !result.writesBeyond {
        if result.runs > 0 { measured[plan.profile.name] = result }
        continue
      }
      let what =
        result.writesBeyond ? "writes beyond its result" : "differs by \(result.difference) from what is expected"
      outcome.add([
        Diagnostic(
          "APUS-B-0058", "tactic '\(plan.profile.name)' of a region with '\(own)' \(what); it is left out",
          place: "region", hint: "Report this: all tactics should compute the same.")
      ])
    }
    if let first = refused.first {
      outcome.add([
        Diagnostic("APUS-B-0059", "\(refused.count) tactics are left out, \(first)", place: "region")
      ])
    }
    return measured
  }

  /// How far results may be apart, relative to the largest: sums are taken in other orders.
  private static func tolerance(_ dtype: DType) -> Double {
    switch dtype {
    case .f64: 1e-9
    case .f32: 2e-3
    case .f16: 1e-2
    default: 5e-2
    }
  }
}
