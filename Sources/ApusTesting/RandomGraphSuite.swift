package import ApusCompiler
import ApusCore
package import ApusGraph
import ApusPlan
package import ApusRuntime

/// Compares made-up graphs in every form with the interpreter. Graphs are built together; one that fails is looked at alone, and
/// made as small as it gets.
package struct RandomGraphSuite {
  private let target: any Target
  private let rawTarget: any Target
  private let device: any Device
  private let passes: [Pass]
  private let forms: [GraphRunner.Form] = [.raw, .optimised, .loaded]

  /// - Parameter rawTarget: what compiles graphs node by node, where that is another.
  package init(
    target: any Target, rawTarget: (any Target)? = nil, device: any Device, passes: [Pass] = Pass.standard
  ) {
    self.target = target
    self.rawTarget = rawTarget ?? target
    self.device = device
    self.passes = passes
  }

  /// How many graphs are best built together.
  package static let batchSize = 50

  package var formCount: Int { forms.count }

  /// A graph of which some form gives another result, or none.
  package struct Failure: CustomStringConvertible {
    package var seed: UInt64
    package var form: GraphRunner.Form
    package var message: String
    package var graph: Graph

    package var description: String { "seed \(seed), \(form): \(message)\n\(GraphText(graph).text)" }
  }

  /// A graph with inputs of several sizes, and what the interpreter gives for them.
  private struct Member {
    let seed: UInt64
    var graph: Graph
    let tolerance: Double
    var trials: [(inputs: [HostValue], expected: [HostValue])]

    /// Nil when the sizes chosen allow no result.
    init?(_ graph: Graph, seed: UInt64, tolerance: Double) {
      self.seed = seed
      self.graph = graph
      self.tolerance = tolerance
      trials = []
      for trial in 0..<3 {
        let inputs = RandomInputs.make(graph, trial: trial, seed: seed &* 3 &+ UInt64(trial)).inputs
        guard let expected = try? Interpreter.run(graph, inputs: inputs) else { return nil }
        trials.append((inputs, expected))
      }
    }
  }

  /// What fails of the graphs of these seeds, and how many have results for all sizes tried.
  package func check(_ seeds: [UInt64]) -> (failures: [Failure], validCount: Int) {
    let members = seeds.compactMap { seed -> Member? in
      var graph = Graph()
      let tolerance = RandomGraph.append(seed: seed, to: &graph)
      return Member(graph, seed: seed, tolerance: tolerance)
    }
    return (forms.flatMap { form in failures(members, form) }, members.count)
  }

  private func failures(_ members: [Member], _ form: GraphRunner.Form) -> [Failure] {
    var graph = Graph()
    for member in members { RandomGraph.append(seed: member.seed, to: &graph) }
    guard let runner = try? makeRunner(graph, form),
      let wrong = try? wrongMembers(members, runner)
    else { return members.compactMap { alone($0, form) } }
    return wrong.compactMap { alone(members[$0], form) }
  }

  private func makeRunner(_ graph: Graph, _ form: GraphRunner.Form) throws -> GraphRunner {
    try GraphRunner(graph, form, target: form == .raw ? rawTarget : target, device: device, passes: passes)
  }

  /// Indices of the members of which an output of the graph that holds them all is wrong.
  private func wrongMembers(_ members: [Member], _ runner: GraphRunner) throws -> [Int] {
    var wrong: Set<Int> = []
    for trial in 0..<3 {
      let expected = members.flatMap { $0.trials[trial].expected }
      let (outputs, overrun) = try runner.run(members.flatMap { $0.trials[trial].inputs }, expected: expected)
      var start = 0
      for (index, member) in members.enumerated() {
        let own = start..<start + member.graph.outputs.count
        start = own.upperBound
        let names = own.map { runner.plan.outputs[$0].name }
        if names.contains(where: overrun.contains)
          || own.contains(where: { at in
            Closeness.complaint(outputs[at], expected[at], f32: member.tolerance) != nil
          })
        {
          wrong.insert(index)
        }
      }
    }
    return wrong.sorted()
  }

  /// What is wrong with a graph by itself, made small.
  private func alone(_ member: Member, _ form: GraphRunner.Form) -> Failure? {
    guard let message = complaint(member, form) else { return nil }
    let small = GraphShrinker.shrunk(member.graph) { graph in
      guard let smaller = Member(graph, seed: member.seed, tolerance: member.tolerance) else { return false }
      return complaint(smaller, form) != nil
    }
    return Failure(seed: member.seed, form: form, message: message, graph: small)
  }

  private func complaint(_ member: Member, _ form: GraphRunner.Form) -> String? {
    do {
      let runner = try makeRunner(member.graph, form)
      for trial in member.trials {
        let (outputs, overrun) = try runner.run(trial.inputs, expected: trial.expected)
        if !overrun.isEmpty { return "wrote beyond \(overrun)" }
        for (index, (output, expected)) in zip(outputs, trial.expected).enumerated() {
          guard let complaint = Closeness.complaint(output, expected, f32: member.tolerance) else { continue }
          return "output \(member.graph.outputNames[index]): \(complaint)"
        }
      }
      return nil
    } catch { return "\(error)" }
  }
}
