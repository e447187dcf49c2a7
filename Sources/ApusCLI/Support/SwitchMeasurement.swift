import Apus

/// What changing between two profiles of a context costs: two profiles in turn in one context, against the same two in
/// turn in a context each, so that what they do to the caches is alike. Each profile runs at its opt.
struct SwitchMeasurement {
  /// Medians by profile.
  private let shared: [Duration]
  private let apart: [Duration]
  private let rounds: Int

  init(
    _ session: Session, _ pair: [ProfileSelection], seconds: Double, seed: UInt64, _ progress: ProgressBar
  ) throws {
    let inputs = try pair.map { selection in
      let plan = try session.engine.plan(for: selection, shapes: [:])
      return try InputValues(files: [], seed: seed, plan: plan, shapes: [:]).entries
    }
    let both = try session.engine.makeContext()
    let first = try session.engine.makeContext()
    let second = try session.engine.makeContext()
    func time(_ context: borrowing ExecutionContext, _ side: Int) throws -> Duration {
      for input in inputs[side] { try context.bind(input: input.name, to: input.value) }
      let start = ContinuousClock.now
      try context.run(profile: pair[side])
      return ContinuousClock.now - start
    }
    var shared = [[Duration]](repeating: [], count: 2)
    var apart = shared
    let end = ContinuousClock.now + .seconds(seconds)
    var round = 0
    repeat {
      let together = [try time(both, 0), try time(both, 1)]
      let alone = [try time(first, 0), try time(second, 1)]
      // The first rounds prepare the contexts.
      for side in 0..<2 where round > 2 {
        shared[side].append(together[side])
        apart[side].append(alone[side])
      }
      round += 1
      let left = max(0, (end - .now) / .seconds(1))
      progress.update("measure", Int(1000 * (seconds - left)), of: Int(1000 * seconds))
    } while ContinuousClock.now < end || round < 8
    func median(_ values: [Duration]) -> Duration { values.sorted()[values.count / 2] }
    self.shared = shared.map(median)
    self.apart = apart.map(median)
    rounds = round - 3
  }

  private func microseconds(_ duration: Duration) -> Double { duration / .microseconds(1) }

  func text(_ names: [String]) -> String {
    var lines = ["\(rounds) rounds, medians"]
    for side in 0..<2 {
      let (together, alone) = (microseconds(shared[side]), microseconds(apart[side]))
      lines.append(
        "\(names[side]): \(Units.fixed(alone, 1)) us in a context of its own, \(Units.fixed(together, 1)) us shared with "
          + "\(names[1 - side]): a change costs \(Units.fixed(together - alone, 1)) us")
    }
    return lines.joined(separator: "\n")
  }

  func json(_ names: [String]) -> JSON {
    .object([
      ("rounds", .int(rounds)),
      (
        "profiles",
        .array(
          (0..<2).map { side in
            .object([
              ("name", .string(names[side])), ("apart_us", .number(microseconds(apart[side]))),
              ("shared_us", .number(microseconds(shared[side]))),
              ("switch_us", .number(microseconds(shared[side] - apart[side]))),
            ])
          })
      ),
    ])
  }
}
