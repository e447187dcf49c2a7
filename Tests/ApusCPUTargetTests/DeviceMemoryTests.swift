import ApusCPUDevice
import ApusCompiler
import ApusCore
import ApusGraph
import ApusOps
import ApusPlan
import ApusRuntime
import ApusTesting
import Testing

/// Inputs and outputs in the device's memory, and runs that are queued.
@Suite struct DeviceMemoryTests {
  private static func engine() throws -> Engine {
    var graph = try GraphText.parse(
      "graph(%x: f32[N, 6], %y: f32[N, 6]) -> (%s, %t) symbols(N: 1...9) { %s = add(%x, %y) %t = mul(%s, %x) }",
      catalogue: .standard)
    graph.outputNames = ["s", "t"]
    let plans = try Builder.build(
      graph, name: "sums", targets: [Machine.target()], options: BuildOptions(fuses: false)
    ).plans
    return try Engine(plans: plans, device: RemoteDevice(Machine.device))
  }

  private func tensor(_ rows: Int, _ seed: Float) -> HostTensor {
    HostTensor(.f32, [rows, 6], elements: (0..<rows * 6).map { Float($0 % 7) * 0.25 + seed })
  }

  @Test func queuedRunsUseMemoryOfTheDevice() throws {
    let engine = try Self.engine()
    let context = try engine.makeContext()
    for (rows, seed) in [(4, Float(1)), (4, 2), (4, 3), (4, 4), (9, 5), (1, 6), (4, 7)] {
      let (x, y) = (tensor(rows, seed), tensor(rows, -0.5 * seed))
      let result = try engine.makeBuffer(byteCount: rows * 24)
      try context.bind(input: "x", to: try engine.makeBuffer(x), shape: x.shape)
      try context.bind(input: "y", to: y)
      try context.bind(output: "t", to: result)
      for _ in 0..<3 { try context.enqueue() }
      try context.wait()
      let sum = zip(x.doubles, y.doubles).map { $0 + $1 }
      let product = zip(sum, x.doubles).map { $0 * $1 }
      #expect(try engine.read(result, as: .f32, [rows, 6]).doubles == product)
      #expect(try context.output("s").tensor?.doubles == sum)
      // The result stays where it is.
      #expect(throws: RunError.self) { try context.output("t") }
    }
  }

  @Test func queuedRunsUsePinnedMemory() throws {
    let engine = try Self.engine()
    let context = try engine.makeContext()
    let (x, y) = (tensor(4, 1), tensor(4, 2))
    let input = try engine.makePinnedBuffer(x)
    let result = try engine.makePinnedBuffer(byteCount: x.byteCount)
    try context.bind(input: "x", to: input, shape: x.shape)
    try context.bind(input: "y", to: y)
    try context.bind(output: "t", to: result)
    for round in 0..<5 {
      let next = tensor(4, Float(round))
      next.withUnsafeBytes { input.bytes.copyMemory(from: $0) }
      try context.enqueue()
      try context.wait()
      let product = zip(next.doubles, y.doubles).map { ($0 + $1) * $0 }
      #expect(try result.read(as: .f32, [4, 6]).doubles == product)
    }
    #expect(throws: RunError.self) { try result.read(as: .f32, [5, 6]) }
    try context.unbind(output: "t")
    try context.run()
    #expect(try context.output("t").tensor?.shape == [4, 6])
  }

  /// What a caller keeps of a run does not change in later ones, which need no preparation.
  @Test func resultsThatAreKeptStayAsTheyAre() throws {
    let engine = try Self.engine()
    let context = try engine.makeContext()
    let input = try engine.makePinnedBuffer(tensor(4, 0))
    try context.bind(input: "x", to: input, shape: [4, 6])
    try context.bind(input: "y", to: tensor(4, 2))
    var kept: [HostTensor] = []
    for round in 0..<6 {
      tensor(4, Float(round)).withUnsafeBytes { input.bytes.copyMemory(from: $0) }
      try context.run()
      kept.append(try #require(try context.output("s").tensor))
    }
    for (round, result) in kept.enumerated() {
      #expect(result.doubles == zip(tensor(4, Float(round)).doubles, tensor(4, 2).doubles).map { $0 + $1 })
    }
  }

  /// What is bound, what is asked for and who times may change between any two runs.
  @Test func changesBetweenRunsAreSeen() throws {
    let engine = try Self.engine()
    let context = try engine.makeContext()
    try context.bind(input: "y", to: tensor(4, 2))
    for (rows, seed) in [(4, Float(1)), (4, 1), (4, 2), (9, 2), (9, 3), (4, 3)] {
      try context.bind(input: "y", to: tensor(rows, 2))
      try context.bind(input: "x", to: tensor(rows, seed))
      for round in 0..<3 {
        context.time(with: round == 1 ? LayerProfiler(plan: engine.plans[0]) : nil)
        try context.run()
        let sum = zip(tensor(rows, seed).doubles, tensor(rows, 2).doubles).map { $0 + $1 }
        #expect(try context.output("s").tensor?.doubles == sum)
      }
    }
    #expect(throws: RunError.self) { try context.run(profile: 1) }
    try context.run()
  }

  @Test func theForecastIsWhatARunTakes() throws {
    for rows in [1, 9] {
      let engine = try Self.engine()
      let context = try engine.makeContext()
      let inputs = ["x": tensor(rows, 1), "y": tensor(rows, 2)]
      for _ in 0..<3 { _ = try context.run(inputs: inputs) }
      let use = try #require(engine.device.memoryUse)
      let forecast = try engine.memoryForecast(shapes: inputs.mapValues(\.shape))
      // Code is the host's here; each context has a few bytes for empty tensors, and none takes less than 64.
      #expect(abs(use.peakByteCount - (forecast.deviceByteCount - forecast.driverByteCount)) <= 256)
    }
  }

  @Test func memoryThatIsTooSmallIsRefused() throws {
    let engine = try Self.engine()
    let context = try engine.makeContext()
    let small = try engine.makeBuffer(byteCount: 64)
    #expect(throws: RunError.self) { try context.bind(input: "x", to: small, shape: [4, 6]) }
    try context.bind(input: "x", to: tensor(4, 1))
    try context.bind(input: "y", to: tensor(4, 2))
    try context.bind(output: "t", to: small)
    #expect(throws: RunError.self) { try context.run() }
    #expect(throws: RunError.self) { try engine.read(small, as: .f32, [4, 6]) }
  }
}
