import Apus
import ApusCore
import ApusRuntime

/// Batches through a pipeline, beside what each of its parts takes alone: none can be faster than its slowest part.
struct PipelineMeasurement {
  private let depth: Int
  private let stages: (upload: Double, compute: Double, download: Double)
  /// Seconds of a batch when many go through.
  private let seconds: Double
  private let count: Int

  /// - Parameters:
  ///   - runs: batches to measure; nil for what fits the seconds.
  init(
    _ engine: Engine, _ inputs: [InputValues.Entry], _ profile: ProfileSelection, depth: Int, seconds: Double,
    runs: Int?
  ) throws {
    self.depth = depth
    var shapes: [String: [Int]] = [:]
    for input in inputs { shapes[input.name] = input.value.tensor?.shape }
    let pipeline = try Pipeline(engine, shapes: shapes, profile: profile, depth: depth) { _ in }
    func fill(_ batch: PipelineBatch) {
      for input in inputs { input.value.tensor?.withUnsafeBytes { batch.input(input.name).copyMemory(from: $0) } }
    }
    // Every lane has its inputs from the first rounds, and has recorded its launches after the second.
    for _ in 0..<3 * depth { try pipeline.submit(fill) }
    stages = try pipeline.stageSeconds(rounds: runs ?? 32)
    let start = ContinuousClock.now
    var count = 0
    repeat {
      try pipeline.submit { _ in }
      count += 1
    } while runs.map({ count < $0 }) ?? (ContinuousClock.now - start < .seconds(seconds))
    try pipeline.finish()
    self.seconds = (ContinuousClock.now - start) / .seconds(1) / Double(count)
    self.count = count
  }

  private var slowest: Double { max(stages.upload, stages.compute, stages.download) }

  var text: String {
    func milliseconds(_ seconds: Double) -> String { Units.fixed(1000 * seconds, 4) }
    let sum = stages.upload + stages.compute + stages.download
    return [
      "\(count) batches, \(depth) under way: \(milliseconds(seconds)) ms each, \(Units.fixed(1 / seconds, 1)) per second",
      "alone: to the device \(milliseconds(stages.upload)), computing \(milliseconds(stages.compute)), "
        + "from the device \(milliseconds(stages.download)) ms; together \(milliseconds(sum)) ms",
      "overlap: \(Units.fixed(100 * slowest / seconds, 1)) % of the slowest part's bound",
    ].joined(separator: "\n")
  }

  var json: JSON {
    .object([
      ("batches", .int(count)), ("depth", .int(depth)), ("batch_ms", .number(1000 * seconds)),
      ("upload_ms", .number(1000 * stages.upload)), ("compute_ms", .number(1000 * stages.compute)),
      ("download_ms", .number(1000 * stages.download)), ("share_of_bound", .number(slowest / seconds)),
    ])
  }
}
