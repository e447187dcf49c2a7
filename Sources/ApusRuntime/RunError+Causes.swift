package import ApusCore
package import ApusPlan

/// What can go wrong in a call. Codes: `0001` missing input, `0002` unknown name, `0003` element type, `0004` rank,
/// `0005` size, `0006` sizes that contradict each other, `0007` range, `0008` profile, `0009` a size that nothing tells,
/// `0010` memory, `0011` caller's memory, `0012` a size used before it is set, `0013` view, `0014` host call,
/// `0015` size set while running, `0016` loop, `0017` copy, `0018` missing host value, `0022` workspace, `0023` sizes
/// without limit.
extension RunError {
  static func tooLarge(_ byteCount: Int, _ what: String, limit: Int) -> RunError {
    RunError(
      "APUS-R-0010",
      "\(byteCount == .max ? "more than 2^63" : String(byteCount)) bytes are needed, the machine has \(limit)",
      place: what, hint: "Run smaller shapes.")
  }

  static func badSize(_ program: Program, slot: Int, _ values: UnsafeMutablePointer<Int>) -> RunError {
    let record = program.slots[slot]
    let sizes = record.shape.map { values[$0] == DimProgram.unknown ? "?" : String(values[$0]) }
    let unknown = record.shape.contains { values[$0] == DimProgram.unknown }
    return RunError(
      "APUS-R-0012", "\(program.plan.slots[slot].type) has the sizes [\(sizes.joined(separator: ", "))]",
      place: "slot '\(program.plan.slots[slot].name)'",
      hint: unknown ? "A size is used before a step sets it." : "A size is negative for these input shapes.")
  }

  static func badSymbol(_ symbol: Symbol, _ value: Int, place: String) -> RunError {
    RunError(
      "APUS-R-0015",
      "the size '\(symbol.name)' becomes \(value), its range is \(symbol.range.text)",
      place: place)
  }

  static func smallWorkspace(found: Int?, needed: Int) -> RunError {
    RunError(
      "APUS-R-0022", "\(needed) bytes are needed, \(found.map { "\($0) are given" } ?? "none are given")",
      place: "the workspace", hint: "Ask the engine's workspaceByteCount and set that much with use(workspace:).")
  }

  static func openSizes(_ names: [String], _ profile: Profile) -> RunError {
    RunError(
      "APUS-R-0023",
      "there is no largest size of \(names.map { "'\($0)'" }.joined(separator: ", ")), so memory cannot be reserved for all",
      place: "profile '\(profile.name)'", hint: "Give the profile a range, or reserve memory as needed.")
  }

  static func outsideView(
    _ program: Program, slot: Int, offset: Int, _ byteCount: Int, of viewed: Int
  ) -> RunError {
    RunError(
      "APUS-R-0013", "\(byteCount) bytes at \(offset) are outside the \(viewed) bytes it is a view of",
      place: "slot '\(program.plan.slots[slot].name)'")
  }

  static func badLaunch(_ program: Program, _ launch: LaunchRecord, blocks: Int, scratch: Int) -> RunError {
    RunError(
      "APUS-R-0012", "the launch has \(blocks) blocks and \(scratch) bytes of scratch",
      place: "step \(launch.step)")
  }

  static func badLaunch(_ program: Program, _ launch: LaunchRecord, parameter: Int) -> RunError {
    RunError(
      "APUS-R-0012", "argument \(parameter - launch.firstParameter) is used before a step sets it",
      place: "step \(launch.step)")
  }

  static func badCall(_ program: Program, _ call: CallRecord, _ sizes: [Int]) -> RunError {
    let types = call.call.buffers.map { "\(program.plan.slots[$0].type)" }.joined(separator: ", ")
    return RunError(
      "APUS-R-0012",
      "\(call.call.library.name) is called for the sizes \(sizes), which tensors of \(types) do not have",
      place: "step \(call.step)")
  }

  init(device error: DeviceError) { self.init(problems: error.problems) }

  /// Does something with a device, whose problems become a run's.
  static func of<Result>(_ body: () throws(DeviceError) -> Result) throws(RunError) -> Result {
    do { return try body() } catch { throw RunError(device: error) }
  }
}

// MARK: Inputs

extension RunError {
  static func missingInput(_ input: Binding) -> Diagnostic {
    Diagnostic("APUS-R-0001", "the input is not given; its type is \(input.type)", place: "input '\(input.name)'")
  }

  static func unknownInput(_ name: String, _ plan: Plan) -> Diagnostic {
    let names = plan.inputs.map { "'\($0.name)'" }.joined(separator: ", ")
    return Diagnostic(
      "APUS-R-0002", "the model has no such input", place: "input '\(name)'",
      hint: names.isEmpty ? "It has none." : "Its inputs are \(names).")
  }

  static func unknownOutput(_ name: String, _ plan: Plan) -> RunError {
    let names = plan.outputs.map { "'\($0.name)'" }.joined(separator: ", ")
    return RunError(
      "APUS-R-0002", "the model has no such output", place: "output '\(name)'", hint: "Its outputs are \(names).")
  }

  static func unknownProfile(_ selection: ProfileSelection, _ profiles: [Profile]) -> RunError {
    let offers = profiles.enumerated().map { "\($0) '\($1.name)'" }.joined(separator: ", ")
    return RunError(
      "APUS-R-0020", "the engine has no profile \(selection)", place: "profile", hint: "There are \(offers).")
  }

  /// Names every input with the sizes given and those that each profile takes.
  package static func noProfileFits(
    _ shapes: [String: [Int]], values: [String: [Int]] = [:], _ plans: [Plan]
  ) -> RunError {
    var lines: [String] = []
    for (index, input) in plans[0].inputs.enumerated() {
      if let found = shapes[input.name] {
        let offers = offers(plans) { $0.inputs[index].type.tensor?.shape ?? [] }
        lines.append("input '\(input.name)' is \(found), the profiles take \(offers)")
      }
      if let found = values[input.name], !found.contains(DimProgram.unknown) {
        let offers = offers(plans) { $0.inputs[index].values ?? [] }
        lines.append("input '\(input.name)' holds \(found), the profiles take \(offers)")
      }
    }
    return RunError(
      "APUS-R-0008", "no profile holds these \(values.isEmpty ? "shapes" : "inputs"): \(lines.joined(separator: "; "))",
      place: "inputs", hint: "Change the shapes, or build the engine with a profile for them.")
  }

  private static func offers(_ plans: [Plan], _ dims: (Plan) -> [Dim]) -> String {
    plans.map { "'\($0.profile.name)' [\(dims($0).map(\.rangeText).joined(separator: ", "))]" }.joined(separator: ", ")
  }

  /// The same problems of inputs, the first with what each profile takes.
  func offering(_ plans: [Plan]) -> RunError {
    guard var first = problems.first, ["APUS-R-0005", "APUS-R-0007"].contains(first.code) else { return self }
    var lines: [String] = []
    for (index, input) in plans[0].inputs.enumerated() {
      let shapes = Self.offers(plans) { $0.inputs[index].type.tensor?.shape ?? [] }
      if !input.holdsObject { lines.append("'\(input.name)' \(shapes)") }
      if input.values != nil {
        lines.append("values of '\(input.name)' \(Self.offers(plans) { $0.inputs[index].values ?? [] })")
      }
    }
    first.hint = "The profiles take: \(lines.joined(separator: "; "))."
    return RunError(problems: [first] + problems.dropFirst())
  }

  static func badType(_ input: Binding, found: String) -> Diagnostic {
    Diagnostic("APUS-R-0003", "\(found) is given, \(input.type) is expected", place: "input '\(input.name)'")
  }

  /// The problem when the number of axes differs or a size is negative.
  static func badShape(_ input: Binding, _ type: TensorType, _ shape: [Int]) -> Diagnostic? {
    if shape.count != type.rank {
      return Diagnostic(
        "APUS-R-0004", "the shape \(shape) has \(shape.count) axes, \(type) has \(type.rank)",
        place: "input '\(input.name)'")
    }
    for axis in 0..<shape.count where shape[axis] < 0 {
      return Diagnostic("APUS-R-0005", "the shape \(shape) has a negative size", place: "input '\(input.name)'")
    }
    return nil
  }

  static func smallMemory(_ place: String, found: Int, needed: Int) -> RunError {
    RunError("APUS-R-0011", "the memory given has \(found) bytes, \(needed) are needed", place: place)
  }

  static func misaligned(_ place: String, alignment: Int) -> RunError {
    RunError("APUS-R-0011", "the memory given is not aligned to \(alignment) bytes", place: place)
  }
}

extension Dim {
  /// A size as the user knows it: its value, or its text with the values it can have.
  fileprivate var rangeText: String {
    if let value = constantValue { return String(value) }
    return "\(self)=\(range.text)"
  }
}
