import ApusCPUDevice
import ApusTesting
import Testing

/// Every sample of every operation, compiled to CUDA kernels whose threads this machine's processor plays, agrees with its
/// reference.
@Suite(.serialized) struct EmulatedSampleTests {
  static let device = RemoteDevice(CPUDevice())

  @Test(arguments: SampleGroup.all) func emulatedSamplesAgreeWithTheReference(_ group: SampleGroup) throws {
    let suite = SampleSuite(target: try EmulatedCUDA(threads: 1 << 15), device: Self.device)
    #expect(suite.complaints(group, .optimised) == [])
  }

  @Test(arguments: SampleGroup.all) func elementsOfStripsAgreeWithTheReference(_ group: SampleGroup) throws {
    let suite = SampleSuite(target: try EmulatedCUDA(threads: 0), device: Self.device)
    #expect(suite.complaints(group, .optimised) == [])
  }

  /// Kernels on lanes by chance wait for what they read: whoever computes says rightly what it writes.
  @Test(arguments: SampleGroup.all) func stepsMayTakeAnyOrderOfTheirLanes(_ group: SampleGroup) throws {
    let device = DeferredDevice(Self.device, lanes: .random(seed: 1))
    let suite = SampleSuite(target: try EmulatedCUDA(threads: 1 << 15), device: device)
    #expect(suite.complaints(group, .forked) == [])
  }
}

extension SampleGroup: CustomTestStringConvertible {
  public var testDescription: String { name }
}
