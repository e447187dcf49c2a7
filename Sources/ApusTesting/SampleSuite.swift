package import ApusCompiler
import ApusCore
package import ApusGraph
import ApusOps
import ApusPlan
package import ApusRuntime

/// Samples that are built into one graph, so that one image serves them all.
package struct SampleGroup: Sendable {
  package let samples: [(name: String, sample: Sample)]

  /// `abs … cast`.
  package var name: String { "\(samples.first?.name ?? "") … \(samples.last?.name ?? "")" }

  /// The samples of all operations.
  package static let all: [SampleGroup] = {
    var groups: [SampleGroup] = []
    var current: [(name: String, sample: Sample)] = []
    for name in Catalogue.standard.names {
      current += (Catalogue.standard.type(name)?.samples ?? []).filter { $0.op.name == name }.map { (name, $0) }
      if current.count >= 60 {
        groups.append(SampleGroup(samples: current))
        current = []
      }
    }
    if !current.isEmpty { groups.append(SampleGroup(samples: current)) }
    return groups
  }()
}

extension SampleGroup {
  /// Graphs that hold all samples: one for those that fit together, one for each other.
  package func graphs() throws -> [Graph] {
    var together = SampleBatch()
    var graphs: [Graph] = []
    for (index, (_, sample)) in samples.enumerated() {
      if Self.isAlone(sample) {
        var batch = SampleBatch()
        try batch.add(sample, index: index)
        graphs.append(batch.graph)
      } else {
        try together.add(sample, index: index)
      }
    }
    return graphs + [together.graph]
  }

  /// Symbols that an operation binds have one name in all of its samples.
  fileprivate static func isAlone(_ sample: Sample) -> Bool {
    !sample.op.boundSymbols.isEmpty || !sample.op.bodies.isEmpty
  }
}

/// Compiles samples for a target, runs them on a device and compares them with their references.
package struct SampleSuite {
  private let target: any Target
  private let device: any Device
  private let isWide: Bool

  /// - Parameter isWide: whether references compute in f64, whatever the types.
  package init(target: any Target, device: any Device, isWide: Bool = false) {
    self.target = target
    self.device = device
    self.isWide = isWide
  }

  /// What is wrong with the samples of a group in a form; empty when all agree.
  package func complaints(_ group: SampleGroup, _ form: GraphRunner.Form) -> [String] {
    var together: [(index: Int, sample: Sample)] = []
    var complaints: [String] = []
    for (index, (_, sample)) in group.samples.enumerated() {
      if SampleGroup.isAlone(sample) {
        complaints += check([(index, sample)], form)
      } else {
        together.append((index, sample))
      }
    }
    return complaints + check(together, form)
  }

  /// Builds and runs samples in one graph; halves them to find the ones that cannot be.
  private func check(_ samples: [(index: Int, sample: Sample)], _ form: GraphRunner.Form) -> [String] {
    if samples.isEmpty { return [] }
    let runner: GraphRunner
    var batch = SampleBatch()
    do {
      for (index, sample) in samples { try batch.add(sample, index: index) }
      runner = try GraphRunner(batch.graph, form, target: target, device: device)
    } catch {
      if samples.count == 1 { return ["\(form) \(GraphText(batch.graph).text): \(error)"] }
      let half = samples.count / 2
      return check(Array(samples[..<half]), form) + check(Array(samples[half...]), form)
    }
    let trials = samples.contains { SampleCase.trialCount($0.sample) > 1 } ? 3 : 1
    var complaints: [String] = []
    for trial in 0..<trials {
      do { complaints += try run(batch, runner, form, trial: trial) } catch {
        if samples.count == 1 { return complaints + ["\(form) \(GraphText(batch.graph).text): \(error)"] }
        let half = samples.count / 2
        return check(Array(samples[..<half]), form) + check(Array(samples[half...]), form)
      }
    }
    return complaints
  }

  private func run(
    _ batch: SampleBatch, _ runner: GraphRunner, _ form: GraphRunner.Form, trial: Int
  ) throws -> [String] {
    var complaints: [String] = []
    let (inputs, cases) = try batch.cases(trial: trial, isWide: isWide)
    let expected = cases.flatMap(\.results)
    let (outputs, overrun) = try runner.run(inputs, expected: expected)
    for (member, one) in zip(batch.members, cases) {
      let names = member.outputs.map { runner.plan.outputs[$0].name }
      if names.contains(where: overrun.contains) { complaints.append("\(form) \(one): wrote beyond its output") }
      if !one.op.isPure { continue }
      for (output, result) in zip(member.outputs, one.results) {
        guard let complaint = Closeness.complaint(outputs[output], result, f32: one.sample.tolerance) else { continue }
        complaints.append("\(form) \(one): \(complaint)")
      }
    }
    return complaints
  }
}
