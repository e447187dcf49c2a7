import Apus
import ApusCUDADevice
import ApusCompiler
import ApusCore
import ApusGraph
import ApusImport
import ApusOps
import ApusRuntime
import CApusCUDA
import Testing

/// Contexts that share a device: its memory, what the host reaches of it too, and its queues.
@Suite(.serialized) struct SharedDeviceTests {
  private static let isGPU = Backend.underTest.name == Backend.cuda.name

  private static func engine(_ text: String) throws -> Engine {
    var graph = try GraphText.parse(text, catalogue: .standard)
    graph.outputNames = ["y"]
    let model = Model(graph: graph, name: "shared", producer: "", opsets: [:], metadata: [:])
    return try Engine(plans: try build(model, for: .underTest, targets: [Backend.ownTarget]).plans, threads: 2)
  }

  private static let double = "graph(%x: f32[n]) -> (%y) symbols(n: 1...65536) { %y = add(%x, %x) }"

  private static func code(_ body: () throws -> Void) -> String? {
    do {
      try body()
      return nil
    } catch { return (error as? any RoomError)?.problems.first?.code ?? "\(error)" }
  }

  // MARK: Managed memory

  @Test func theHostAndTheDeviceReachManagedMemory() throws {
    let engine = try Self.engine(Self.double)
    let context = try engine.makeContext()
    let count = 50_000
    let (x, y) = (
      try engine.makeManagedBuffer(byteCount: 4 * count), try engine.makeManagedBuffer(byteCount: 4 * count)
    )
    try context.bind(input: "x", to: x, shape: [count])
    try context.bind(output: "y", to: y)
    let (source, result) = (x.base.assumingMemoryBound(to: Float.self), y.base.assumingMemoryBound(to: Float.self))
    for round in 0..<4 {
      for index in 0..<count { source[index] = Float(index + round) }
      context.prefetch(x)
      try context.enqueue()
      context.prefetch(y, toHost: true)
      try context.wait()
      #expect((0..<count).allSatisfy { result[$0] == 2 * Float($0 + round) }, "round \(round)")
    }
  }

  /// Pages that have nowhere to go would stop the device.
  @Test(.enabled(if: isGPU)) func moreManagedMemoryThanIsFreeIsRefused() throws {
    let engine = try Self.engine(Self.double)
    let all = engine.device.memoryByteCount
    #expect(Self.code { _ = try engine.makeManagedBuffer(byteCount: all) } == "APUS-D-0001")
  }

  // MARK: Memory that is not there

  /// The second context asks for more than the first one leaves.
  @Test(.enabled(if: isGPU)) func whereMemoryEndsOtherContextsGoOn() throws {
    let engine = try Self.engine(
      """
      graph(%a: f32[n, 1], %b: f32[1, n], %c: f32[n, 8]) -> (%y) symbols(n: 1...400000) {
        %s = add(%a, %b)
        %p = softmax(%s) {axis: -1}
        %y = matmul(%p, %c)
      }
      """)
    let ones = { (n: Int) in
      [
        "a": RandomTensor.make(.f32, [n, 1], seed: 1), "b": RandomTensor.make(.f32, [1, n], seed: 2),
        "c": HostTensor(.f32, [n, 8], elements: [Float](repeating: 1, count: 8 * n)),
      ]
    }
    // Three fifths of all memory, for the weights of each row.
    let large = Int((0.6 * Double(engine.device.memoryByteCount) / 4).squareRoot())
    let small = 1000
    func isRight(_ context: borrowing ExecutionContext, _ n: Int) throws -> Bool {
      let y = try context.run(inputs: ones(n))["y"]?.tensor
      return y?.shape == [n, 8] && y?.doubles.allSatisfy { abs($0 - 1) < 1e-3 } == true
    }
    let second = try engine.makeContext()
    do {
      let first = try engine.makeContext()
      #expect(try isRight(first, large))
      for _ in 0..<2 {
        let error = #expect(throws: RunError.self) { try second.run(inputs: ones(large)) }
        #expect(error?.problems.map(\.code) == ["APUS-D-0001"])
        #expect(error?.description.contains("bytes cannot be allocated") == true)
        // What could not be had is there for others.
        let other = try Backend.underTest.makeDevice(nil)
        #expect(throws: Never.self) { try other.allocate(byteCount: engine.device.memoryByteCount / 4) }
        #expect(try isRight(second, small))
        #expect(try isRight(first, large))
      }
    }
    #expect(try isRight(second, large))
  }

  // MARK: Queues

  private static let product = """
    graph(%x: f32[2048, 2048]) -> (%y) { %w = constant f32[2048, 2048] random(1) %y = matmul(%x, %w) }
    """

  /// Work of low priority that was queued before does not keep that of high priority waiting to its end.
  @Test(.enabled(if: isGPU)) func highPriorityGoesFirst() throws {
    let engine = try Self.engine(Self.product)
    let x = try engine.makeBuffer(RandomTensor.make(.f32, [2048, 2048], seed: 3))
    let low = try engine.makeContext(priority: .low)
    let high = try engine.makeContext(priority: .high)
    let results = [try engine.makeBuffer(byteCount: 1 << 24), try engine.makeBuffer(byteCount: 1 << 24)]
    try low.bind(input: "x", to: x, shape: [2048, 2048])
    try low.bind(output: "y", to: results[0])
    try high.bind(input: "x", to: x, shape: [2048, 2048])
    try high.bind(output: "y", to: results[1])
    for _ in 0..<3 {
      try low.run()
      try high.run()
    }
    let start = ContinuousClock.now
    for _ in 0..<300 { try low.enqueue() }
    try high.enqueue()
    try high.wait()
    let ahead = ContinuousClock.now - start
    try low.wait()
    let all = ContinuousClock.now - start
    #expect(ahead * 3 < all, "high \(ahead), all \(all)")
    let found = try results.map { try engine.read($0, as: .f32, [2048, 2048]).doubles }
    #expect(found[0] == found[1])
  }

  /// Runs go to a stream of the caller's, in turn with what else is there.
  @Test(.enabled(if: isGPU)) func runsGoToAStreamOfTheCallers() throws {
    let engine = try Self.engine(Self.double)
    let device = try #require(engine.device as? CUDADevice)
    var handle: apus_cuda_stream?
    try #require(apus_cuda_stream_create(&handle, UInt32(APUS_CUDA_STREAM_NON_BLOCKING), 0) == APUS_CUDA_SUCCESS)
    let stream = try #require(handle)
    do {
      let adopted = device.adopt(stream: UnsafeMutableRawPointer(stream))
      let first = try engine.makeContext(stream: adopted)
      let second = try engine.makeContext(stream: adopted)
      let x = RandomTensor.make(.f32, [1000], seed: 5)
      let (between, y) = (try engine.makeBuffer(byteCount: 4000), try engine.makeBuffer(byteCount: 4000))
      try first.bind(input: "x", to: try engine.makeBuffer(x), shape: [1000])
      try first.bind(output: "y", to: between)
      try second.bind(input: "x", to: between, shape: [1000])
      try second.bind(output: "y", to: y)
      for _ in 0..<4 {
        try first.enqueue()
        try second.enqueue()
      }
      #expect(apus_cuda_stream_synchronize(stream) == APUS_CUDA_SUCCESS)
      #expect(try engine.read(y, as: .f32, [1000]).doubles == x.doubles.map { 4 * $0 })
    }
    #expect(apus_cuda_stream_synchronize(stream) == APUS_CUDA_SUCCESS)
    #expect(apus_cuda_stream_destroy(stream) == APUS_CUDA_SUCCESS)
  }
}
