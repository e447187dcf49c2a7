import Apus
import ApusCompiler

/// What two engines differ in, in words.
struct DiffText {
  let diff: EngineDiff
  let times: EngineTimeDiff?
  let first: String
  let second: String
  /// The share that times may differ by.
  let share: Double

  private static let titles: [EngineDiff.Topic: String] = [
    .model: "Model", .target: "Targets", .profile: "Profiles", .interface: "Inputs and outputs",
    .fusion: "Nodes computed together", .tactic: "Tactics", .precision: "Element types", .kernel: "Kernels",
    .lane: "Streams that steps run on",
    .memory: "Memory", .constants: "Constants", .code: "Code", .time: "Times", .bytes: "Bytes",
  ]

  var text: String {
    var text = ""
    for topic in EngineDiff.Topic.allCases {
      let entries = diff.entries.filter { $0.topic == topic }
      if entries.isEmpty { continue }
      text += "\(Self.titles[topic] ?? topic.rawValue)\n"
      for entry in entries {
        text += "  \(entry.place.isEmpty ? "" : "\(entry.place): ")\(entry.subject)\n"
        text += "    - \(entry.first ?? "nothing")\n    + \(entry.second ?? "nothing")\n"
      }
    }
    for run in times?.runs ?? [] { text += table(run) }
    if diff.entries.isEmpty { return text + "\(first) and \(second) are the same\n" }
    return text + "\(first) (-) and \(second) (+): \(diff.entries.count) differences\n"
  }

  static func text(_ time: Settling.Estimate?) -> String? {
    time.map { time in
      let half = (time.upper - time.lower) / 2
      return "\(Units.fixed(1000 * time.time, 4)) ± \(Units.fixed(1000 * half, 4)) ms"
    }
  }

  private func table(_ run: EngineTimeDiff.Run) -> String {
    var table = Table([
      ("nodes", .left), ("- ms", .right), ("+ ms", .right), ("", .left), ("- tactic", .left), ("+ tactic", .left),
    ])
    func add(_ row: EngineTimeDiff.Row, _ name: String) {
      let gain = row.first.map { first in 100 * row.gain / Swift.max(first.time, 1e-12) } ?? 0
      let verdict = row.differs(by: share) ? "\(gain > 0 ? "+" : "")\(Units.fixed(gain, 1))%" : "within noise"
      let isBoth = row.first != nil && row.second != nil
      table.add([
        name, Self.text(row.first) ?? "-", Self.text(row.second) ?? "-", isBoth ? verdict : "elsewhere",
        row.tactics.first ?? "", row.tactics.last ?? "",
      ])
    }
    add(run.whole, "whole run")
    let shown = run.steps.filter { $0.differs(by: share) || $0.first == nil || $0.second == nil }
    for row in shown.prefix(20) { add(row, Self.name(row.nodes)) }
    let rest = run.steps.count - shown.count
    return "Times of profile '\(run.profile)'\n\(table.text)\n\(rest) of \(run.steps.count) steps are within noise\n"
  }

  private static func name(_ nodes: [String]) -> String {
    nodes.isEmpty ? "-" : nodes.prefix(2).joined(separator: " + ") + (nodes.count > 2 ? " + …" : "")
  }

  var json: JSON {
    func optional(_ text: String?) -> JSON { text.map { .string($0) } ?? .null }
    return .object([
      ("first", .string(first)), ("second", .string(second)), ("same", .bool(diff.entries.isEmpty)),
      (
        "differences",
        .array(
          diff.entries.map { entry in
            .object([
              ("topic", .string(entry.topic.rawValue)), ("place", .string(entry.place)),
              ("subject", .string(entry.subject)), ("first", optional(entry.first)),
              ("second", optional(entry.second)),
            ])
          })
      ),
      (
        "times",
        times.map { times in
          .array(
            times.runs.map { run in
              .object([
                ("profile", .string(run.profile)), ("run", json(run.whole)), ("steps", .array(run.steps.map(json))),
              ])
            })
        } ?? .null
      ),
    ])
  }

  private func json(_ row: EngineTimeDiff.Row) -> JSON {
    func time(_ time: Settling.Estimate?) -> JSON {
      guard let time else { return .null }
      return .object([
        ("median_ms", .number(1000 * time.time)), ("lower_ms", .number(1000 * time.lower)),
        ("upper_ms", .number(1000 * time.upper)),
      ])
    }
    return .object([
      ("nodes", .strings(row.nodes)), ("tactics", .strings(row.tactics)), ("first", time(row.first)),
      ("second", time(row.second)), ("differs", .bool(row.differs(by: share))),
    ])
  }
}
