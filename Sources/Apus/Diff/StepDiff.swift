import ApusCompiler
import ApusCore
import ApusPlan

/// What the steps of two plans for the same profile differ in. Steps are known by the model's nodes that they compute.
struct StepDiff {
  struct Entry {
    var topic: EngineDiff.Topic
    var subject: String
    var first: String?
    var second: String?
  }

  private(set) var entries: [Entry] = []
  private let first: [[String]: [Facts]]
  private let second: [[String]: [Facts]]
  private let order: [[String]]

  /// What is compared of a step.
  private struct Facts: Equatable {
    var tactic: String
    var precision: String
    /// The kernels' names, which are hashes of their texts, and how they are launched.
    var kernel: String
    var lane: Int
  }

  init(_ first: Plan, _ second: Plan) {
    let (a, b) = (Self.facts(first), Self.facts(second))
    self.first = a.facts
    self.second = b.facts
    order = a.order + b.order.filter { a.facts[$0] == nil }
  }

  private static func facts(_ plan: Plan) -> (facts: [[String]: [Facts]], order: [[String]]) {
    var facts: [[String]: [Facts]] = [:]
    var order: [[String]] = []
    plan.eachStep { step, plan in
      let key = Set(step.sources).sorted()
      if facts[key] == nil { order.append(key) }
      facts[key, default: []].append(
        Facts(tactic: step.tactic, precision: plan.precision(of: [step]), kernel: kernel(step, plan), lane: step.lane))
    }
    return (facts, order)
  }

  private static func kernel(_ step: Step, _ plan: Plan) -> String {
    switch step.action {
    case .launch(let launch):
      "\(plan.functions[launch.function].symbol)(\(launch.parameters.map(\.description).joined(separator: ", "))) "
        + "in \(launch.blocks) blocks"
    case .library(let call): "\(call.operation) of \(call.sizes.map(\.description).joined(separator: ", "))"
    case .host(let call): "\(call.operation) \(call.attributes)"
    default: ""
    }
  }

  /// Nodes of the steps that are not the same in both, each in order.
  var changed: [[String]] { order.filter { first[$0] != second[$0] } }

  mutating func compare() {
    var regrouped: [[String]] = []
    for key in order {
      switch (first[key], second[key]) {
      case (let a?, let b?): compare(a, b, key)
      default: regrouped.append(key)
      }
    }
    for group in Self.connected(regrouped) {
      let (a, b) = (group.filter { first[$0] != nil }, group.filter { second[$0] != nil })
      entries.append(
        Entry(
          topic: .fusion, subject: Self.text(Array(Set(group.joined())).sorted()), first: text(a, first),
          second: text(b, second)))
    }
  }

  private mutating func compare(_ a: [Facts], _ b: [Facts], _ key: [String]) {
    if a == b { return }
    let subject = Self.text(key)
    func add(_ topic: EngineDiff.Topic, _ part: (Facts) -> String) {
      let texts = [a, b].map { $0.map(part).joined(separator: "; ") }
      if texts[0] != texts[1] {
        entries.append(Entry(topic: topic, subject: subject, first: texts[0], second: texts[1]))
      }
    }
    add(.tactic, \.tactic)
    add(.precision, \.precision)
    // Other tactics and types have other kernels.
    if zip(a, b).allSatisfy({ $0.tactic == $1.tactic && $0.precision == $1.precision }) { add(.kernel, \.kernel) }
    add(.lane) { String($0.lane) }
  }

  /// Sets of nodes that overlap, together.
  private static func connected(_ keys: [[String]]) -> [[[String]]] {
    var groups: [(nodes: Set<String>, keys: [[String]])] = []
    for key in keys {
      let touching = groups.indices.filter { !groups[$0].nodes.isDisjoint(with: key) }
      var group = (nodes: Set(key), keys: [[String]]())
      for index in touching {
        group.nodes.formUnion(groups[index].nodes)
        group.keys += groups[index].keys
      }
      group.keys.append(key)
      for index in touching.reversed() { groups.remove(at: index) }
      groups.append(group)
    }
    return groups.map(\.keys)
  }

  private func text(_ keys: [[String]], _ facts: [[String]: [Facts]]) -> String? {
    if keys.isEmpty { return nil }
    return keys.map { key in
      "\(Self.text(key)) by \((facts[key] ?? []).map { "'\($0.tactic)'" }.joined(separator: ", "))"
    }.joined(separator: "; ")
  }

  private static func text(_ nodes: [String]) -> String {
    nodes.isEmpty ? "steps without nodes" : nodes.joined(separator: " + ")
  }
}
