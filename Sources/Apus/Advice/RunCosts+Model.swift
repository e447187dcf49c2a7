package import ApusCompiler
import ApusCore
import ApusGraph
package import ApusImport
import ApusKernel
import ApusPlan

/// A target whose code is never compiled: plans made for it say what runs would do.
private struct SketchTarget: Target {
  let base: any Target

  var fingerprint: Fingerprint { base.fingerprint }
  var templates: [any KernelTemplate] { base.templates }
  var hostIsElsewhere: Bool { base.hostIsElsewhere }
  var launchElements: Int { base.launchElements }
  var joinsLargeProducts: Bool { base.joinsLargeProducts }
  func loops(_ kernel: Kernel) -> KernelCode { base.loops(kernel) }
  func loops(beside kernels: [Kernel]) -> KernelCode? { base.loops(beside: kernels) }

  func compile(_ sources: [String], progress: (Int, Int) -> Void) throws(BuildError) -> [KernelImage] {
    [KernelImage(target: fingerprint.target, bytes: [])]
  }
}

extension RunCosts {
  /// From the operations and bytes of a model's steps; nothing is compiled.
  package static func byModel(_ model: Model, _ space: ShapeSpace) throws(BuildError) -> RunCosts? {
    let target = SketchTarget(base: try Backend.cpu.makeTarget("native", nil))
    let plans = try Builder.build(model.graph, name: model.name, targets: [target], options: BuildOptions()).plans
    return byPlan(plans[0], space, measuredIn: nil)
  }
}

// MARK: Measuring

extension RunCosts {
  /// The most points that are measured; times of the others lie between them.
  private static let measuredLimit = 6

  /// Builds the model for some of the points, each as fixed sizes and as what ranges over all points are tuned for, and
  /// times all of these at each other's sizes on this machine.
  ///
  /// What differs by less than repeated measurements do counts as equal. Points between those measured get times on the line between them, and what a range tuned elsewhere costs in proportion
  /// to the logarithm of the work.
  ///
  /// - Throws: ``BuildError``, or `APUS-A-0006` when a run fails.
  package static func measured(
    _ model: Model, _ space: ShapeSpace, progress: @escaping @Sendable (BuildPhase, Int, Int) -> Void
  ) throws -> RunCosts {
    let chosen = measuredPoints(space)
    let ranged = chosen.map { profile("tuned\($0)", space, at: $0, isFixed: false) }
    let fixed = chosen.map { profile("fixed\($0)", space, at: $0, isFixed: true) }
    let plans = try Builder.build(
      model.graph, name: model.name, targets: [try Backend.cpu.makeTarget("native", nil)],
      options: BuildOptions(profiles: ranged + fixed, progress: progress)
    ).plans
    let values = space.points.map { point in
      Dictionary(uniqueKeysWithValues: zip(space.variables.map(\.name), point.sizes))
    }
    let count = chosen.count
    let inputs = try chosen.map { point in
      guard let inputs = plans[0].randomInputs(values[point]) else {
        throw AdviceError("APUS-A-0006", "inputs of \(space.points[point].shapes) cannot be made up")
      }
      return inputs
    }
    let times = try ProfileTimer(try Engine(plans: plans), ofEach: inputs) { profile, point in
      profile < count || profile == count + point
    } progress: {
      progress(.measure, $0, $1)
    }
    let alone = chosen.indices.map { times.seconds[count + $0][$0] }
    let tuned = chosen.indices.map { times.seconds[$0] }
    let least = chosen.indices.map { point in tuned.reduce(alone[point]) { min($0, $1[point]) } }
    func settled(_ seconds: Double, _ point: Int) -> Double {
      seconds <= least[point] * (1 + times.noise) ? least[point] : seconds
    }
    let work = values.map { plans[0].work($0) ?? 0 }
    let curve = TimeCurve(
      work: chosen.map { work[$0] }, fixed: alone.enumerated().map { settled($1, $0) },
      tuned: tuned.map { $0.enumerated().map { settled($1, $0) } })
    return RunCosts(
      fixed: work.map { curve.fixedSeconds(atWork: $0) },
      tuned: work.map { opt in work.map { curve.fixedSeconds(atWork: $0) * curve.factor(opt: opt, work: $0) } },
      source: "measured here at \(count) of \(space.points.count) sizes, each fixed and each as opt of a range; "
        + "differences of less than \(Int((100 * times.noise).rounded(.up))) %, by which repeated measurements differ, count as none",
      areSeconds: true, measured: Measured(points: chosen, fixed: alone, tuned: tuned))
  }

  /// The smallest and the largest point, the one of most calls, and those at equal parts of the elements that calls compute.
  private static func measuredPoints(_ space: ShapeSpace) -> [Int] {
    let order = space.points.indices.sorted { a, b in
      let (left, right) = (
        space.points[a].sizes.reduce(1, saturatingMultiply), space.points[b].sizes.reduce(1, saturatingMultiply)
      )
      return left == right ? a < b : left < right
    }
    var chosen = Set([order[0], order[order.count - 1]])
    if let most = order.max(by: { space.points[$0].count < space.points[$1].count }) { chosen.insert(most) }
    func elements(_ point: Int) -> Double {
      space.points[point].sizes.reduce(Double(space.points[point].count)) { $0 * Double(max($1, 1)) }
    }
    let total = order.reduce(0) { $0 + elements($1) }
    let parts = measuredLimit - chosen.count
    var sum = 0.0
    var part = 0
    for point in order where part < parts {
      sum += elements(point)
      while part < parts, sum >= total * (Double(part) + 0.5) / Double(parts) {
        chosen.insert(point)
        part += 1
      }
    }
    return order.filter { chosen.contains($0) }
  }

  private static func profile(_ name: String, _ space: ShapeSpace, at point: Int, isFixed: Bool) -> Profile {
    Profile(
      name: name,
      ranges: space.variables.indices.map { axis in
        let own = space.points[point].sizes[axis]
        let sizes = space.points.map { $0.sizes[axis] }
        return Profile.Range(
          symbol: space.variables[axis].name, min: isFixed ? own : sizes.min() ?? own, opt: own,
          max: isFixed ? own : sizes.max() ?? own)
      })
  }
}

/// Times measured at some amounts of work, and what lies between.
package struct TimeCurve {
  private let work: [Int]
  private let fixed: [Double]
  /// Share of the fixed time, by the point tuned at and the point that runs.
  private let factors: [[Double]]

  /// - Parameter tuned: seconds by the point tuned at, then by the point that runs.
  package init(work: [Int], fixed: [Double], tuned: [[Double]]) {
    let order = work.indices.sorted { work[$0] == work[$1] ? $0 < $1 : work[$0] < work[$1] }
    self.work = order.map { work[$0] }
    self.fixed = order.map { fixed[$0] }
    factors = order.map { opt in order.map { tuned[opt][$0] / max(fixed[$0], 1e-12) } }
  }

  package func fixedSeconds(atWork amount: Int) -> Double {
    let (low, high) = neighbours(amount)
    if work[low] == work[high] { return fixed[low] }
    let part = Double(amount - work[low]) / Double(work[high] - work[low])
    return fixed[low] + min(max(part, 0), 1) * (fixed[high] - fixed[low])
  }

  /// What a range tuned at an amount of work costs at another, as a factor of the fixed time.
  package func factor(opt: Int, work amount: Int) -> Double {
    let (row, column) = (position(opt), position(amount))
    func along(_ row: Int) -> Double {
      let values = factors[row]
      return values[column.low] + column.part * (values[column.high] - values[column.low])
    }
    return along(row.low) + row.part * (along(row.high) - along(row.low))
  }

  private func position(_ amount: Int) -> (low: Int, high: Int, part: Double) {
    let (low, high) = neighbours(amount)
    let (start, end) = (binaryLogarithm(work[low]), binaryLogarithm(work[high]))
    return (low, high, end > start ? min(max((binaryLogarithm(amount) - start) / (end - start), 0), 1) : 0)
  }

  /// The measured points around an amount of work; at the ends twice the same.
  private func neighbours(_ amount: Int) -> (low: Int, high: Int) {
    guard let high = work.firstIndex(where: { $0 >= amount }) else { return (work.count - 1, work.count - 1) }
    return (high == 0 || work[high] == amount ? high : high - 1, high)
  }
}
