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
