import ApusCore
import ApusPlan
import Testing

@testable import ApusRuntime

/// Which of an engine's targets a device takes.
@Suite struct TargetChoiceTests {
  /// A device that runs targets by a table; every other is refused.
  private final class TableDevice: Device {
    let table: [String: Int]
    private let inner = NullDevice()

    init(_ table: [String: Int]) { self.table = table }

    let name = "table"
    let identity = DeviceIdentity(target: "t9", model: "table", driver: "", cacheByteCount: 0)
    let sharesHostMemory = true
    let memoryByteCount = Int.max
    let scratchCount = 1

    func suitability(of fingerprint: Fingerprint) throws(EngineFileError) -> Int {
      if let number = table[fingerprint.target] { return number }
      throw EngineFileError("APUS-E-0012", "the engine is for \(fingerprint.target), this is t9")
    }
    func allocate(byteCount: Int) throws(DeviceError) -> DeviceBuffer { try inner.allocate(byteCount: byteCount) }
    func place(constants: UnsafeRawBufferPointer) throws(DeviceError) -> DeviceBuffer? { nil }
    func load(_ image: KernelImage) throws(DeviceError) -> any DeviceImage { try inner.load(image) }
    func makeStream(priority: StreamPriority) throws(DeviceError) -> any DeviceStream {
      try inner.makeStream(priority: priority)
    }
  }

  private static func plans(_ targets: [String], profiles: [String] = ["a", "b"]) -> [Plan] {
    targets.flatMap { target in
      profiles.map { profile in
        var maker = PlanMaker()
        maker.plan.fingerprint = Fingerprint(backend: "cpu", target: target, features: [])
        maker.plan.profile = Profile(name: profile, ranges: [])
        _ = maker.input("x", .f32, [4])
        return maker.finish()
      }
    }
  }

  @Test func theMostSuitableTargetRuns() throws {
    let plans = Self.plans(["t1", "t2", "t3"])
    let device = TableDevice(["t1": 1, "t2": 5])
    let engine = try Engine(plans: plans, device: device)
    #expect(engine.plans.map(\.fingerprint.target) == ["t2", "t2"] && engine.profiles.map(\.name) == ["a", "b"])
    let only = try Engine(plans: plans, device: TableDevice(["t3": 0]))
    #expect(only.plans[0].fingerprint.target == "t3")
  }

  @Test func refusalsNameBothSides() {
    func refusal(_ targets: [String]) -> String {
      do {
        _ = try Engine(plans: Self.plans(targets), device: TableDevice([:]))
        return ""
      } catch { return "\(error)" }
    }
    let several = refusal(["t1", "t2"])
    #expect(several.hasPrefix("APUS-E-0012"))
    for text in ["for t1, t2", "table is t9", "--target t9"] { #expect(several.contains(text), "\(several)") }
    #expect(refusal(["t1"]).contains("the engine is for t1, this is t9"))
  }

  @Test func targetsHaveTheSameProfiles() {
    let plans = Self.plans(["t1"]) + Self.plans(["t2"], profiles: ["a"])
    #expect(problems { try Plan.validate(plans) } == ["APUS-E-0008 plans"])
    #expect(problems { try Plan.validate(Self.plans(["t1", "t2"])) } == [])
    #expect(problems { try Plan.validate(Self.plans(["t1"], profiles: ["a", "a"])) } == ["APUS-E-0008 plans"])
  }
}
