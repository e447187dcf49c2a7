import Apus
import ApusCompiler
import ApusCore
import ApusRuntime

/// What tuning came to, in words.
struct TuningText {
  let report: TuningReport

  var text: String {
    var text = ""
    if let target = report.target, let device = report.device {
      text += "tuned \(target) on \(device.model) in \(Units.fixed(report.duration / .seconds(1), 1)) s; "
    }
    text +=
      "\(report.judgedCount) of \(report.regionCount) regions judged, \(report.measuredCount) tactics measured, "
      + "\(report.knownCount) known; \(report.changes.isEmpty ? "nothing is faster otherwise" : "\(report.changes.count) changed")\n"
    if let ranking = report.rankings.summary {
      text +=
        "the cost model's order: rank correlation \(Units.fixed(ranking.correlation, 2)), its first tactic is "
        + "\(Units.fixed(100 * ranking.first, 1))% slower than the fastest, the best of its first five "
        + "\(Units.fixed(100 * ranking.firstFive, 1))% (means of \(ranking.count) regions)\n"
    }
    if report.placedCount > 0 { text += "\(report.placedCount) regions timed in whole runs too\n" }
    if !report.changes.isEmpty { text += table + "\n" }
    for (subject, name) in [(FusionLog.Subject.fusion, "fusion"), (.layout, "layout")] {
      let tried = trials(subject)
      let adopted = tried.filter(\.isAdopted)
      if tried.isEmpty { continue }
      text += "\(tried.count) \(name) decisions tried the other way, \(adopted.count) of them changed\n"
      for trial in adopted {
        text +=
          "  \(trial.decisions.map(Self.otherWay).joined(separator: ", ")): "
          + "\(Units.fixed(1e6 * trial.secondsAfter, 1)) us, before \(Units.fixed(1e6 * trial.secondsBefore, 1)) us\n"
      }
    }
    for run in report.runs {
      text +=
        "profile '\(run.profile)': a run takes \(Units.fixed(1000 * run.secondsAfter, 4)) ms, before "
        + "\(Units.fixed(1000 * run.secondsBefore, 4)) ms\(run.isKept ? "; it is left as it was" : "")\n"
    }
    return text
  }

  private func trials(_ subject: FusionLog.Subject) -> [TuningReport.Trial] {
    report.trials.filter { $0.decisions.first?.subject == subject }
  }

  /// A decision the other way, in words.
  private static func otherWay(_ decision: FusionLog.Entry) -> String {
    switch decision.subject {
    case .layout: "\(decision.consumerNode) with channels \(decision.isTaken ? "first" : "last")"
    case .fusion:
      "\(decision.producerNodes.last ?? "") \(decision.isTaken ? "apart from" : "inside of") \(decision.consumerNode)"
    }
  }

  private static func json(_ trial: TuningReport.Trial, _ decision: FusionLog.Entry) -> JSON {
    .object(
      (decision.subject == .layout
        ? [("node", .string(decision.consumerNode)), ("was", .string(decision.isTaken ? "nhwc" : "nchw"))]
        : [
          ("producer", .string(decision.producerNodes.last ?? "")), ("consumer", .string(decision.consumerNode)),
          ("was_taken", .bool(decision.isTaken)),
        ]) + [
          ("predicted_us", decision.microseconds.map { .number($0) } ?? .null),
          ("measured_us", .number(1e6 * trial.measured(decision))), ("adopted", .bool(trial.isAdopted)),
          ("together_with", .int(trial.decisions.count - 1)),
        ])
  }

  private var table: String {
    var table = Table([
      ("profile", .left), ("times", .right), ("before", .left), ("us", .right), ("after", .left), ("us", .right),
      ("for instance", .left),
    ])
    for change in report.changes {
      table.add([
        change.profile, String(change.count), change.before, Units.fixed(1e6 * change.secondsBefore, 2), change.after,
        Units.fixed(1e6 * change.secondsAfter, 2), change.sources.first ?? "",
      ])
    }
    return table.text
  }

  var json: JSON { .object(members) }

  /// What each tactic of each region took.
  private var measured: [JSON] {
    report.seconds.sorted { $0.key.target < $1.key.target }.flatMap { target, regions in
      regions.sorted { $0.key < $1.key }.map { region, seconds in
        .object([
          ("target", .string(target.target)), ("region", .string(region)),
          ("tactics_us", .object(seconds.sorted { $0.key < $1.key }.map { ($0.key, .number(1e6 * $0.value)) })),
        ])
      }
    }
  }

  var members: [(String, JSON)] {
    [
      ("seconds", .number(report.duration / .seconds(1))), ("target", report.target.map { .string($0) } ?? .null),
      ("device", report.device.map { .string($0.model) } ?? .null),
      ("regions", .int(report.regionCount)), ("judged", .int(report.judgedCount)),
      ("tactics_measured", .int(report.measuredCount)), ("tactics_known", .int(report.knownCount)),
      ("regions_placed", .int(report.placedCount)),
      (
        "changes",
        .array(
          report.changes.map { change in
            .object([
              ("profile", .string(change.profile)), ("count", .int(change.count)),
              ("sources", .strings(change.sources)),
              ("before", .string(change.before)), ("before_us", .number(1e6 * change.secondsBefore)),
              ("after", .string(change.after)), ("after_us", .number(1e6 * change.secondsAfter)),
            ])
          })
      ),
      (
        "ranking",
        report.rankings.summary.map { ranking in
          .object([
            ("regions", .int(ranking.count)), ("correlation", .number(ranking.correlation)),
            ("regret_of_first", .number(ranking.first)), ("regret_of_first_five", .number(ranking.firstFive)),
          ])
        } ?? .null
      ),
      ("measured", .array(measured)),
      ("fusions", .array(trials(.fusion).flatMap { trial in trial.decisions.map { Self.json(trial, $0) } })),
      ("layouts", .array(trials(.layout).flatMap { trial in trial.decisions.map { Self.json(trial, $0) } })),
      (
        "runs",
        .array(
          report.runs.map { run in
            .object([
              ("profile", .string(run.profile)), ("before_ms", .number(1000 * run.secondsBefore)),
              ("after_ms", .number(1000 * run.secondsAfter)), ("kept", .bool(run.isKept)),
            ])
          })
      ),
      ("warnings", .array(report.warnings.map(JSON.diagnostic))),
    ]
  }
}
