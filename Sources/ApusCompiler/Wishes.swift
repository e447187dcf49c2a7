import ApusCore
import ApusGraph
package import ApusOps
import ApusPlan

/// What the user wants of decisions about the whole graph, whatever the cost model says.
package struct Wishes: Sendable, Hashable {
  /// Where the channels of some nodes are to be.
  package struct Layout: Sendable, Hashable {
    package var nodes: [String]
    package var layout: ImageLayout

    package init(_ nodes: [String], _ layout: ImageLayout) {
      self.nodes = nodes
      self.layout = layout
    }

    var place: String { "--layout \(nodes.joined(separator: ","))=\(layout.rawValue)" }
  }

  /// Names of nodes that are to be in one step.
  package var together: [[String]]
  /// Names of nodes of which no two may be in one step; a single name is a node that shares its step with no other.
  package var apart: [[String]]
  /// Of several that name a node the last counts.
  package var layouts: [Layout]

  package init(together: [[String]] = [], apart: [[String]] = [], layouts: [Layout] = []) {
    self.together = together
    self.apart = apart
    self.layouts = layouts
  }

  package var isEmpty: Bool { together.isEmpty && apart.isEmpty && layouts.isEmpty }

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

  /// The layout that is asked for of a node.
  package func layout(of node: String) -> ImageLayout? { layouts.last { $0.nodes.contains(node) }?.layout }

  /// Makes sure that a model has the nodes.
  ///
  /// - Throws: ``BuildError`` `APUS-B-0065` for each name that it lacks.
  func checkNames(in graph: Graph) throws(BuildError) {
    if isEmpty { return }
    let known = Self.names(in: graph)
    var problems: [Diagnostic] = []
    let named =
      together.map { ($0, Self.place("--fuse", $0)) } + apart.map { ($0, Self.place("--no-fuse", $0)) }
      + layouts.map { ($0.nodes, $0.place) }
    for (names, place) in named {
      for name in names where !known.contains(name) {
        problems.append(
          Diagnostic(
            "APUS-B-0065", "the model has no node '\(name)'", place: place,
            hint: Spelling.hint(for: name, in: known.sorted())))
      }
    }
    if !problems.isEmpty { throw BuildError(problems: problems) }
  }

  private static func place(_ option: String, _ names: [String]) -> String {
    "\(option) \(names.joined(separator: ","))"
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
    var problems = layoutProblems(log)
    for names in together where !steps.contains(where: { $0.isSuperset(of: names) }) {
      problems.append(
        Diagnostic(
          "APUS-B-0066", "\(Self.text(names)) cannot be computed in one step: \(reason(names, steps, log))",
          place: Self.place("--fuse", names)))
    }
    for names in apart {
      let own = Wishes(apart: [names])
      guard let step = steps.first(where: { !own.allows(Array($0)) }) else { continue }
      problems.append(
        Diagnostic(
          "APUS-B-0066", "\(Self.text(step.sorted())) are computed by one step, which cannot be cut",
          place: Self.place("--no-fuse", names)))
    }
    if !problems.isEmpty { throw BuildError(problems: problems) }
  }

  /// Layouts that are not as wished, with why.
  private func layoutProblems(_ log: FusionLog) -> [Diagnostic] {
    var problems: [Diagnostic] = []
    for wish in layouts {
      for name in wish.nodes where layout(of: name) == wish.layout {
        let decisions = log.entries.filter { $0.subject == .layout && $0.consumerNode == name }
        if decisions.contains(where: { $0.isTaken == (wish.layout == .nhwc) }) { continue }
        let reason =
          decisions.last.map { "'\(name)' cannot be computed in \(wish.layout.rawValue): \($0.reason)" }
          ?? "'\(name)' is no convolution or pooling, or passes folded or replaced it: --log-fusions names those there are"
        problems.append(Diagnostic("APUS-B-0066", reason, place: wish.place))
      }
    }
    return problems
  }

  /// Why nodes are in different steps.
  private func reason(_ names: [String], _ steps: [Set<String>], _ log: FusionLog) -> String {
    let gone = names.filter { name in !steps.contains { $0.contains(name) } }
    if !gone.isEmpty { return "no step computes \(Self.text(gone)), since passes folded or replaced it" }
    var texts: [String] = []
    for entry in log.entries where entry.subject == .fusion && !entry.isTaken && names.contains(entry.consumerNode) {
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
