import Apus
import ApusRuntime

/// Rounds of building (where the file is a model), loading, running and freeing, with the device's memory before and after.
struct ReloadMeasurement {
  private let rounds: Measurement
  /// Bytes of the device's memory that the process holds after the first rounds and after the last; nil where the device's memory
  /// is the host's.
  private let before: Int?
  private let after: Int?

  /// - Parameter kept: a session that keeps the device open.
  init(
    _ kept: Session, count: Int, seed: UInt64, _ profile: ProfileSelection?, _ progress: ProgressBar,
    load: () throws -> Session
  ) throws {
    func round() throws {
      let session = try load()
      let inputs = try InputValues(files: [], seed: seed, session: session)
      let context = try session.engine.makeContext()
      for input in inputs.entries { try context.bind(input: input.name, to: input.value) }
      // Twice to record launches, and once from the recording.
      for _ in 0..<3 { try context.run(profile: profile) }
    }
    func held() -> Int? { kept.engine.device.memoryUse.map { $0.byteCount + $0.driverByteCount } }
    // The driver keeps something of the first.
    for _ in 0..<3 { try round() }
    before = held()
    var times: [Duration] = []
    let start = ContinuousClock.now
    for number in 0..<count {
      let began = ContinuousClock.now
      try round()
      times.append(ContinuousClock.now - began)
      progress.update("rounds", number, of: count)
    }
    rounds = Measurement(latencies: times, total: ContinuousClock.now - start)
    after = held()
  }

  var text: String {
    var lines = [
      "\(rounds.count) rounds of build or load, run and free: median \(Units.fixed(rounds.median, 2)) ms, "
        + "max \(Units.fixed(rounds.percentile(1), 2)) ms"
    ]
    if let before, let after {
      lines.append("device memory: \(before) bytes before, \(after) after: \(after - before) left taken")
    }
    return lines.joined(separator: "\n")
  }

  var json: JSON {
    .object([
      ("rounds", .int(rounds.count)), ("round_ms", .object(rounds.summary.map { ($0.name, .number($0.value)) })),
      ("before_bytes", before.map { .int($0) } ?? .null), ("after_bytes", after.map { .int($0) } ?? .null),
    ])
  }
}
