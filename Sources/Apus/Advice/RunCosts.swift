import ApusCore
package import ApusPlan

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// How long a run takes at each point of a ``ShapeSpace``: with a profile that fixes its sizes, and with a profile of ranges
/// tuned at another point.
package struct RunCosts: Sendable {
  /// Seconds with sizes fixed, by point.
  package let fixed: [Double]
  /// Seconds by the point that the profile is tuned at, then by the point that runs.
  package let tuned: [[Double]]
  /// Where the numbers come from, in words.
  package let source: String
  /// Whether the numbers are seconds of some machine, or only say how times compare.
  package let areSeconds: Bool
  /// What was measured, when times were.
  package let measured: Measured?

  /// Seconds at some points, each fixed, and each as it runs in ranges tuned at any of them.
  package struct Measured: Sendable {
    package var points: [Int]
    package var fixed: [Double]
    /// By the position tuned at, then by the position that runs.
    package var tuned: [[Double]]
  }

  package init(fixed: [Double], tuned: [[Double]], source: String, areSeconds: Bool, measured: Measured? = nil) {
    self.fixed = fixed
    self.tuned = tuned
    self.source = source
    self.areSeconds = areSeconds
    self.measured = measured
  }
}

/// What running away from opt is taken to cost where it was not measured.
package enum Penalty {
  /// Share of the time that a range costs over fixed sizes.
  package static let range = 0.02
  /// Share for each doubling or halving of a size away from opt, summed over the sizes.
  package static let perDoubling = 0.01
  /// The most that the distance from opt costs.
  package static let most = 0.25

  package static var text: String {
    "a range costs \(percent(range)), each doubling of a size away from opt \(percent(perDoubling)), at most \(percent(most))"
  }

  private static func percent(_ share: Double) -> String { "\(Int((100 * share).rounded())) %" }

  static func factor(from opt: [Int], to sizes: [Int]) -> Double {
    var doublings = 0.0
    for (a, b) in zip(opt, sizes) { doublings += abs(binaryLogarithm(a) - binaryLogarithm(b)) }
    return 1 + range + min(perDoubling * doublings, most)
  }
}

/// The binary logarithm of a size, that of 0 taken as that of 1.
func binaryLogarithm(_ size: Int) -> Double { size > 1 ? log2(Double(size)) : 0 }

extension RunCosts {
  /// Times with sizes fixed, made worse for profiles by the stated penalty.
  package init(base: [Double], of space: ShapeSpace, source: String, areSeconds: Bool) {
    self.init(
      fixed: base,
      tuned: space.points.map { opt in
        zip(space.points, base).map { $1 * Penalty.factor(from: opt.sizes, to: $0.sizes) }
      }, source: "\(source); \(Penalty.text)", areSeconds: areSeconds)
  }

  /// Nothing is known of the model: time grows as the elements of its inputs.
  package static func byElements(_ space: ShapeSpace) -> RunCosts {
    let base = space.points.map { point in
      min(point.shapes.values.reduce(1.0) { $0 + $1.reduce(1.0) { $0 * Double($1) } }, 1e30)
    }
    return RunCosts(base: base, of: space, source: "in proportion to the elements of the inputs", areSeconds: false)
  }

  /// From the plan of an engine or a model: its measured times, else the operations and bytes of its steps.
  ///
  /// Nil when the plan fixes sizes that vary in the calls.
  package static func byPlan(_ plan: Plan, _ space: ShapeSpace, measuredIn engine: String?) -> RunCosts? {
    let sizes = space.points.map { plan.symbolValues($0.shapes) }
    guard sizes.allSatisfy({ $0 != nil }) else { return nil }
    let values = sizes.compactMap { $0 }
    if let engine, !plan.timings.isEmpty {
      let base = values.map { plan.timings.seconds(forWork: plan.work($0) ?? 0) ?? 0 }
      if base.allSatisfy({ $0 > 0 && $0.isFinite }) {
        let name = plan.profile.name
        return RunCosts(
          base: base, of: space, source: "measured for profile '\(name)' of \(engine)", areSeconds: true)
      }
    }
    return RunCosts(
      base: values.map(plan.nominalSeconds), of: space,
      source: "the steps' operations at \(NominalMachine.text)", areSeconds: true)
  }
}

/// A machine to weigh operations and bytes against each other where nothing was measured.
enum NominalMachine {
  static let operationsPerSecond = 100e9
  static let bytesPerSecond = 50e9
  static let secondsPerStep = 1e-6

  static let text = "100 GFLOP/s or 50 GB/s, whichever takes longer, and 1 us for each step"
}

extension Plan {
  /// The symbols' values for shapes of a call; nil when the plan fixes a size that is another in the call.
  fileprivate func symbolValues(_ shapes: [String: [Int]]) -> [String: Int]? {
    var values: [String: Int] = [:]
    for input in inputs {
      guard let type = input.type.tensor else { continue }
      guard let shape = shapes[input.name], shape.count == type.rank else { return nil }
      for (dim, size) in zip(type.shape, shape) {
        if let fixed = dim.constantValue, fixed != size { return nil }
        if let symbol = dim.asSymbol { values[symbol.name] = size }
      }
    }
    return values
  }

  fileprivate func nominalSeconds(_ sizes: [String: Int]) -> Double {
    steps.reduce(0) { sum, step in
      let operations = Double(max(step.work.evaluate { sizes[$0] } ?? 0, 0))
      let bytes = Double(max(step.traffic.evaluate { sizes[$0] } ?? 0, 0))
      return sum + NominalMachine.secondsPerStep
        + max(operations / NominalMachine.operationsPerSecond, bytes / NominalMachine.bytesPerSecond)
    }
  }
}
