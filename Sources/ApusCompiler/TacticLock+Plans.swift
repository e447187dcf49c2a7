import ApusCore
package import ApusPlan

extension TacticLock {
  /// The lines of a plan's steps, with those of bodies and pieces.
  static func lines(_ plan: Plan, seconds: (_ region: String, _ tactic: String) -> Double?) -> [Line] {
    lines(plan.steps, plan, seconds)
  }

  private static func lines(
    _ steps: [Step], _ plan: Plan, _ seconds: (String, String) -> Double?
  ) -> [Line] {
    var lines: [Line] = []
    var index = 0
    while index < steps.count {
      let step = steps[index]
      let count = max(1, min(step.alternatives?.stepCount ?? 1, steps.count - index))
      let group = Array(steps[index..<index + count])
      lines.append(
        Line(
          nodes: group.distinctSources, tactic: step.alternatives?.chosen ?? step.tactic,
          precision: plan.precision(of: group),
          seconds: step.alternatives.flatMap { seconds($0.region, $0.chosen) }))
      for step in group {
        if case .piece(let piece) = step.action {
          lines += Self.lines(piece.plan.steps, piece.plan, seconds)
        } else {
          for nested in step.action.nested { lines += Self.lines(nested, plan, seconds) }
        }
      }
      index += count
    }
    return lines
  }

  /// Makes sure that plans are what the lock says, in every line.
  ///
  /// - Throws: ``BuildError`` `APUS-B-0063` for each line, or step without one, that differs.
  func check(_ plans: [Plan]) throws(BuildError) {
    let problems = problems(with: plans)
    if !problems.isEmpty { throw BuildError(problems: problems) }
  }

  /// Says that another compiler may make other bytes of the same choices.
  func warnings(for target: any Target) throws(BuildError) -> [Diagnostic] {
    let own = try target.compilerVersion()
    guard let other = sections.first(where: { $0.target == target.fingerprint.target && $0.compiler != own }) else {
      return []
    }
    return [
      Diagnostic(
        "APUS-B-0064",
        "the lock was written with '\(other.compiler)', here is '\(own)': the engine may differ in bytes",
        place: path)
    ]
  }

  private func problems(with plans: [Plan]) -> [Diagnostic] {
    var problems: [Diagnostic] = []
    for section in sections
    where !plans.contains(where: { $0.fingerprint.target == section.target && $0.profile.name == section.profile }) {
      let built = plans.map { "target '\($0.fingerprint.target)', profile '\($0.profile.name)'" }
      problems.append(problem("\(section.title) is locked, what is built is \(built.joined(separator: "; "))", nil))
    }
    for plan in plans {
      guard let section = section(target: plan.fingerprint.target, profile: plan.profile.name) else {
        problems.append(
          problem("nothing is locked for target '\(plan.fingerprint.target)', profile '\(plan.profile.name)'", nil))
        continue
      }
      problems += self.problems(section, plan)
    }
    return problems
  }

  private func problems(_ section: Section, _ plan: Plan) -> [Diagnostic] {
    var problems: [Diagnostic] = []
    var found = Dictionary(grouping: Self.lines(plan) { _, _ in nil }, by: \.nodes).mapValues { $0[...] }
    let ways = Dictionary(
      plan.allSteps.compactMap { step in step.alternatives.map { (step.sources, $0.tactics) } },
      uniquingKeysWith: { first, _ in first })
    for line in section.lines {
      guard let own = found[line.nodes]?.popFirst() else {
        problems.append(
          problem("no step computes \(Self.text(line.nodes)); \(Self.whereabouts(line.nodes, plan))", line))
        continue
      }
      if own.tactic != line.tactic {
        let known = ways[line.nodes] ?? [own.tactic]
        problems.append(
          problem(
            "\(Self.text(line.nodes)) cannot be computed by '\(line.tactic)'; there is "
              + known.map { "'\($0)'" }.joined(separator: ", "), line))
      }
      if own.precision != line.precision {
        problems.append(
          problem("\(Self.text(line.nodes)) is locked in \(line.precision), it is computed in \(own.precision)", line))
      }
    }
    for own in found.values.joined().sorted(by: { $0.nodes.lexicographicallyPrecedes($1.nodes) }) {
      problems.append(
        problem("\(section.title): there is no line for the step '\(own.tactic)' of \(Self.text(own.nodes))", nil))
    }
    return problems
  }

  private func problem(_ message: String, _ line: Line?) -> Diagnostic {
    Diagnostic(
      "APUS-B-0063", message, place: line.map { "\(path), line \($0.number)" } ?? path,
      hint: "The lock is of another model or other options: write it anew with --write-lock.")
  }

  private static func text(_ nodes: [String]) -> String {
    nodes.isEmpty ? "a step without nodes" : nodes.map { "'\($0)'" }.joined(separator: " with ")
  }

  /// Which steps compute nodes that should be in one.
  private static func whereabouts(_ nodes: [String], _ plan: Plan) -> String {
    let steps = plan.allSteps.filter { step in step.sources.contains { nodes.contains($0) } }
    let missing = nodes.filter { node in !steps.contains { $0.sources.contains(node) } }
    var parts = steps.prefix(3).map { "'\($0.tactic)' computes \(text($0.sources))" }
    if !missing.isEmpty { parts.append("the model has no \(text(missing))") }
    return parts.isEmpty ? "there is no such step" : parts.joined(separator: "; ")
  }
}

extension [Step] {
  /// Names of the model's nodes that the steps compute, each once.
  var distinctSources: [String] {
    var seen: Set<String> = []
    return flatMap(\.sources).filter { seen.insert($0).inserted }
  }
}

extension Plan {
  /// Element types of what steps read and write: `f32`, `f16,f32`.
  package func precision(of steps: [Step]) -> String {
    var names: [String] = []
    for step in steps {
      let slots: [Int] =
        switch step.action {
        case .host(let call): call.inputs + call.outputs
        case .copy(let from, let to): [from, to]
        default: step.action.buffers ?? []
        }
      for slot in slots {
        let name = self.slots[slot].type.tensor?.dtype.rawValue ?? "object"
        if !names.contains(name) { names.append(name) }
      }
    }
    return names.isEmpty ? "-" : names.joined(separator: ",")
  }
}
