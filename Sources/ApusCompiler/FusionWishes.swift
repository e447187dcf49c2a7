import ApusCore
import ApusGraph
import ApusPlan

/// What the user wants computed in one step, or not, whatever the cost model says.
package struct FusionWishes: Sendable, Hashable {
  /// Names of nodes that are to be in one step.
  package var together: [[String]]
  /// Names of nodes of which no two may be in one step; a single name is a node that shares its step with no other.
  package var apart: [[String]]

  package init(together: [[String]] = [], apart: [[String]] = []) {
    self.together = together
    self.apart = apart
  }

  package var isEmpty: Bool { together.isEmpty && apart.isEmpty }

  /// Whether a step may compute these nodes.
  func allows(_ nodes: [String]) -> Bool {
    if apart.isEmpty { return true }
    let own = Set(nodes)
    return apart.allSatisfy { names in
      if names.count == 1 { return own.count < 2 || !own.contains(names[0]) }
      return own.intersection(names).count < 2
    }
  }

  /// Whether a node is to be computed in the step of others.
  func forces(_ producer: [String], into consumer: String) -> Bool {
    together.contains { names in names.contains(consumer) && producer.contains { names.contains($0) } }
  }

  /// Makes sure that a model has the nodes.
  ///
  /// - Throws: ``BuildError`` `APUS-B-0065` for each name that it lacks.
  func checkNames(in graph: Graph) throws(BuildError) {
    if isEmpty { return }
    let known = Self.names(in: graph)
    var problems: [Diagnostic] = []
    for (names, option) in together.map({ ($0, "--fuse") }) + apart.map({ ($0, "--no-fuse") }) {
      for name in names where !known.contains(name) {
        problems.append(
          Diagnostic(
            "APUS-B-0065", "the model has no node '\(name)'", place: "\(option) \(names.joined(separator: ","))",
            hint: Spelling.hint(for: name, in: known.sorted())))
      }
    }
    if !problems.isEmpty { throw BuildError(problems: problems) }
  }

  private static func names(in graph: Graph) -> Set<String> {
    var names: Set<String> = []
    for id in graph.order {
      if !graph[id].name.isEmpty { names.insert(graph[id].name) }
      for body in graph[id].op.bodies { names.formUnion(Self.names(in: body)) }
    }
    return names
  }

  /// Makes sure that a plan's steps are as wished.
  ///
  /// - Throws: ``BuildError`` `APUS-B-0066` for each wish that is not met, with why.
  func check(_ plan: Plan, _ log: FusionLog) throws(BuildError) {
    if isEmpty { return }
    let steps = plan.allSteps.map { Set($0.sources) }
    var problems: [Diagnostic] = []
    for names in together where !steps.contains(where: { $0.isSuperset(of: names) }) {
      problems.append(
        Diagnostic(
          "APUS-B-0066", "\(Self.text(names)) cannot be computed in one step: \(reason(names, steps, log))",
          place: "--fuse \(names.joined(separator: ","))"))
    }
    for names in apart {
      let own = FusionWishes(apart: [names])
      guard let step = steps.first(where: { !own.allows(Array($0)) }) else { continue }
      problems.append(
        Diagnostic(
          "APUS-B-0066", "\(Self.text(step.sorted())) are computed by one step, which cannot be cut",
          place: "--no-fuse \(names.joined(separator: ","))"))
    }
    if !problems.isEmpty { throw BuildError(problems: problems) }
  }

  /// Why nodes are in different steps.
  private func reason(_ names: [String], _ steps: [Set<String>], _ log: FusionLog) -> String {
    let gone = names.filter { name in !steps.contains { $0.contains(name) } }
    if !gone.isEmpty { return "no step computes \(Self.text(gone)), since passes folded or replaced it" }
    var texts: [String] = []
    for entry in log.entries where !entry.isTaken && names.contains(entry.consumerNode) {
      let producers = entry.producerNodes.filter(names.contains)
      if producers.isEmpty { continue }
      let text = "\(Self.text(producers)) into '\(entry.consumerNode)': \(entry.reason)"
      if !texts.contains(text) { texts.append(text) }
    }
    if !texts.isEmpty { return texts.joined(separator: "; ") }
    return "none of them uses another's result, or that is in memory by then for others"
  }

  private static func text(_ names: [String]) -> String { names.map { "'\($0)'" }.joined(separator: ", ") }
}
