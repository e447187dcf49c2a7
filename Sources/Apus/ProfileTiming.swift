import ApusCore
import ApusGraph
import ApusPlan
package import ApusRuntime

extension Engine {
  /// The plans with the times of runs at the min, opt and max of their profiles, on this machine and random inputs.
  ///
  /// A profile that leaves a size open, has inputs that cannot be made up, or fails on what was made up stays without
  /// times; one that has some keeps them.
  package func timed() -> [Plan] {
    plans.indices.map { index in
      var plan = plans[index]
      if !plan.timings.isEmpty { return plan }
      let ranges = plan.profile.ranges
      let points = [
        ranges.map { ($0.symbol, $0.min) }, ranges.map { ($0.symbol, $0.opt) }, ranges.map { ($0.symbol, $0.max) },
      ]
      var timings: [Int: Double] = [:]
      for point in points {
        let sizes = Dictionary(point, uniquingKeysWith: { first, _ in first })
        guard let work = plan.work(sizes), timings[work] == nil, let inputs = plan.randomInputs(sizes) else { continue }
        if let seconds = try? seconds(of: inputs, profile: index) { timings[work] = seconds }
      }
      plan.timings = timings.sorted { $0.key < $1.key }.map { Timing(work: $0.key, seconds: $0.value) }
      return plan
    }
  }

  private func seconds(of inputs: [String: HostValue], profile: Int) throws -> Double {
    let context = try makeContext()
    for (name, value) in inputs { try context.bind(input: name, to: value) }
    return try context.medianSeconds(profile: profile, during: .milliseconds(100))
  }
}

extension ExecutionContext {
  /// Median time of a run on what is bound, over at least three runs and the time given, after one that prepares.
  fileprivate func medianSeconds(profile: Int, during duration: Duration) throws(RunError) -> Double {
    try run(profile: .index(profile))
    var times: [Duration] = []
    let end = ContinuousClock.now + duration
    repeat {
      let start = ContinuousClock.now
      try run(profile: .index(profile))
      times.append(ContinuousClock.now - start)
    } while times.count < 3 || ContinuousClock.now < end
    return times.sorted()[times.count / 2] / .seconds(1)
  }
}

/// Times of an engine's profiles on several inputs, taken in turns, so that what disturbs the machine for a while disturbs all
/// of them.
struct ProfileTimer {
  /// Least median of the rounds, by profile, then by inputs; infinite where nothing was asked for.
  private(set) var seconds: [[Double]]
  /// By what share rounds are slower than the fastest of their kind: nine of ten stay below.
  private(set) var noise: Double
  private static let rounds = 5

  init(
    _ engine: Engine, ofEach inputs: [[String: HostValue]], where isWanted: (_ profile: Int, _ inputs: Int) -> Bool,
    progress: (Int, Int) -> Void
  ) throws(RunError) {
    seconds = [[Double]](
      repeating: [Double](repeating: .infinity, count: inputs.count), count: engine.plans.count)
    var all: [[[Double]]] = seconds.map { $0.map { _ in [] } }
    noise = 0
    let context = try engine.makeContext()
    for round in 0..<Self.rounds {
      for (position, values) in inputs.enumerated() {
        progress(round * inputs.count + position, Self.rounds * inputs.count)
        for (name, value) in values { try context.bind(input: name, to: value) }
        for profile in engine.plans.indices where isWanted(profile, position) {
          all[profile][position].append(try context.medianSeconds(profile: profile, during: .milliseconds(20)))
        }
      }
    }
    var excess: [Double] = []
    for (profile, rows) in all.enumerated() {
      for (position, times) in rows.enumerated() {
        guard let least = times.min() else { continue }
        seconds[profile][position] = least
        excess += times.filter { $0 > least }.map { $0 / max(least, 1e-12) - 1 }
      }
    }
    if !excess.isEmpty { noise = excess.sorted()[excess.count * 9 / 10] }
  }
}

extension Plan {
  /// Arithmetic operations of a run; steps whose work only a run tells count for nothing. Nil when a size is open.
  func work(_ sizes: [String: Int]) -> Int? {
    let late = Set(runSymbols.map(\.name))
    var sum = 0
    for step in steps {
      if step.work.symbols.contains(where: { late.contains($0.name) }) { continue }
      guard let work = step.work.evaluate({ sizes[$0] }) else { return nil }
      sum = saturatingAdd(sum, Swift.max(work, 0))
    }
    return sum
  }

  func randomInputs(_ sizes: [String: Int]) -> [String: HostValue]? {
    var values: [String: HostValue] = [:]
    for input in inputs {
      guard let type = input.type.tensor, type.dtype != .string else { return nil }
      let shape = type.shape.compactMap { $0.evaluate { sizes[$0] } }
      guard shape.count == type.rank, shape.reduce(1, saturatingMultiply) < 1 << 32 else { return nil }
      if let elements = input.values {
        let elements = elements.compactMap { $0.evaluate { sizes[$0] } }
        guard elements.count == input.values?.count else { return nil }
        values[input.name] = .tensor(HostTensor(type.dtype, shape, int64s: elements.map(Int64.init)))
        continue
      }
      let range: ClosedRange<Double>? = type.dtype.isInteger ? 0...1 : nil
      values[input.name] = .tensor(RandomTensor.make(type.dtype, shape, seed: 1, range: range))
    }
    return values
  }
}
