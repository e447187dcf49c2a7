import ApusCore
import ApusGraph
import ApusPlan
import ApusRuntime

/// Times plans that compute the same on a device, in turns.
///
/// Before each run the caches are filled with other bytes, so that weights come from memory as in a model that does not fit
/// them; then the inputs are read once, as what the steps in front have just written.
struct CandidateTimer {
  /// What came of a plan.
  struct Result {
    /// Median of the runs.
    var seconds: Double
    var runs: Int
    /// Largest difference from the first plan's result, relative to its largest element.
    var difference: Double
    /// Why a library does not compute the plan here; its other figures are none then.
    var refusal: RunError?
  }

  private let device: any Device
  /// What fills the caches.
  private let filler: DeviceBuffer?

  private static let leastRuns = 3
  private static let mostRuns = 25
  /// Elements of a result that are compared.
  private static let compared = 1 << 20
  private static let largestFiller = 128 << 20

  init(_ device: any Device) throws(RunError) {
    self.device = device
    let byteCount = min(2 * device.identity.cacheByteCount, Self.largestFiller)
    do { filler = byteCount == 0 ? nil : try device.allocate(byteCount: byteCount) } catch {
      throw RunError(problems: error.problems)
    }
  }

  /// Times each plan on the sizes given, the first of them as what the others must agree with.
  ///
  /// - Parameter duration: how long to go on, unless a few runs take longer.
  func results(of plans: [Plan], _ sizes: [String: Int], during duration: Duration) throws -> [Result] {
    let engine = try Engine(plans: plans, device: device)
    let context = try engine.makeContext(captures: false)
    var inputs: [(buffer: DeviceBuffer, byteCount: Int)] = []
    for (index, input) in plans[0].inputs.enumerated() {
      let tensor = try Self.tensor(input, sizes, seed: UInt64(100 + index))
      if input.values != nil {
        try context.bind(input: input.name, to: tensor)
        continue
      }
      let buffer = try engine.makeBuffer(tensor)
      try context.bind(input: input.name, to: buffer, shape: tensor.shape)
      inputs.append((buffer, tensor.byteCount))
    }
    let output = plans[0].outputs[0]
    guard let type = output.type.tensor else { return [] }
    let shape = type.shape.map { $0.evaluate { sizes[$0] } ?? 0 }
    let result = try engine.makeBuffer(byteCount: shape.reduce(type.dtype.byteCount, saturatingMultiply))
    try context.bind(output: output.name, to: result)
    let count = min(shape.reduce(1, saturatingMultiply), Self.compared)
    var results: [Result] = []
    var expected: [Double] = []
    for index in plans.indices {
      if let refusal = try refusal(context, index, plans[index]) {
        results.append(Result(seconds: .infinity, runs: 0, difference: .infinity, refusal: refusal))
        continue
      }
      let found = try engine.read(result, as: type.dtype, [count]).doubles
      if index == 0 { expected = found }
      results.append(Result(seconds: .infinity, runs: 0, difference: Self.difference(found, expected)))
    }
    let side = try engine.makeBuffer(byteCount: inputs.map(\.byteCount).max() ?? 0)
    let running = results.indices.filter { results[$0].refusal == nil }
    var times = try rounds(context, plans.count, running, during: duration) { stream in
      if let filler { stream.fill(filler.base, with: 0, byteCount: filler.byteCount) }
      for input in inputs where input.byteCount <= device.identity.cacheByteCount / 4 {
        stream.copy(from: input.buffer.base, to: side.base, byteCount: input.byteCount)
      }
    }
    for index in running {
      times[index].sort()
      results[index].seconds = times[index][times[index].count / 2]
      results[index].runs = times[index].count
    }
    return results
  }

  /// Seconds of the runs of each plan. Plans that are far behind after a few rounds are left alone.
  private func rounds(
    _ context: borrowing ExecutionContext, _ count: Int, _ plans: [Int], during duration: Duration,
    prepare: (any DeviceStream) -> Void
  ) throws(RunError) -> [[Double]] {
    var times = [[Double]](repeating: [], count: count)
    var running = plans
    let end = ContinuousClock.now + duration
    for round in 0..<Self.mostRuns {
      if round >= Self.leastRuns, ContinuousClock.now > end { break }
      var marks: [(start: any DeviceMark, end: any DeviceMark)] = []
      for index in running {
        context.queue(prepare)
        let start = try context.mark()
        try context.enqueue(profile: .index(index))
        marks.append((start, try context.mark()))
      }
      try context.wait()
      for (index, mark) in zip(running, marks) {
        do { times[index].append(try mark.end.seconds(since: mark.start)) } catch {
          throw RunError(problems: error.problems)
        }
      }
      if round == Self.leastRuns - 1 {
        let least = times.compactMap { $0.min() }.min() ?? 0
        running = running.filter { $0 == 0 || (times[$0].min() ?? 0) <= 1.5 * least }
      }
    }
    return times
  }

  /// Runs a plan once; gives back why a library that it calls does not compute it.
  private func refusal(
    _ context: borrowing ExecutionContext, _ index: Int, _ plan: Plan
  ) throws(RunError) -> RunError? {
    do throws(RunError) { try context.run(profile: .index(index)) } catch {
      if index > 0, !plan.libraries.isEmpty, error.problems.allSatisfy({ $0.code == "APUS-D-0020" }) { return error }
      throw error
    }
    return nil
  }

  private static func tensor(_ input: Binding, _ sizes: [String: Int], seed: UInt64) throws(RunError) -> HostTensor {
    guard let type = input.type.tensor else {
      throw RunError("APUS-R-0004", "input '\(input.name)' is no tensor", place: "region")
    }
    let shape = type.shape.map { $0.evaluate { sizes[$0] } ?? 0 }
    if let values = input.values {
      return HostTensor(type.dtype, shape, int64s: values.map { Int64($0.evaluate { sizes[$0] } ?? 0) })
    }
    return RandomTensor.make(type.dtype, shape, seed: seed, range: type.dtype.isFloat ? -1...1 : 0...1)
  }

  private static func difference(_ found: [Double], _ expected: [Double]) -> Double {
    var largest = 1e-30
    var difference = 0.0
    for (a, b) in zip(found, expected) where !(a == b || a.isNaN && b.isNaN) {
      largest = max(largest, b.magnitude)
      difference = max(difference, (a - b).magnitude.isNaN ? .infinity : (a - b).magnitude)
    }
    for value in expected where value.isFinite { largest = max(largest, value.magnitude) }
    return difference / largest
  }
}
