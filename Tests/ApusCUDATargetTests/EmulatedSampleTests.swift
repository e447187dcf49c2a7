import ApusCPUDevice
import ApusTesting
import Testing

/// Every sample of every operation, compiled to CUDA kernels whose threads this machine's processor plays, agrees with its
/// reference.
@Suite(.serialized) struct EmulatedSampleTests {
  static let device = RemoteDevice(CPUDevice())

  @Test(arguments: SampleGroup.all, [GraphRunner.Form.raw, .optimised])
  func emulatedSamplesAgreeWithTheReference(_ group: SampleGroup, _ form: GraphRunner.Form) throws {
    let suite = SampleSuite(target: try EmulatedCUDA(), device: Self.device)
    #expect(suite.complaints(group, form) == [])
  }
}

extension SampleGroup: CustomTestStringConvertible {
  public var testDescription: String { name }
}
