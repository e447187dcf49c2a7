import Apus
import ApusCPUDevice
import ApusCompiler
import ApusCore
import ApusGraph
import ApusOps
import ApusPlan
import ApusRuntime
import ApusTesting
import Synchronization
import Testing

/// Pipelines, completions and streams on a device that does everything as late as it may.
@Suite struct PipelineTests {
  private static func engine(
    _ text: String =
      "graph(%x: f32[N, 6], %y: f32[N, 6]) -> (%s, %t) symbols(N: 1...9) { %s = add(%x, %y) %t = mul(%s, %x) }",
    _ outputs: [String] = ["s", "t"]
  ) throws -> Engine {
    var graph = try GraphText.parse(text, catalogue: .standard)
    graph.outputNames = outputs
    let plans = try Builder.build(
      graph, name: "sums", targets: [Machine.target()], options: BuildOptions(fuses: false)
    ).plans
    return try Engine(
      plans: plans, device: DeferredDevice(RemoteDevice(Machine.device)), hostOperations: CatalogueHostOperations())
  }

  private static func tensor(_ rows: Int, _ seed: Float) -> HostTensor {
    HostTensor(.f32, [rows, 6], elements: (0..<rows * 6).map { Float($0 % 7) * 0.25 + seed })
  }

  private static func fill(_ batch: PipelineBatch, _ x: HostTensor, _ y: HostTensor) {
    x.withUnsafeBytes { batch.input("x").copyMemory(from: $0) }
    y.withUnsafeBytes { batch.input("y").copyMemory(from: $0) }
  }

  @Test(arguments: [1, 2, 3, 5]) func batchesComeInOrderWithTheirOwnResults(depth: Int) throws {
    let shapes = ["x": [4, 6], "y": [4, 6]]
    var found: [(number: Int, sum: [Double], product: [Double])] = []
    let pipeline = try Pipeline(try Self.engine(), shapes: shapes, depth: depth) { batch in
      guard let sum = try? batch.tensor("s"), let product = try? batch.tensor("t") else { return }
      found.append((batch.number, sum.doubles, product.doubles))
    }
    for round in 0..<3 {
      for batch in 0..<7 {
        let seed = Float(7 * round + batch)
        try pipeline.submit { Self.fill($0, Self.tensor(4, seed), Self.tensor(4, 2)) }
      }
      try pipeline.finish()
      #expect(found.count == 7 * (round + 1))
    }
    for (index, batch) in found.enumerated() {
      let x = Self.tensor(4, Float(index)).doubles
      let sum = zip(x, Self.tensor(4, 2).doubles).map { $0 + $1 }
      #expect(batch.number == index && batch.sum == sum && batch.product == zip(sum, x).map { $0 * $1 })
    }
    let stages = try pipeline.stageSeconds(rounds: 3)
    #expect(stages.upload >= 0 && stages.compute >= 0 && stages.download >= 0)
  }

  @Test func aBatchThatIsNotFilledIsNotQueued() throws {
    var received: [Int] = []
    let pipeline = try Pipeline(try Self.engine(), shapes: ["x": [1, 6], "y": [1, 6]]) { received.append($0.number) }
    struct Stop: Error {}
    #expect(throws: Stop.self) { try pipeline.submit { _ in throw Stop() } }
    try pipeline.submit { batch in
      #expect(batch.input("z").isEmpty && batch.input("x").count == 24)
      Self.fill(batch, Self.tensor(1, 1), Self.tensor(1, 2))
    }
    try pipeline.finish()
    #expect(received == [0])
  }

  @Test func whatCannotBePipelinedIsRefused() throws {
    let late = try Self.engine(
      "graph(%x: f32[4]) -> (%n) { %n = nonzero(%x) {count: count} }", ["n"])
    let error = #expect(throws: RunError.self) { try Pipeline(late, shapes: [:]) { _ in } }
    #expect(error?.problems.map(\.code) == ["APUS-R-0028"] && error?.problems.first?.place == "output 'n'")
    #expect(throws: RunError.self) { try Pipeline(try Self.engine(), shapes: ["x": [4, 6]]) { _ in } }
  }

  @Test func completionsComeInOrderOnceResultsAreThere() throws {
    let engine = try Self.engine()
    let context = try engine.makeContext()
    let y = Self.tensor(4, 2)
    try context.bind(input: "y", to: y)
    let seen = Mutex<[(Int, [Double])]>([])
    var buffers: [PinnedBuffer] = []
    for run in 0..<6 {
      let result = try engine.makePinnedBuffer(byteCount: 96)
      buffers.append(result)
      try context.bind(input: "x", to: try engine.makePinnedBuffer(Self.tensor(4, Float(run))), shape: [4, 6])
      try context.bind(output: "s", to: result)
      try context.enqueue { outcome in
        let sum = (try? result.read(as: .f32, [4, 6]))?.doubles ?? []
        if case .success = outcome { seen.withLock { $0.append((run, sum)) } }
      }
      // The input's memory may go once the run is done.
      try context.wait()
    }
    let last = Mutex(false)
    try context.enqueue { _ in last.withLock { $0 = true } }
    while !last.withLock({ $0 }) {}
    #expect(seen.withLock { $0.map(\.0) } == Array(0..<6))
    for (run, sum) in seen.withLock({ $0 }) {
      #expect(sum == zip(Self.tensor(4, Float(run)).doubles, y.doubles).map { $0 + $1 })
    }
  }

  @Test func runsAreAwaited() async throws {
    let engine = try Self.engine()
    let context = try engine.makeContext()
    let result = try engine.makePinnedBuffer(byteCount: 96)
    try context.bind(input: "x", to: Self.tensor(4, 1))
    try context.bind(input: "y", to: Self.tensor(4, 2))
    try context.bind(output: "s", to: result)
    for _ in 0..<3 {
      try context.enqueue()
      try await context.finished()
      #expect(
        try result.read(as: .f32, [4, 6]).doubles
          == zip(Self.tensor(4, 1).doubles, Self.tensor(4, 2).doubles).map { $0 + $1 })
    }
  }

  /// Contexts that share the caller's stream run one after the other, also where one reads what the other writes.
  @Test func contextsShareAStream() throws {
    let engine = try Self.engine()
    let stream = try engine.device.makeStream(priority: .high)
    let first = try engine.makeContext(stream: stream)
    let second = try engine.makeContext(stream: stream)
    let (x, y) = (Self.tensor(4, 1), Self.tensor(4, 2))
    let between = try engine.makeBuffer(byteCount: 96)
    let result = try engine.makePinnedBuffer(byteCount: 96)
    try first.bind(input: "x", to: x)
    try first.bind(input: "y", to: y)
    try first.bind(output: "s", to: between)
    try second.bind(input: "x", to: between, shape: [4, 6])
    try second.bind(input: "y", to: y)
    try second.bind(output: "s", to: result)
    for _ in 0..<3 {
      try first.enqueue()
      try second.enqueue()
    }
    try second.wait()
    #expect(try result.read(as: .f32, [4, 6]).doubles == zip(x.doubles, y.doubles).map { $0 + 2 * $1 })
  }

  @Test func managedMemoryIsTheDevicesToOffer() throws {
    let engine = try Self.engine()
    #expect(throws: RunError.self) { try engine.makeManagedBuffer(byteCount: 64) }
    let host = try Engine(plans: engine.plans, device: Machine.device)
    #expect(try host.makeManagedBuffer(byteCount: 64).byteCount == 64)
  }
}
