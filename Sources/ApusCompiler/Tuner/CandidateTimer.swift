import ApusCore
import ApusGraph
import ApusPlan
import ApusRuntime

/// Times plans that compute the same on a device, in turns.
///
/// Each is run once first, with its result between guard bytes, and its result is compared. Before each timed run the caches are
/// filled with other bytes, so that weights come from where they come from in the model: from memory, or from the largest cache when
/// all that a run of the model touches fits it. Then the inputs are read once, as what the steps in front have just written. Runs go
/// on until ``Settling`` says that it is known which is the fastest.
struct CandidateTimer {
  /// What came of a plan.
  struct Result {
    /// What the faster runs take; infinite when there were too few.
    var seconds: Double
    var runs: Int
    /// Largest difference from what is expected, relative to the largest element.
    var difference: Double
    /// Whether bytes around the result were written to.
    var writesBeyond = false
    /// Why a library does not compute the plan here; its other figures are none then.
    var refusal: RunError?
  }

  /// What plans are timed with, and until when.
  struct Task {
    /// What the symbols are.
    var sizes: [String: Int]
    /// How long to time, unless it is settled earlier.
    var duration: Duration
    /// The time that there is, whatever is known by then; nil for any.
    var budget: TimeBudget?
    /// What the result must be, from the inputs; nil for what the first plan gives.
    var reference: (([HostTensor]) -> HostTensor?)?
  }

  private let device: any Device
  /// What fills the caches.
  private let filler: DeviceBuffer?
  /// What filling them takes.
  let fillDuration: Duration
  /// Whether what a run of the model touches stays in the largest cache until the next run, so that only smaller ones are filled.
  private let keepsCaches: Bool
  /// How often a plan runs to be timed once.
  var runsEach: Int { keepsCaches ? 2 : 1 }

  /// Elements of a result that are compared.
  private static let compared = 1 << 20
  private static let largestFiller = 128 << 20
  /// Bytes before and behind the result that nothing may write, and what they are.
  private static let guardByteCount = 4096
  private static let guardByte: UInt8 = 0xA5

  /// - Parameter byteCount: what a run of the model touches.
  init(_ device: any Device, beside byteCount: Int) throws(RunError) {
    self.device = device
    let cache = device.identity.cacheByteCount
    keepsCaches = byteCount < cache * 3 / 4
    let byteCount = keepsCaches ? min(byteCount, cache / 4) : min(2 * cache, Self.largestFiller)
    do {
      filler = byteCount == 0 ? nil : try device.allocate(byteCount: byteCount)
      let stream = try device.makeStream()
      // Memory that nobody has written is no memory yet.
      if let filler { stream.fill(filler.base, with: 1, byteCount: filler.byteCount) }
      try stream.synchronize()
      let start = ContinuousClock.now
      if let filler { stream.occupyCaches(with: filler.base, byteCount: filler.byteCount) }
      try stream.synchronize()
      fillDuration = .now - start
    } catch { throw RunError(problems: error.problems) }
  }

  /// Times plans, the first of which is the one that others must agree with where there is no reference.
  ///
  /// - Returns: a result for each plan that there was time for, the first ones.
  func results(of plans: [Plan], _ task: Task) throws -> [Result] {
    let engine = try Engine(plans: plans, device: device)
    let context = try engine.makeContext(captures: false)
    var inputs: [(buffer: DeviceBuffer, byteCount: Int)] = []
    var tensors: [HostTensor] = []
    for (index, input) in plans[0].inputs.enumerated() {
      let tensor = try Self.tensor(input, task.sizes, seed: UInt64(100 + index))
      tensors.append(tensor)
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
    let result = try GuardedResult(engine, type, task.sizes)
    try context.bind(output: output.name, to: result.buffer)
    var results: [Result] = []
    var expected = task.reference?(tensors)?.doubles
    var longest = Duration.zero
    for index in plans.indices {
      // Each takes a run now and those without which nothing can be said of it.
      let needed = (longest + fillDuration) * (1 + (index + 1) * Settling.leastRuns * runsEach)
      if index > 0, task.budget?.affords(needed) == false { break }
      let start = ContinuousClock.now
      defer { longest = max(longest, .now - start) }
      try result.reset()
      if let refusal = try refusal(context, index, plans[index]) {
        results.append(Result(seconds: .infinity, runs: 0, difference: .infinity, refusal: refusal))
        continue
      }
      let found = try result.values()
      if expected == nil { expected = found }
      results.append(
        Result(
          seconds: .infinity, runs: 0, difference: Self.difference(found, expected ?? []),
          writesBeyond: try !result.isIntact()))
    }
    let side = try engine.makeBuffer(byteCount: inputs.map(\.byteCount).max() ?? 0)
    let running = results.indices.filter { results[$0].refusal == nil }
    let times = try rounds(context, plans.count, running, task) { stream in
      if let filler { stream.occupyCaches(with: filler.base, byteCount: filler.byteCount) }
      for input in inputs where input.byteCount <= device.identity.cacheByteCount / 4 {
        stream.copy(from: input.buffer.base, to: side.base, byteCount: input.byteCount)
      }
      stream.rouse()
    }
    for index in running where times[index].count >= Settling.leastRuns {
      results[index].seconds = Settling.Estimate(times[index], share: Settling.share).time
      results[index].runs = times[index].count
    }
    return results
  }

  /// Seconds of the runs of each plan.
  private func rounds(
    _ context: borrowing ExecutionContext, _ count: Int, _ plans: [Int], _ task: Task,
    prepare: (any DeviceStream) -> Void
  ) throws(RunError) -> [[Double]] {
    var times = [[Double]](repeating: [], count: count)
    var running = plans
    let end = ContinuousClock.now + task.duration
    var longest = Duration.zero
    while !running.isEmpty, task.budget?.affords(longest) != false {
      if times[running[0]].count >= Settling.leastRuns, ContinuousClock.now > end { break }
      let start = ContinuousClock.now
      defer { longest = max(longest, .now - start) }
      var marks: [(start: any DeviceMark, end: any DeviceMark)] = []
      for index in running {
        // Where a model fits the caches, so do its weights when a region is run again.
        if keepsCaches { try context.enqueue(profile: .index(index)) }
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
      running = Settling.remaining(running, times)
    }
    return times
  }

  /// The memory of a result, between bytes that nothing may write.
  private struct GuardedResult {
    let buffer: DeviceBuffer
    private let whole: DeviceBuffer
    private let engine: Engine
    private let dtype: DType
    private let count: Int

    init(_ engine: Engine, _ type: TensorType, _ sizes: [String: Int]) throws(RunError) {
      self.engine = engine
      dtype = type.dtype
      let shape = type.shape.map { $0.evaluate { sizes[$0] } ?? 0 }
      let byteCount = shape.reduce(type.dtype.byteCount, saturatingMultiply)
      count = min(shape.reduce(1, saturatingMultiply), compared)
      let whole = try engine.makeBuffer(byteCount: saturatingAdd(byteCount, 2 * guardByteCount))
      self.whole = whole
      buffer = DeviceBuffer(base: whole.base + guardByteCount, byteCount: byteCount) { _ in
        withExtendedLifetime(whole) {}
      }
    }

    /// Makes every byte one that no run has written.
    func reset() throws {
      let stream = try engine.device.makeStream()
      stream.fill(whole.base, with: guardByte, byteCount: whole.byteCount)
      try stream.synchronize()
    }

    func values() throws(RunError) -> [Double] { try engine.read(buffer, as: dtype, [count]).doubles }

    func isIntact() throws(RunError) -> Bool {
      for offset in [0, guardByteCount + buffer.byteCount] {
        let part = DeviceBuffer(base: whole.base + offset, byteCount: guardByteCount) { _ in }
        let bytes = try engine.read(part, as: .u8, [guardByteCount])
        if bytes.withUnsafeBytes({ $0.contains { $0 != guardByte } }) { return false }
      }
      return true
    }
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
