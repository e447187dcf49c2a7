import Apus

/// What changing between two profiles of a context costs: two profiles in turn in one context, against the same two in
/// turn in a context each, so that what they do to the caches is alike. Each profile runs at its opt.
struct SwitchMeasurement {
  /// By profile: medians, and the cost of a change with its standard error, in microseconds.
  private let shared: [Double]
  private let apart: [Double]
  private let costs: [(median: Double, error: Double)]
  private let rounds: Int

  init(
    _ session: Session, _ pair: [ProfileSelection], seconds: Double, seed: UInt64, captures: Bool,
    _ progress: ProgressBar
  ) throws {
    let inputs = try pair.map { selection in
      let plan = try session.engine.plan(for: selection, shapes: [:])
      return try InputValues(files: [], seed: seed, plan: plan, shapes: [:]).entries
    }
    let both = try session.engine.makeContext(captures: captures)
    let first = try session.engine.makeContext(captures: captures)
    let second = try session.engine.makeContext(captures: captures)
    func time(_ context: borrowing ExecutionContext, _ side: Int) throws -> Duration {
      for input in inputs[side] { try context.bind(input: input.name, to: input.value) }
      let start = ContinuousClock.now
      try context.run(profile: pair[side])
      return ContinuousClock.now - start
    }
    var shared = [[Double]](repeating: [], count: 2)
    var apart = shared
    let end = ContinuousClock.now + .seconds(seconds)
    var round = 0
    repeat {
      var together: [Duration] = []
      // Either goes first in turn, so that neither gains by what the other leaves in the caches.
      if round % 2 == 0 { together = [try time(both, 0), try time(both, 1)] }
      let alone = [try time(first, 0), try time(second, 1)]
      if round % 2 == 1 { together = [try time(both, 0), try time(both, 1)] }
      // The first rounds prepare the contexts.
      for side in 0..<2 where round > 3 {
        shared[side].append(together[side] / .microseconds(1))
        apart[side].append(alone[side] / .microseconds(1))
      }
      round += 1
      let left = max(0, (end - .now) / .seconds(1))
      progress.update("measure", Int(1000 * (seconds - left)), of: Int(1000 * seconds))
    } while ContinuousClock.now < end || round < 12
    self.shared = shared.map(Self.median)
    self.apart = apart.map(Self.median)
    costs = (0..<2).map { side in
      let differences = zip(shared[side], apart[side]).map { $0 - $1 }
      let middle = Self.median(differences)
      // The spread of normally distributed values is 1.483 times the median deviation; a median's error is 1.253 / √n of it.
      let deviation = Self.median(differences.map { abs($0 - middle) })
      return (middle, 1.483 * 1.253 * deviation / Double(differences.count).squareRoot())
    }
    rounds = round - 4
  }

  private static func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

  func text(_ names: [String]) -> String {
    var lines = ["\(rounds) rounds, medians, a change as the difference within a round"]
    for side in 0..<2 {
      lines.append(
        "\(names[side]): \(Units.fixed(apart[side], 1)) us in a context of its own, \(Units.fixed(shared[side], 1)) us shared "
          + "with \(names[1 - side]): a change costs \(Units.fixed(costs[side].median, 1)) ± "
          + "\(Units.fixed(costs[side].error, 1)) us")
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
              ("name", .string(names[side])), ("apart_us", .number(apart[side])), ("shared_us", .number(shared[side])),
              ("switch_us", .number(costs[side].median)), ("switch_error_us", .number(costs[side].error)),
            ])
          })
      ),
    ])
  }
}
