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

/// Every call of a device may fail: nothing leaks, the error says what failed, and what can go on goes on.
@Suite struct FaultTests {
  private static func plans() throws -> [Plan] {
    // A size that a run tells, a branch on data and results of several steps: every kind of call of a device.
    let text = """
      graph(%x: f32[N, 6], %y: f32[N, 6]) -> (%s, %t, %n) symbols(N: 1...9) {
        %s = add(%x, %y) @"sum"
        %t = mul(%s, %x) @"product"
        %n = nonzero(%t) {count: count} @"where"
      }
      """
    var graph = try GraphText.parse(text, catalogue: .standard)
    graph.outputNames = ["s", "t", "n"]
    return try Builder.build(
      graph, name: "faults", targets: [Machine.target()], options: BuildOptions(fuses: false, breaksAtHost: true)
    ).plans
  }

  private static func tensor(_ rows: Int, _ seed: Float) -> HostTensor {
    HostTensor(.f32, [rows, 6], elements: (0..<rows * 6).map { Float($0 % 7) * 0.25 + seed })
  }

  /// Loads, runs with several shapes and memories, and lets go of everything.
  private static func work(_ plans: [Plan], _ device: FaultyDevice) throws {
    let engine = try Engine(plans: plans, device: device, hostOperations: CatalogueHostOperations())
    let context = try engine.makeContext()
    for rows in [4, 4, 4, 4, 9] {
      let (x, y) = (tensor(rows, 1), tensor(rows, 2))
      let results = try context.run(inputs: ["x": x, "y": y])
      #expect(results["s"]?.tensor?.doubles == zip(x.doubles, y.doubles).map { $0 + $1 })
    }
    try context.bind(input: "x", to: try engine.makeBuffer(tensor(4, 1)), shape: [4, 6])
    try context.bind(input: "y", to: try engine.makePinnedBuffer(tensor(4, 2)), shape: [4, 6])
    try context.bind(output: "t", to: try engine.makeBuffer(byteCount: 96))
    for _ in 0..<3 { try context.enqueue() }
    try context.wait()
  }

  private func failure(_ plans: [Plan], _ device: FaultyDevice) -> String? {
    do {
      try Self.work(plans, device)
      return nil
    } catch { return "\(error)" }
  }

  @Test(arguments: [false, true]) func everyCallMayFail(isFatal: Bool) throws {
    let plans = try Self.plans()
    let remote = RemoteDevice(Machine.device)
    let clean = FaultyDevice(remote, failing: nil)
    #expect(failure(plans, clean) == nil)
    #expect(clean.callCount > 100 && clean.liveCount == 0)
    var silent = 0
    for call in 0..<clean.callCount {
      let device = FaultyDevice(remote, failing: call, isFatal: isFatal)
      let message = failure(plans, device)
      let failed = try #require(device.failed, "call \(call) was not made")
      // What is drained while memory is let go has nobody left to tell.
      if message == nil { silent += 1 }
      #expect(message?.contains("\(failed) failed") != false, "call \(call), \(failed): \(message ?? "")")
      #expect(device.liveCount == 0, "call \(call), \(failed): \(device.liveCount) are left")
    }
    #expect(silent < 20, "\(silent) of \(clean.callCount) failures were not told")
    #expect(remote.memoryUse?.byteCount == 0)
  }

  /// A run that fails spoils nothing: the next one is right.
  @Test func aContextGoesOnAfterAFailure() throws {
    let plans = try Self.plans()
    let remote = RemoteDevice(Machine.device)
    for call in 20..<70 {
      let device = FaultyDevice(remote, failing: call)
      guard let engine = try? Engine(plans: plans, device: device, hostOperations: CatalogueHostOperations()),
        let context = Context(engine)
      else { continue }
      for round in 0..<12 {
        let (x, y) = (Self.tensor(4, Float(round)), Self.tensor(4, 2))
        guard let found = context.sum(x, y) else { continue }
        #expect(found == zip(x.doubles, y.doubles).map { $0 + $1 }, "call \(call), round \(round)")
      }
      #expect(context.sum(Self.tensor(4, 1), Self.tensor(4, 2)) != nil, "call \(call)")
    }
  }

  /// Holds a context, which cannot be copied.
  private final class Context {
    private let context: ExecutionContext

    init?(_ engine: Engine) {
      do { context = try engine.makeContext() } catch { return nil }
    }

    func sum(_ x: HostTensor, _ y: HostTensor) -> [Double]? {
      try? context.run(inputs: ["x": x, "y": y])["s"]?.tensor?.doubles
    }
  }

  @Test func aLostDeviceLeavesAContextUnusable() throws {
    let plans = try Self.plans()
    let device = FaultyDevice(RemoteDevice(Machine.device), failing: 60, isFatal: true)
    let engine = try Engine(plans: plans, device: device, hostOperations: CatalogueHostOperations())
    let context = try engine.makeContext()
    let inputs = ["x": Self.tensor(4, 1), "y": Self.tensor(4, 2)]
    var first: String?
    for _ in 0..<40 where first == nil {
      do { _ = try context.run(inputs: inputs) } catch { first = "\(error)" }
    }
    #expect(first?.contains("APUS-D-0016") == true)
    #expect(first?.contains("step") == true || first?.contains("plan") == true || first?.contains("piece") == true)
    for _ in 0..<2 {
      let later = #expect(throws: RunError.self) { try context.run(inputs: inputs) }
      #expect(later?.problems.first?.code == "APUS-R-0027")
      #expect(later?.description.contains("APUS-D-0016") == true)
    }
    #expect(throws: RunError.self) { try context.wait() }
  }
}
