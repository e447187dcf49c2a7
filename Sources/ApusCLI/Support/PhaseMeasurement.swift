import Apus
import ApusCore
import ApusPlan

/// Some calls of one profile at one size, as typed: `COUNT PROFILE [SYMBOL=SIZE …]`. Sizes left out are those of its opt.
struct Phase {
  let name: String
  let count: Int
  let profile: ProfileSelection
  let sizes: [Profile.Range]

  /// - Throws: ``UsageError`` `APUS-C-0027` when the text has another form.
  init(_ text: String) throws(UsageError) {
    let words = text.split(separator: " ").map { String($0) }
    let sizes = words.dropFirst(2).map { word -> Profile.Range? in
      let parts = word.split(separator: "=")
      guard parts.count == 2, let size = Int(parts[1]), size >= 0 else { return nil }
      return Profile.Range(symbol: String(parts[0]), min: size, opt: size, max: size)
    }
    guard words.count >= 2, let count = Int(words[0]), (1...1_000_000).contains(count),
      let profile = ProfileSelection(argument: words[1]), !profile.dependsOnShapes,
      sizes.allSatisfy({ $0 != nil })
    else {
      throw UsageError(
        "APUS-C-0027", "a count, a profile and sizes are needed", place: "--phase \"\(text)\"",
        hint: "For instance --phase \"1 prefill seq=128\" --phase \"16 decode\".")
    }
    name = text
    self.count = count
    self.profile = profile
    self.sizes = sizes.compactMap { $0 }
  }

  /// Random inputs of the phase's sizes.
  func inputs(_ engine: Engine, seed: UInt64) throws -> [InputValues.Entry] {
    let plan = try engine.plan(for: profile, shapes: [:])
    let known = plan.shapeSymbols.map(\.name)
    if let unknown = sizes.first(where: { !known.contains($0.symbol) }) {
      throw UsageError(
        "APUS-C-0011", "no input has a size called '\(unknown.symbol)' in this profile", place: "--phase \"\(name)\"",
        hint: Spelling.hint(for: unknown.symbol, in: known))
    }
    var sized = plan
    sized.profile = Profile(name: name, ranges: sizes + plan.profile.ranges)
    return try InputValues(files: [], seed: seed, plan: sized, shapes: [:]).entries
  }
}

/// Phases in turn, round after round, in one context.
struct PhaseMeasurement {
  private let phases: [Phase]
  /// By phase: the first call of each round, which may have changed the profile, and the others.
  private var first: [[Duration]]
  private var later: [[Duration]]
  private var rounds: [Duration] = []

  /// - Parameters:
  ///   - count: how many rounds; nil for as many as `seconds` take.
  init(
    _ session: Session, _ phases: [Phase], rounds count: Int?, seconds: Double, seed: UInt64, captures: Bool,
    _ progress: ProgressBar
  ) throws {
    self.phases = phases
    first = Array(repeating: [], count: phases.count)
    later = first
    let inputs = try phases.map { try $0.inputs(session.engine, seed: seed) }
    let context = try session.engine.makeContext(captures: captures)
    // The first round prepares the context.
    try run(context, inputs)
    (first, later, rounds) = (Array(repeating: [], count: phases.count), Array(repeating: [], count: phases.count), [])
    let end = ContinuousClock.now + .seconds(seconds)
    repeat {
      try run(context, inputs)
      if let count { progress.update("measure", rounds.count, of: count) }
    } while count.map({ rounds.count < $0 }) ?? (ContinuousClock.now < end)
  }

  private mutating func run(_ context: borrowing ExecutionContext, _ inputs: [[InputValues.Entry]]) throws {
    let began = ContinuousClock.now
    for (index, phase) in phases.enumerated() {
      var start = ContinuousClock.now
      for input in inputs[index] { try context.bind(input: input.name, to: input.value) }
      for call in 0..<phase.count {
        try context.run(profile: phase.profile)
        let end = ContinuousClock.now
        if call == 0 { first[index].append(end - start) } else { later[index].append(end - start) }
        start = end
      }
    }
    rounds.append(ContinuousClock.now - began)
  }

  private func measurement(_ durations: [Duration]) -> Measurement {
    Measurement(latencies: durations, total: durations.reduce(.zero, +))
  }

  var text: String {
    let whole = measurement(rounds)
    var lines = [
      "\(rounds.count) rounds: median \(Units.fixed(whole.median, 3)) ms, min \(Units.fixed(whole.percentile(0), 3))"
    ]
    for (index, phase) in phases.enumerated() {
      var line = "\(phase.name): first call \(Units.fixed(measurement(first[index]).median, 3)) ms"
      if !later[index].isEmpty { line += ", later calls \(Units.fixed(measurement(later[index]).median, 3)) ms" }
      lines.append(line + " (medians)")
    }
    return lines.joined(separator: "\n")
  }

  var json: JSON {
    func object(_ durations: [Duration]) -> JSON {
      durations.isEmpty ? .null : .object(measurement(durations).summary.map { ($0.name, .number($0.value)) })
    }
    return .object([
      ("rounds", .int(rounds.count)), ("round_ms", object(rounds)),
      (
        "phases",
        .array(
          phases.indices.map { index in
            .object([
              ("phase", .string(phases[index].name)), ("calls", .int(phases[index].count)),
              ("first_ms", object(first[index])), ("later_ms", object(later[index])),
            ])
          })
      ),
    ])
  }
}
