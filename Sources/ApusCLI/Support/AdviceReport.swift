import Apus
import ApusCore
import ApusPlan

/// What `apus advise` prints.
struct AdviceReport {
  let space: ShapeSpace
  let costs: RunCosts
  let proposals: [ProfileProposal]
  /// The model to build, for the command that is proposed.
  let model: String?

  private var enough: Int { ProfileAdvisor.enough(proposals) }

  /// How much faster than with one profile.
  private func gain(_ proposal: ProfileProposal) -> Double {
    proposal.meanSeconds > 0 ? (proposals.first?.meanSeconds ?? 0) / proposal.meanSeconds : 1
  }

  // MARK: Text

  var text: String {
    var lines = [
      "\(space.observations.callCount) calls of \(space.observations.observations.count) sets of shapes, varying: "
        + (space.varying.isEmpty ? "none" : space.varying.map { space.variables[$0].name }.joined(separator: ", ")),
      "times: \(costs.source)",
    ]
    if let measured = costs.measured { lines += ["", table(of: measured).text] }
    lines += ["", table.text, ""]
    let count = proposals[enough].profiles.count
    let more = enough + 1 < proposals.count ? "; more gain less than 1 %" : ""
    lines.append("\(count) \(count == 1 ? "profile is" : "profiles are") proposed\(more):")
    lines.append("")
    let arguments = proposals[enough].arguments(space).map { "    --profile \(Self.quoted($0))" }
    lines.append((["  apus build \(model.map(Self.quoted) ?? "MODEL.onnx")"] + arguments).joined(separator: " \\\n"))
    return lines.joined(separator: "\n")
  }

  private var table: Table {
    var table = Table([
      ("profiles", .right), (costs.areSeconds ? "ms per call" : "relative time", .right), ("gain", .right),
      ("sizes (share of calls)", .left),
    ])
    let first = proposals.first?.meanSeconds ?? 0
    for (index, proposal) in proposals.enumerated() {
      if index > 0, proposal == proposals[index - 1] { continue }
      let time = costs.areSeconds ? 1000 * proposal.meanSeconds : proposal.meanSeconds / max(first, 1e-300)
      table.add([
        String(proposal.profiles.count), Units.fixed(time, 4),
        index == 0 ? "-" : "\(Units.fixed(gain(proposal), 3))x", proposal.profiles.map(sizes).joined(separator: "; "),
      ])
    }
    return table
  }

  /// Milliseconds by what is tuned for and what runs.
  private func table(of measured: RunCosts.Measured) -> Table {
    func name(_ position: Int) -> String {
      let sizes = space.points[measured.points[position]].sizes
      return space.varying.map { String(sizes[$0]) }.joined(separator: "x")
    }
    let positions = measured.points.indices
    var table = Table([("ms at", .left)] + positions.map { (name($0), .right) })
    table.add(["fixed"] + positions.map { Units.fixed(1000 * measured.fixed[$0], 3) })
    for opt in positions {
      table.add(["range @\(name(opt))"] + positions.map { Units.fixed(1000 * measured.tuned[opt][$0], 3) })
    }
    return table
  }

  private func sizes(_ entry: ProfileProposal.Entry) -> String {
    let varying = space.varying
    let ranges = varying.map { axis in
      let range = Profile.Range(symbol: "", min: entry.min[axis], opt: entry.opt[axis], max: entry.max[axis])
      return "\(space.variables[axis].name)=\(range.sizesText)"
    }
    let share = 100 * Double(entry.callCount) / Double(max(space.observations.callCount, 1))
    return "\(varying.isEmpty ? "all" : ranges.joined(separator: " ")) (\(Units.fixed(share, share < 10 ? 1 : 0)) %)"
  }

  /// In double quotes, as a shell reads it.
  private static func quoted(_ text: String) -> String {
    let isPlain = text.allSatisfy { $0.isLetter || $0.isNumber || "/._-+".contains($0) }
    return isPlain ? text : "\"" + text.map { "\"\\$`".contains($0) ? "\\\($0)" : "\($0)" }.joined() + "\""
  }

  // MARK: JSON

  var json: JSON {
    .object([
      ("calls", .int(space.observations.callCount)), ("shapes", .int(space.observations.observations.count)),
      ("varying", .strings(space.varying.map { space.variables[$0].name })), ("times", .string(costs.source)),
      ("proposed", .int(proposals[enough].profiles.count)), ("measured", costs.measured.map(json) ?? .null),
      (
        "proposals",
        .array(
          proposals.enumerated().map { index, proposal in
            .object([
              ("max_profiles", .int(index + 1)),
              ("ms_per_call", costs.areSeconds ? .number(1000 * proposal.meanSeconds) : .null),
              ("gain", .number(gain(proposal))), ("arguments", .strings(proposal.arguments(space))),
              ("calls", .ints(proposal.profiles.map(\.callCount))),
            ])
          })
      ),
    ])
  }
}

extension AdviceReport {
  private func json(_ measured: RunCosts.Measured) -> JSON {
    func milliseconds(_ seconds: [Double]) -> JSON { .array(seconds.map { .number(1000 * $0) }) }
    return .object([
      ("sizes", .array(measured.points.map { .ints(space.points[$0].sizes) })),
      ("fixed_ms", milliseconds(measured.fixed)), ("ranges_ms_by_opt", .array(measured.tuned.map(milliseconds))),
    ])
  }
}

extension Plan {
  /// Symbols that all plans of an engine fix at one size.
  static func fixedSymbols(_ plans: [Plan]) -> [String: Int] {
    var fixed: [String: Int] = [:]
    for range in plans[0].profile.ranges {
      let isFixed = plans.allSatisfy { plan in
        plan.profile.ranges.contains { $0.symbol == range.symbol && $0.min == range.min && $0.max == range.min }
      }
      if isFixed { fixed[range.symbol] = range.min }
    }
    return fixed
  }

  /// The inputs of an engine's plans together: an axis that some plan leaves open is its symbol. Nil when an axis is fixed
  /// in every plan, at different sizes: then no plan knows the symbol.
  static func mergedInputs(_ plans: [Plan]) -> [(name: String, type: ValueType)]? {
    var inputs: [(name: String, type: ValueType)] = []
    for (index, input) in plans[0].inputs.enumerated() {
      guard let type = input.type.tensor else { continue }
      var shape: Shape = []
      for axis in type.shape.indices {
        let dims = plans.compactMap { $0.inputs[index].type.tensor?.shape[axis] }
        guard let dim = dims.first(where: { !$0.isConstant }) ?? (Set(dims).count == 1 ? dims.first : nil) else {
          return nil
        }
        shape.append(dim)
      }
      inputs.append((input.name, .tensor(TensorType(type.dtype, shape))))
    }
    return inputs
  }
}
