import ApusCPUDevice
import ApusCPUTarget
import ApusCore
import ApusGraph
import ApusOps
import ApusPlan
import ApusTesting
import Testing

/// Every sample of every operation, compiled for this machine in every form and run, agrees with its reference.
@Suite(.serialized) struct SampleTests {
  @Test(arguments: SampleGroup.all, GraphRunner.Form.allCases)
  func compiledSamplesAgreeWithTheReference(_ group: SampleGroup, _ form: GraphRunner.Form) throws {
    var together: [(index: Int, sample: Sample)] = []
    for (index, (_, sample)) in group.samples.enumerated() {
      // Symbols that an operation binds have one name in all of its samples.
      if sample.op.boundSymbols.isEmpty, sample.op.bodies.isEmpty {
        together.append((index, sample))
      } else {
        try check([(index, sample)], form)
      }
    }
    try check(together, form)
  }

  /// Builds and runs samples in one graph; halves them to find the ones that cannot be.
  private func check(_ samples: [(index: Int, sample: Sample)], _ form: GraphRunner.Form) throws {
    if samples.isEmpty { return }
    let runner: GraphRunner
    var batch = SampleBatch()
    do {
      for (index, sample) in samples { try batch.add(sample, index: index) }
      runner = try GraphRunner(batch.graph, form, target: Machine.target(), device: Machine.device)
    } catch {
      if samples.count == 1 {
        Issue.record("\(form) \(GraphText(batch.graph).text): \(error)")
        return
      }
      try check(Array(samples[..<(samples.count / 2)]), form)
      try check(Array(samples[(samples.count / 2)...]), form)
      return
    }
    let trials = samples.contains { SampleCase.trialCount($0.sample) > 1 } ? 3 : 1
    for trial in 0..<trials { try run(batch, runner, form, trial: trial) }
  }

  private func run(_ batch: SampleBatch, _ runner: GraphRunner, _ form: GraphRunner.Form, trial: Int) throws {
    let (inputs, cases) = try batch.cases(trial: trial)
    let expected = cases.flatMap(\.results)
    let (outputs, overrun) = try runner.run(inputs, expected: expected)
    for (member, one) in zip(batch.members, cases) {
      let names = member.outputs.map { runner.plan.outputs[$0].name }
      #expect(!names.contains(where: overrun.contains), "\(form) \(one): wrote beyond its output")
      if !one.op.isPure { continue }
      for (output, result) in zip(member.outputs, one.results) {
        let complaint = Closeness.complaint(outputs[output], result, f32: one.sample.tolerance)
        #expect(complaint == nil, "\(form) \(one)")
      }
    }
  }
}

/// The machine that tests run on.
enum Machine {
  static let device = CPUDevice()

  static func target(_ name: String = "native") throws -> CPUCodeTarget {
    try CPUCodeTarget(name: name, machineFeatures: device.features.names, jobs: device.features.processorCount)
  }
}
