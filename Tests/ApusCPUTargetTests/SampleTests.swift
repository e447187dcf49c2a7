import ApusCPUDevice
import ApusCPUTarget
import ApusRuntime
import ApusTesting
import Testing

/// Every sample of every operation, compiled for this machine in every form and run, agrees with its reference.
@Suite(.serialized) struct SampleTests {
  @Test(arguments: SampleGroup.all, GraphRunner.Form.allCases)
  func compiledSamplesAgreeWithTheReference(_ group: SampleGroup, _ form: GraphRunner.Form) throws {
    #expect(try complaints(group, form, Machine.device) == [])
  }

  /// The host reaches what steps compute through the stream only.
  @Test(arguments: SampleGroup.all, [GraphRunner.Form.optimised, .cut])
  func samplesAgreeWhereTheHostCannotTouchMemory(_ group: SampleGroup, _ form: GraphRunner.Form) throws {
    #expect(try complaints(group, form, RemoteDevice(Machine.device)) == [])
  }

  /// Lanes go on in orders that only what they wait for limits.
  @Test(arguments: SampleGroup.all, [LaneChoice.last, .random(seed: 1)])
  func samplesAgreeInEveryOrderOfLanes(_ group: SampleGroup, _ choice: LaneChoice) throws {
    let device = DeferredDevice(RemoteDevice(Machine.device), lanes: choice)
    #expect(try complaints(group, .forked, device) == [])
  }

  private func complaints(
    _ group: SampleGroup, _ form: GraphRunner.Form, _ device: any Device
  ) throws -> [String] {
    SampleSuite(target: try Machine.target(), device: device).complaints(group, form)
  }
}

extension SampleGroup: CustomTestStringConvertible {
  public var testDescription: String { name }
}

/// The machine that tests run on.
enum Machine {
  static let device = CPUDevice()

  static func target(_ name: String = "native") throws -> CPUCodeTarget {
    try CPUCodeTarget(name: name, machineFeatures: device.features.names, jobs: device.features.processorCount)
  }
}
