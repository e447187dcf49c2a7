import ApusPlan

/// The nodes of a model that an engine's profiles compute in different ways.
struct TacticComparison {
  /// Nodes with the same tactics in every profile.
  struct Row {
    /// By profile; nil where the node is folded away.
    let tactics: [String?]
    var nodes: [String]
  }

  private(set) var rows: [Row] = []
  private let profiles: [String]

  init(plans: [Plan]) {
    profiles = plans.map(\.profile.name)
    let tactics = plans.map(Self.tactics)
    var order: [String] = []
    var seen: Set<String> = []
    for plan in plans { for node in Self.nodes(plan.steps) where seen.insert(node).inserted { order.append(node) } }
    var rowByTactics: [[String?]: Int] = [:]
    for node in order {
      let found = tactics.map { $0[node] }
      guard Set(found).count > 1 else { continue }
      if let row = rowByTactics[found] {
        rows[row].nodes.append(node)
      } else {
        rowByTactics[found] = rows.count
        rows.append(Row(tactics: found, nodes: [node]))
      }
    }
    rows.sort { $0.nodes.count > $1.nodes.count }
  }

  private static func nodes(_ steps: [Step]) -> [String] {
    steps.flatMap { $0.sources + $0.action.nested.flatMap(nodes) }
  }

  /// The tactic of each node: that of the step it is the anchor of, else of the first that it is fused into.
  private static func tactics(_ plan: Plan) -> [String: String] {
    var anchors: [String: String] = [:]
    var others: [String: String] = [:]
    func visit(_ steps: [Step]) {
      for step in steps {
        if let anchor = step.sources.first, anchors[anchor] == nil { anchors[anchor] = step.tactic }
        for node in step.sources where others[node] == nil { others[node] = step.tactic }
        step.action.nested.forEach(visit)
      }
    }
    visit(plan.steps)
    return others.merging(anchors) { _, anchor in anchor }
  }

  var text: String {
    var table = Table(
      [("nodes", .right)] + profiles.map { ($0, .left) } + [("for instance", .left)])
    for row in rows {
      let examples = row.nodes.prefix(3).joined(separator: ", ") + (row.nodes.count > 3 ? ", …" : "")
      table.add([String(row.nodes.count)] + row.tactics.map { $0 ?? "folded" } + [examples])
    }
    return "Tactics that differ\n\(table.text)\n"
  }

  var json: JSON {
    .array(
      rows.map { row in
        .object([
          ("nodes", .strings(row.nodes)),
          ("tactics", .object(zip(profiles, row.tactics).map { ($0, $1.map { .string($0) } ?? .null) })),
        ])
      })
  }
}
