import ApusCore
import ApusRuntime
import Testing

@testable import ApusCPUDevice

/// The ceilings of this machine, and where steps stand below them.
@Suite struct CeilingTests {
  @Test func ceilingsAreMeasured() throws {
    let ceilings = try #require(try CPUDevice(threads: 2).ceilings())
    let operations = ceilings.operations(on: .f32)
    #expect(operations > 1e9 && operations < 1e14, "\(operations)")
    #expect(ceilings.bytesPerSecond > 1e8 && ceilings.bytesPerSecond < 1e13, "\(ceilings.bytesPerSecond)")
    #expect(ceilings.launchSeconds > 0 && ceilings.launchSeconds < 1e-3 && ceilings.isComputeMeasured)
    #expect(ceilings.operations(on: .i8) == operations && ceilings.operations(on: nil) == operations)
  }

  private static let ceilings = DeviceCeilings(
    operationsPerSecond: [.f32: 100e9, .f16: 200e9], bytesPerSecond: 10e9, launchSeconds: 1e-6, isComputeMeasured: true)

  private static func position(
    _ work: Int, _ traffic: Int, _ seconds: Double, _ dtype: DType = .f32
  ) -> RooflinePosition {
    RooflinePosition(work: work, traffic: traffic, dtype: dtype, seconds: seconds, ceilings)
  }

  @Test func whatTakesLongestBounds() {
    let compute = Self.position(100_000_000, 1_000_000, 2e-3)
    #expect(compute.bound == .compute && abs(compute.share - 0.5) < 1e-9 && abs(compute.gain - 1e-3) < 1e-9)
    #expect(abs(Self.position(100_000_000, 1_000_000, 2e-3, .f16).share - 0.25) < 1e-9)
    let memory = Self.position(1_000_000, 10_000_000, 4e-3)
    #expect(memory.bound == .memory && abs(memory.share - 0.25) < 1e-9 && abs(memory.gain - 3e-3) < 1e-9)
    let launch = Self.position(1000, 1000, 3e-6)
    #expect(launch.bound == .launch && launch.share < 0.1 && abs(launch.gain - 2e-6) < 1e-12)
    // Operands in a cache: nothing is to be saved.
    #expect(Self.position(0, 10_000_000, 5e-4).share == 2 && Self.position(0, 10_000_000, 5e-4).gain == 0)
  }
}
