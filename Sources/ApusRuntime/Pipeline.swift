public import ApusCore
import ApusPlan

/// Runs a model on batch after batch of one shape: while one is computed, the next is copied to the device and the one before
/// from it, on three streams.
///
///     let pipeline = try Pipeline(engine, shapes: ["x": [32, 3, 224, 224]]) { batch in use(batch.output("y")) }
///     for images in batches { try pipeline.submit { batch in batch.input("x").copyMemory(from: images) } }
///     try pipeline.finish()
///
/// Used by one thread at a time. Batches are independent of each other.
public final class Pipeline {
  private let lanes: [PipelineLane]
  private let uploads: any DeviceStream
  private let compute: any DeviceStream
  private let downloads: any DeviceStream
  private let profile: ProfileSelection
  private let receive: (PipelineBatch) -> Void
  private let timeLimit: Duration?
  /// Batches that were submitted, and those whose results were handed on.
  private var submitted = 0
  private var received = 0

  /// Allocates everything that batches of these shapes need; inputs of one shape may be left out.
  ///
  /// - Parameters:
  ///   - depth: how many batches are under way at once; with fewer than three something waits.
  ///   - timeLimit: the longest to wait for a batch.
  ///   - receive: gets each batch when its results are there, in order, within ``submit(_:)`` and ``finish()``.
  /// - Throws: ``RunError`` when a shape does not fit, or `APUS-R-0028` when the model has inputs or outputs without a size that
  ///   is known before it runs, or whose elements decide sizes.
  public init(
    _ engine: Engine, shapes: [String: [Int]], profile: ProfileSelection = .index(0), depth: Int = 3,
    priority: StreamPriority = .normal, timeLimit: Duration? = nil, receive: @escaping (PipelineBatch) -> Void
  ) throws(RunError) {
    let program = engine.variants[try engine.index(of: profile)].program
    let forecast = try MemoryForecast.bound(program, shapes: shapes, values: [:])
    try Self.check(program, forecast, shapes)
    self.profile = profile
    self.receive = receive
    self.timeLimit = timeLimit
    func makeStream() throws(RunError) -> any DeviceStream {
      let stream = try RunError.of { () throws(DeviceError) in try engine.device.makeStream(priority: priority) }
      stream.timeLimit = timeLimit
      return stream
    }
    (uploads, compute, downloads) = (try makeStream(), try makeStream(), try makeStream())
    // Batches are computed one after the other, so that all share one workspace.
    let workspace = try engine.makeBuffer(byteCount: forecast.need.byteCount(threads: engine.device.scratchCount))
    var lanes: [PipelineLane] = []
    for _ in 0..<max(depth, 1) {
      lanes.append(try PipelineLane(engine, program, forecast, shapes, workspace, compute))
    }
    self.lanes = lanes
  }

  private static func check(_ program: Program, _ bound: BoundPlan, _ shapes: [String: [Int]]) throws(RunError) {
    var problems: [Diagnostic] = []
    func add(_ kind: String, _ binding: Binding, _ reason: String) {
      problems.append(
        Diagnostic(
          "APUS-R-0028", "\(reason), so batches of it cannot be pipelined", place: "\(kind) '\(binding.name)'",
          hint: "Run the model with a context instead."))
    }
    for input in program.plan.inputs {
      if input.holdsObject { add("input", input, "it is no tensor of numbers") }
      if input.values != nil { add("input", input, "its elements decide sizes") }
    }
    for filling in program.fillings {
      for input in filling.inputs.map({ program.plan.inputs[$0] }) {
        guard let rows = shapes[input.name]?.first, !filling.steps.contains(rows) else { continue }
        add("input", input, "its \(rows) rows are filled up to another size")
      }
    }
    for output in program.plan.outputs {
      if output.holdsObject {
        add("output", output, "it is no tensor of numbers")
      } else if bound.byteCounts[output.slot] < 0 {
        add("output", output, "only a run tells its size")
      }
    }
    if !problems.isEmpty { throw RunError(problems: problems) }
  }

  deinit {
    for stream in [uploads, compute, downloads] { stream.drain() }
    // What may never end goes on using its memory.
    if [uploads, compute, downloads].contains(where: \.isGivenUp) {
      for lane in lanes { _ = Unmanaged.passRetained(lane) }
    }
  }

  // MARK: Batches

  /// Has `fill` write a batch's inputs, and queues it. Waits for the oldest batch when too many are under way.
  ///
  /// - Throws: what `fill` throws, or ``RunError`` naming the batch that failed.
  public func submit(_ fill: (PipelineBatch) throws -> Void) throws {
    let lane = lanes[submitted % lanes.count]
    if submitted - received == lanes.count { try deliver() }
    lane.batch.number = submitted
    try fill(lane.batch)
    do { try start(lane) } catch { throw error.at("batch \(submitted)") }
    submitted += 1
  }

  /// Waits for all batches that are under way.
  public func finish() throws(RunError) { while received < submitted { try deliver() } }

  private func deliver() throws(RunError) {
    let lane = lanes[received % lanes.count]
    received += 1
    do { try lane.downloaded?.wait(limit: timeLimit) } catch {
      throw RunError(device: error).at("batch \(lane.batch.number)")
    }
    receive(lane.batch)
  }

  private func start(_ lane: PipelineLane) throws(RunError) {
    lane.upload(on: uploads)
    try RunError.of { () throws(DeviceError) in
      let uploaded = try uploads.record(lane.uploaded)
      lane.uploaded = uploaded
      compute.wait(for: uploaded)
    }
    try lane.context.enqueue(profile: profile)
    try RunError.of { () throws(DeviceError) in
      let computed = try compute.record(lane.computed)
      lane.computed = computed
      downloads.wait(for: computed)
      lane.download(on: downloads)
      lane.downloaded = try downloads.record(lane.downloaded)
      try uploads.check()
      try compute.check()
      try downloads.check()
    }
  }

  // MARK: Stages

  /// Seconds that each part of a batch takes by itself, back to back.
  package func stageSeconds(rounds: Int) throws(RunError) -> (upload: Double, compute: Double, download: Double) {
    try finish()
    func time(_ stream: any DeviceStream, _ work: (PipelineLane) throws(RunError) -> Void) throws(RunError) -> Double {
      // Launches are recorded in the first rounds.
      for lane in lanes + lanes { try work(lane) }
      let start = try RunError.of { () throws(DeviceError) in
        try stream.synchronize()
        return try stream.mark()
      }
      for round in 0..<rounds { try work(lanes[round % lanes.count]) }
      return try RunError.of { () throws(DeviceError) in
        let end = try stream.mark()
        try stream.synchronize()
        return try end.seconds(since: start) / Double(max(rounds, 1))
      }
    }
    let upload = try time(uploads) { lane in lane.upload(on: uploads) }
    let computing = try time(compute) { (lane) throws(RunError) in try lane.context.enqueue(profile: profile) }
    let download = try time(downloads) { lane in lane.download(on: downloads) }
    return (upload, computing, download)
  }
}

/// A batch on its way through a ``Pipeline``: its inputs while it is filled, its outputs when it is received.
public final class PipelineBatch {
  /// Counts the batches of the pipeline, from 0.
  public internal(set) var number = 0
  private let inputs: [(name: String, buffer: PinnedBuffer)]
  private let outputs: [(name: String, dtype: DType, shape: [Int], buffer: PinnedBuffer)]

  init(
    _ inputs: [(name: String, buffer: PinnedBuffer)],
    _ outputs: [(name: String, dtype: DType, shape: [Int], buffer: PinnedBuffer)]
  ) {
    self.inputs = inputs
    self.outputs = outputs
  }

  /// The bytes of an input, in pinned memory; none for a name that the model does not have.
  public func input(_ name: String) -> UnsafeMutableRawBufferPointer {
    inputs.first { $0.name == name }?.buffer.bytes ?? UnsafeMutableRawBufferPointer(start: nil, count: 0)
  }

  /// The bytes of an output, valid until the next batch is submitted.
  public func output(_ name: String) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(
      outputs.first { $0.name == name }?.buffer.bytes ?? UnsafeMutableRawBufferPointer(start: nil, count: 0))
  }

  /// An output as a tensor that stays as it is.
  ///
  /// - Throws: ``RunError`` `APUS-R-0002` for a name that the model does not have.
  public func tensor(_ name: String) throws(RunError) -> HostTensor {
    guard let output = outputs.first(where: { $0.name == name }) else {
      throw RunError("APUS-R-0002", "the model has no such output", place: "output '\(name)'")
    }
    return try output.buffer.read(as: output.dtype, output.shape)
  }
}

/// What one batch at a time uses: memory on both sides, and a context that is bound to it.
final class PipelineLane {
  let context: ExecutionContext
  let batch: PipelineBatch
  var uploaded: (any DeviceEvent)?
  var computed: (any DeviceEvent)?
  var downloaded: (any DeviceEvent)?
  private let workspace: DeviceBuffer
  private let inputs: [(host: PinnedBuffer, device: DeviceBuffer)]
  private let outputs: [(host: PinnedBuffer, device: DeviceBuffer)]

  init(
    _ engine: Engine, _ program: Program, _ bound: BoundPlan, _ shapes: [String: [Int]], _ workspace: DeviceBuffer,
    _ compute: any DeviceStream
  ) throws(RunError) {
    self.workspace = workspace
    let plan = program.plan
    func sides(_ binding: Binding) throws(RunError) -> (host: PinnedBuffer, device: DeviceBuffer) {
      let byteCount = bound.byteCounts[binding.slot]
      return (try engine.makePinnedBuffer(byteCount: byteCount), try engine.makeBuffer(byteCount: byteCount))
    }
    var inputs: [(host: PinnedBuffer, device: DeviceBuffer)] = []
    for input in plan.inputs { inputs.append(try sides(input)) }
    var outputs: [(host: PinnedBuffer, device: DeviceBuffer)] = []
    for output in plan.outputs { outputs.append(try sides(output)) }
    let context = try engine.makeContext(memory: .userManaged, stream: compute)
    try context.use(workspace: UnsafeMutableRawBufferPointer(start: workspace.base, count: workspace.byteCount))
    for (input, memory) in zip(plan.inputs, inputs) {
      let shape = shapes[input.name] ?? input.type.tensor?.constantShape ?? []
      try context.bind(input: input.name, to: memory.device, shape: shape)
    }
    for (output, memory) in zip(plan.outputs, outputs) { try context.bind(output: output.name, to: memory.device) }
    self.inputs = inputs
    self.outputs = outputs
    self.context = context
    batch = PipelineBatch(
      zip(plan.inputs, inputs).map { ($0.name, $1.host) },
      zip(plan.outputs, outputs).map { output, memory in
        let slot = program.slots[output.slot]
        return (output.name, slot.dtype, slot.shape.map { bound.values[$0] }, memory.host)
      })
  }

  func upload(on stream: any DeviceStream) {
    for (host, device) in inputs where host.bytes.count > 0 {
      if let from = host.bytes.baseAddress {
        stream.upload(from: from, to: device.base, byteCount: host.bytes.count)
      }
    }
  }

  func download(on stream: any DeviceStream) {
    for (host, device) in outputs where host.bytes.count > 0 {
      if let to = host.bytes.baseAddress {
        stream.download(from: device.base, to: to, byteCount: host.bytes.count)
      }
    }
  }
}
