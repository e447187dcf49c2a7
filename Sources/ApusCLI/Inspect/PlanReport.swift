import ApusCore
import ApusPlan
import ApusRuntime

/// One profile of an engine: its ranges, and what a run at opt takes.
struct ProfileRow {
  let profile: Profile
  let stepCount: Int
  /// Nil when the profile leaves sizes open.
  let memory: MemoryForecast?
  /// Bytes of the arena for the largest sizes; nil when they have no limit.
  let largestArena: Int?
  let timings: [Timing]
  /// Inputs whose elements decide sizes.
  private let elements: [Binding]

  init(plan: Plan) {
    profile = plan.profile
    timings = plan.timings
    largestArena = plan.largestArenaByteCount
    stepCount = plan.stepCount
    let values = SymbolValues(plan: plan, shapes: [:])
    elements = plan.inputs.filter { $0.values != nil }
    memory = (try? values.shapes(of: plan.inputTypes)).flatMap { try? plan.memoryForecast(shapes: $0) }
  }

  var ranges: String {
    let named = Set(
      elements.flatMap { $0.values?.indices.map { [name = $0.name] in Symbol.name(ofElement: $0, of: name) } ?? [] })
    let sizes = profile.ranges.filter { !named.contains($0.symbol) }.map { "\($0.symbol)=\($0.sizesText)" }
    let values = elements.map { input in "\(input.name)=[\((input.values ?? []).map(text).joined(separator: ", "))]" }
    return sizes.isEmpty && values.isEmpty ? "all sizes" : (sizes + values).joined(separator: ", ")
  }

  /// An element as its range.
  private func text(_ element: Dim) -> String {
    profile.ranges.first { $0.symbol == element.asSymbol?.name }?.sizesText ?? "\(element)"
  }
}

/// What `apus inspect` says about an engine.
struct PlanReport {
  /// The plan whose steps are shown.
  let plan: Plan
  /// All that the engine has code for.
  let targets: [Fingerprint]
  let profiles: [ProfileRow]
  let tactics: TacticComparison
  let fileByteCount: Int
  /// Sizes to show work and memory at.
  let values: SymbolValues
  let memory: MemoryForecast?

  /// A step with its depth inside loops and branches.
  private struct Row {
    let step: Step
    let depth: Int
  }

  private var rows: [Row] {
    func rows(_ steps: [Step], _ depth: Int) -> [Row] {
      steps.flatMap { step in
        [Row(step: step, depth: depth)] + step.action.nested.flatMap { rows($0, depth + 1) }
      }
    }
    return rows(plan.steps, 0)
  }

  private var symbols: [Symbol] { plan.shapeSymbols }
}

// MARK: Text

extension PlanReport {
  var text: String {
    var sections = [header, bindings]
    if !symbols.isEmpty { sections.append(symbolText) }
    if profiles.count > 1 || !plan.profile.ranges.isEmpty { sections.append(profileText) }
    if !tactics.rows.isEmpty { sections.append(tactics.text) }
    if !plan.pieces.isEmpty { sections.append(pieceText) }
    sections.append(stepText)
    sections.append(memoryText)
    if !plan.metadata.isEmpty {
      sections.append("Metadata\n" + plan.metadata.sorted { $0.key < $1.key }.map(Self.metadataLine).joined())
    }
    return sections.joined(separator: "\n")
  }

  private static func metadataLine(_ entry: (key: String, value: String)) -> String {
    let line = entry.value.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: " ")
    return "  \(entry.key): \(line.count > 100 ? line.prefix(100) + "…" : line)\n"
  }

  private var header: String {
    let mark = plan.fingerprint
    let lines = targets.map { target in
      let features = target.features.isEmpty ? "" : ", with \(target.features.joined(separator: ", "))"
      let isShown = targets.count > 1 && target == mark ? " (shown below)" : ""
      return "  target: \(target.backend) \(target.target)\(features)\(isShown)"
    }
    return """
      Engine \(plan.name) (\(Units.bytes(fileByteCount)))
      \(lines.joined(separator: "\n"))
        fingerprint: format \(mark.format), compiler \(mark.compiler)

      """
  }

  private var bindings: String {
    func lines(_ bindings: [Binding]) -> String {
      bindings.map { binding in
        let values = binding.values.map { ", elements [\($0.map(\.description).joined(separator: ", "))]" } ?? ""
        return "  \(binding.name): \(binding.type)\(values)\n"
      }.joined()
    }
    return "Inputs\n" + lines(plan.inputs) + "Outputs\n" + lines(plan.outputs)
  }

  private var symbolText: String {
    "Symbols\n"
      + symbols.map { symbol in
        "  \(symbol.name): \(symbol.range.text)\n"
      }.joined()
  }

  private var profileText: String {
    "Profiles\n"
      + profiles.map { row in
        let arena = row.memory.map { ", arena \(Units.bytes($0.arenaByteCount)) at opt" } ?? ""
        let device = isElsewhere ? row.memory.map { ", device memory \(Units.bytes($0.deviceByteCount))" } ?? "" : ""
        let largest = row.largestArena.map { ", \(Units.bytes($0)) at most" } ?? ""
        let times = row.timings.map { Units.fixed(1000 * $0.seconds, 3) }.joined(separator: ", ")
        let measured = times.isEmpty ? "" : ", measured \(times) ms"
        return "  \(row.profile.name): \(row.ranges); \(row.stepCount) steps\(arena)\(largest)\(device)\(measured)\n"
      }.joined()
  }

  private var pieceText: String {
    "Pieces\n"
      + plan.pieces.map { piece in
        func lines(_ word: String, _ bindings: [Binding]) -> String {
          bindings.map { "    \(word) \($0.name): \($0.type)\(Self.bounds($0.type))\n" }.joined()
        }
        return "  \(piece.plan.name): \(piece.plan.stepCount) steps\n" + lines("reads", piece.plan.inputs)
          + lines("gives", piece.plan.outputs)
      }.joined()
  }

  /// The bounds of sizes that are expressions.
  private static func bounds(_ type: ValueType) -> String {
    let open = (type.tensor?.shape ?? []).filter { !$0.isConstant }
    if open.isEmpty { return "" }
    return ", " + open.map { "\($0) in \($0.range.text)" }.joined(separator: ", ")
  }

  private var stepText: String {
    let rows = rows
    let hasLanes = rows.contains { $0.step.lane != 0 }
    var table = Table(
      [("#", .right), ("step", .left), ("tactic", .left), ("work", .right), ("traffic", .right)]
        + (hasLanes ? [("lane", .right)] : []) + [("sources", .left)])
    for (index, row) in rows.enumerated() {
      table.add(
        [
          String(index), String(repeating: "  ", count: row.depth) + row.step.name, row.step.tactic,
          amount(row.step.work, "op"), amount(row.step.traffic, "B"),
        ] + (hasLanes ? [String(row.step.lane)] : []) + [Self.sources(row.step)])
    }
    let profile = profiles.count > 1 ? " of profile '\(plan.profile.name)'" : ""
    return "Steps\(profile) (\(rows.count))\n\(table.text)\n"
  }

  private static func sources(_ step: Step) -> String {
    step.sources.count > 3
      ? step.sources.prefix(3).joined(separator: ", ") + ", … (\(step.sources.count))"
      : step.sources.joined(separator: ", ")
  }

  /// An amount at the sizes known, or as an expression of them.
  private func amount(_ dim: Dim, _ unit: String) -> String {
    guard let value = values.evaluate(dim) else {
      let text = dim.description
      return text.count > 24 ? "…" : "\(text) \(unit)"
    }
    if value == 0 { return "-" }
    return unit == "B" ? Units.bytes(value) : Units.count(value)
  }

  /// Whether the engine runs on a device with memory of its own.
  private var isElsewhere: Bool { plan.fingerprint.backend != "cpu" }

  private var memoryText: String {
    let images = Dictionary(grouping: plan.images, by: \.target).sorted { $0.key < $1.key }.map { target, images in
      let count = images.count == 1 ? "" : "\(images.count) for "
      return "\(count)\(target) \(Units.bytes(images.reduce(0) { $0 + $1.bytes.count }))"
    }.joined(separator: ", ")
    var text = "Memory\n  constants: \(Units.bytes(plan.constants.byteCount))\n  images: \(images)\n"
    guard let memory else {
      return text + "  arena: depends on the shapes; give them with --shape\n"
    }
    text += "  arena: \(Units.bytes(memory.arenaByteCount)) (all tensors \(Units.bytes(memory.tensorByteCount)), "
    text += "alive at once at least \(Units.bytes(memory.lowerBoundByteCount)))\n"
    text += "  scratch: \(Units.bytes(memory.scratchByteCount)) per thread\n"
    text += "  inputs: \(Units.bytes(memory.inputByteCount)), outputs: \(Units.bytes(memory.outputByteCount))\n"
    if isElsewhere { text += "  device: \(Units.bytes(memory.deviceByteCount)) for the engine and one context\n" }
    if memory.lateTensorCount > 0 {
      text += "  tensors whose size only a run tells: \(memory.lateTensorCount)\n"
    }
    return text
  }
}

// MARK: JSON

extension PlanReport {
  var json: JSON {
    let mark = plan.fingerprint
    return .object([
      ("kind", .string("engine")), ("name", .string(plan.name)), ("file_bytes", .int(fileByteCount)),
      (
        "fingerprint",
        .object([
          ("format", .int(mark.format)), ("compiler", .string(mark.compiler)), ("backend", .string(mark.backend)),
          ("target", .string(mark.target)), ("features", .strings(mark.features)),
        ])
      ),
      ("targets", .strings(targets.map(\.target))),
      ("metadata", .object(plan.metadata.sorted { $0.key < $1.key }.map { ($0.key, .string($0.value)) })),
      ("inputs", .array(plan.inputs.map { JSON.binding($0.name, $0.type, values: $0.values) })),
      ("outputs", .array(plan.outputs.map { JSON.binding($0.name, $0.type) })),
      ("symbols", .array(symbols.map(JSON.symbol))), ("tactics_that_differ", tactics.json),
      ("pieces", .array(plan.pieces.map(Self.json))),
      ("profiles", .array(profiles.map(Self.json))),
      ("steps", .array(rows.map(json))), ("constant_bytes", .int(plan.constants.byteCount)),
      (
        "images",
        .array(plan.images.map { .object([("target", .string($0.target)), ("bytes", .int($0.bytes.count))]) })
      ),
      ("memory", memory.map(Self.json) ?? .null),
    ])
  }

  private static func json(_ piece: Piece) -> JSON {
    func bindings(_ bindings: [Binding]) -> JSON {
      .array(
        bindings.map { binding in
          let shape = binding.type.tensor?.shape ?? []
          return .object([
            ("name", .string(binding.name)), ("type", .string(binding.type.description)),
            ("bounds", .array(shape.map { .array([.int($0.range.lower), .int($0.range.upper)]) })),
          ])
        })
    }
    return .object([
      ("name", .string(piece.plan.name)), ("steps", .int(piece.plan.stepCount)),
      ("inputs", bindings(piece.plan.inputs)), ("outputs", bindings(piece.plan.outputs)),
    ])
  }

  private static func json(_ row: ProfileRow) -> JSON {
    .object([
      ("name", .string(row.profile.name)), ("steps", .int(row.stepCount)),
      ("arena_bytes", row.memory.map { .int($0.arenaByteCount) } ?? .null),
      ("largest_arena_bytes", row.largestArena.map { .int($0) } ?? .null),
      ("device_bytes", row.memory.map { .int($0.deviceByteCount) } ?? .null),
      ("measured_ms", .array(row.timings.map { .number(1000 * $0.seconds) })),
      (
        "ranges",
        .array(
          row.profile.ranges.map { range in
            .object([
              ("symbol", .string(range.symbol)), ("min", .int(range.min)), ("opt", .int(range.opt)),
              ("max", .int(range.max)),
            ])
          })
      ),
    ])
  }

  private func json(_ row: Row) -> JSON {
    func amount(_ dim: Dim) -> JSON { values.evaluate(dim).map { .int($0) } ?? .string(dim.description) }
    return .object([
      ("name", .string(row.step.name)), ("tactic", .string(row.step.tactic)), ("depth", .int(row.depth)),
      ("lane", .int(row.step.lane)), ("sources", .strings(row.step.sources)), ("work", amount(row.step.work)),
      ("traffic", amount(row.step.traffic)),
    ])
  }

  private static func json(_ memory: MemoryForecast) -> JSON {
    .object([
      ("arena_bytes", .int(memory.arenaByteCount)), ("tensor_bytes", .int(memory.tensorByteCount)),
      ("lower_bound_bytes", .int(memory.lowerBoundByteCount)), ("scratch_bytes", .int(memory.scratchByteCount)),
      ("input_bytes", .int(memory.inputByteCount)), ("output_bytes", .int(memory.outputByteCount)),
      ("device_bytes", .int(memory.deviceByteCount)), ("late_tensors", .int(memory.lateTensorCount)),
    ])
  }
}

extension JSON {
  /// An input or output: name, type in words, and for tensors dtype and shape, of which unknown sizes are expressions.
  static func binding(_ name: String, _ type: ValueType, values: [Dim]? = nil) -> JSON {
    func dims(_ dims: [Dim]) -> JSON {
      .array(dims.map { dim in dim.constantValue.map { .int($0) } ?? .string(dim.description) })
    }
    var members: [(String, JSON)] = [("name", .string(name)), ("type", .string(type.description))]
    if let tensor = type.tensor {
      members.append(("dtype", .string(tensor.dtype.rawValue)))
      members.append(("shape", dims(tensor.shape)))
    }
    if let values { members.append(("values", dims(values))) }
    return .object(members)
  }

  static func symbol(_ symbol: Symbol) -> JSON {
    .object([
      ("name", .string(symbol.name)), ("min", .int(symbol.range.lower)),
      ("max", symbol.range.upper == .max ? .null : .int(symbol.range.upper)),
    ])
  }
}
