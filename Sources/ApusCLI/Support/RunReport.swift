import ApusCore
import ApusTesting

/// An output of a run and how it compares.
struct OutputReport {
  let name: String
  let value: HostValue
  var files: [String] = []
  var comparison: Comparison?

  init(name: String, value: HostValue) {
    self.name = name
    self.value = value
  }

  /// Smallest, mean and largest of the numbers that are finite, and how many are not.
  private var statistics: (min: Double, mean: Double, max: Double, notFinite: Int)? {
    guard let tensor = value.tensor, tensor.dtype != .string else { return nil }
    let numbers = tensor.doubles
    let finite = numbers.filter(\.isFinite)
    guard let least = finite.min(), let most = finite.max() else { return nil }
    return (least, finite.reduce(0, +) / Double(finite.count), most, numbers.count - finite.count)
  }

  private var kind: String { value.tensor?.type.description ?? value.type.description }

  var text: String {
    var line = "  \(name): \(kind)"
    if let statistics {
      line += "  min \(number(statistics.min)), mean \(number(statistics.mean)), max \(number(statistics.max))"
      if statistics.notFinite > 0 { line += ", \(statistics.notFinite) not finite" }
    }
    if case .sequence(let elements, _) = value { line += "  \(elements.count) elements" }
    for file in files { line += "\n    written to \(file)" }
    if let comparison {
      line += "\n    max error \(Units.scientific(comparison.maxAbsolute)), "
      line += "relative \(Units.scientific(comparison.maxRelative)): "
      line +=
        comparison.difference.map { difference in
          "differs in \(comparison.mismatchCount) of \(comparison.elementCount) elements; \(difference)"
        } ?? "equal within tolerance"
    }
    return line
  }

  private func number(_ value: Double) -> String {
    value.magnitude >= 1e-3 && value.magnitude < 1e6 || value == 0
      ? Units.fixed(value, 4) : Units.scientific(value)
  }

  var json: JSON {
    var members: [(String, JSON)] = [("name", .string(name)), ("type", .string(kind))]
    if let tensor = value.tensor {
      members += [("dtype", .string(tensor.dtype.rawValue)), ("shape", .ints(tensor.shape))]
    }
    if let statistics {
      members += [
        ("min", .number(statistics.min)), ("mean", .number(statistics.mean)), ("max", .number(statistics.max)),
        ("not_finite", .int(statistics.notFinite)),
      ]
    }
    if !files.isEmpty { members.append(("files", .strings(files))) }
    if let comparison {
      members += [
        ("max_abs_error", .number(comparison.maxAbsolute)), ("max_rel_error", .number(comparison.maxRelative)),
        ("mismatches", .int(comparison.mismatchCount)), ("equal", .bool(comparison.isEqual)),
        ("difference", comparison.difference.map { .string($0) } ?? .null),
      ]
    }
    return .object(members)
  }
}

/// What `apus run` prints.
struct RunReport {
  let model: String
  let inputs: [InputValues.Entry]
  let outputs: [OutputReport]
  let session: Session
  /// The profile that ran.
  let profile: String
  let duration: Duration

  var text: String {
    var lines = ["Inputs"]
    for input in inputs { lines.append("  \(input.name): \(input.value.type)  \(input.source)") }
    lines.append("Outputs")
    lines += outputs.map(\.text)
    var times = "run \(Units.fixed(Units.milliseconds(duration), 2)) ms, "
    times += "load \(Units.fixed(Units.milliseconds(session.loadTime), 1)) ms"
    if let build = session.buildTime { times += ", build \(Units.fixed(Units.milliseconds(build) / 1000, 1)) s" }
    lines.append(times)
    return lines.joined(separator: "\n")
  }

  var json: JSON {
    .object([
      ("model", .string(model)),
      (
        "inputs",
        .array(
          inputs.map { input in
            .object([
              ("name", .string(input.name)), ("type", .string(input.value.type.description)),
              ("source", .string(input.source)),
            ])
          })
      ),
      ("outputs", .array(outputs.map(\.json))), ("profile", .string(profile)),
      ("run_ms", .number(Units.milliseconds(duration))),
      ("load_ms", .number(Units.milliseconds(session.loadTime))),
      ("build_ms", session.buildTime.map { .number(Units.milliseconds($0)) } ?? .null),
    ])
  }
}
