import Apus
import ApusCore
import ApusPlan
import ApusRuntime

/// The part of trtexec that runs an engine.
struct TrtexecRun {
  let session: Session
  let request: TrtexecRequest
  let profile: ProfileSelection?

  func run(_ say: (String) -> Void) throws {
    let inputs = try inputs(say)
    let engine = session.engine
    let context = try engine.makeContext(captures: !request.has("noCudaGraph"))
    for input in inputs { try context.bind(input: input.name, to: input.value) }
    try context.run(profile: profile)
    let plan = engine.plans[context.activeProfile]
    let outputs = try plan.outputs.map { ($0.name, try context.output($0.name)) }
    let isHost = engine.device.sharesHostMemory
    if !isHost { try Self.bindBuffers(engine, context, plan, inputs, outputs) }
    say("Starting inference")
    let times = try TrtexecTimes(context, profile, request, isHost: isHost)
    if request.has("verbose") { for line in times.averages(of: request.averagedRuns) { say(line) } }
    for line in times.summary(request.percentiles) { say(line) }
    try report(plan, outputs, times, say)
    if request.has("dumpProfile") || request.has("exportProfile") { try profileLayers(context, plan, say) }
  }

  /// Inputs from raw files, the others random; sizes that nothing says are 1.
  private func inputs(_ say: (String) -> Void) throws -> [InputValues.Entry] {
    let plan = session.plan
    var shapes: [String: [Int]] = [:]
    if let text = request.values["shapes"] {
      for input in try ShapeFlags.profiles(of: [(.all, text)]).flatMap(\.inputs) { shapes[input.name] = input.min }
    }
    for input in plan.inputs {
      guard shapes[input.name] == nil, let type = input.type.tensor,
        SymbolValues(plan: plan, shapes: shapes).sizes(of: type) == nil
      else { continue }
      let shape = type.shape.map { $0.constantValue ?? 1 }
      say(
        "Dynamic dimensions required for input: \(input.name), but no shapes were provided. Automatically overriding shape "
          + "to: \(shape.map(String.init).joined(separator: "x"))")
      shapes[input.name] = shape
    }
    let made = try InputValues(files: [], seed: 0, plan: plan, shapes: shapes).entries
    let files = try rawFiles()
    return try made.map { entry in
      guard let path = files[entry.name], let tensor = entry.value.tensor else { return entry }
      let file = try MappedFile(path: path)
      guard file.bytes.count == tensor.byteCount else {
        throw UsageError(
          "APUS-C-0037", "\(file.bytes.count) bytes, \(tensor.byteCount) are needed for \(tensor.type)", place: path)
      }
      let value = HostTensor(tensor.dtype, tensor.shape) { bytes in bytes.copyMemory(from: file.bytes) }
      return InputValues.Entry(name: entry.name, value: .tensor(value), source: path)
    }
  }

  /// `NAME:FILE,…` of --loadInputs.
  private func rawFiles() throws(UsageError) -> [String: String] {
    var files: [String: String] = [:]
    for item in (request.values["loadInputs"] ?? "").split(separator: ",") {
      let parts = item.split(separator: ":")
      guard parts.count > 1, let file = parts.last else {
        throw UsageError("APUS-C-0037", "'\(item)' is not NAME:FILE", place: "--loadInputs")
      }
      let name = parts.dropLast().joined(separator: ":").filter { $0 != "'" }
      if !session.plan.inputs.contains(where: { $0.name == name }) {
        throw UsageError(
          "APUS-C-0002", "the model has no input '\(name)'", place: "--loadInputs",
          hint: Spelling.hint(for: name, in: session.plan.inputs.map(\.name)))
      }
      files[name] = String(file)
    }
    return files
  }

  /// Inputs and outputs in the device's memory; what decides sizes stays with the host.
  private static func bindBuffers(
    _ engine: Engine, _ context: borrowing ExecutionContext, _ plan: Plan, _ inputs: [InputValues.Entry],
    _ outputs: [(String, HostValue)]
  ) throws {
    for input in inputs {
      guard let tensor = input.value.tensor, tensor.dtype != .string,
        plan.inputs.first(where: { $0.name == input.name })?.values == nil
      else { continue }
      try context.bind(input: input.name, to: try engine.makeBuffer(tensor), shape: tensor.shape)
    }
    for (name, value) in outputs {
      guard let tensor = value.tensor, tensor.dtype != .string else { continue }
      try context.bind(output: name, to: try engine.makeBuffer(byteCount: tensor.byteCount))
    }
  }

  // MARK: Reports

  private func report(
    _ plan: Plan, _ outputs: [(String, HostValue)], _ times: TrtexecTimes, _ say: (String) -> Void
  ) throws {
    let tensors = outputs.compactMap { name, value in value.tensor.map { (name, $0) } }.filter { $0.1.dtype != .string }
    if request.has("dumpOutput") {
      say("Output Tensors:")
      for (name, tensor) in tensors {
        say("\(name): (\(Self.sizes(tensor)))")
        print(tensor.doubles.map { "\($0)" }.joined(separator: " "))
      }
    }
    if request.has("dumpLayerInfo") {
      say("Layer Information:")
      print(Self.layers(plan))
    }
    try export("exportTimes", .array(times.times.map(\.json)))
    try export("exportLayerInfo", Self.layers(plan))
    try export(
      "exportOutput",
      .array(
        tensors.map { name, tensor in
          .object([
            ("name", .string(name)), ("dimensions", .string(Self.sizes(tensor))),
            ("values", .array(tensor.doubles.map { .number($0) })),
          ])
        }))
  }

  private func export(_ flag: String, _ json: @autoclosure () -> JSON) throws {
    guard let path = request.values[flag] else { return }
    try AtomicFile.write(Array((json().description + "\n").utf8), to: path)
  }

  private static func sizes(_ tensor: HostTensor) -> String {
    tensor.shape.map(String.init).joined(separator: "x")
  }

  private static func layers(_ plan: Plan) -> JSON {
    var layers: [JSON] = []
    plan.eachStep { step, plan in
      let access = plan.access(of: step)
      layers.append(
        .object([
          ("Name", .string(step.sources.isEmpty ? step.name : step.sources.joined(separator: " + "))),
          ("LayerType", .string(step.name)), ("Inputs", tensors(plan, access?.reads ?? [])),
          ("Outputs", tensors(plan, access?.writes ?? [])), ("TacticName", .string(step.tactic)),
          ("StreamId", .int(step.lane)), ("Metadata", .string(step.sources.joined(separator: "\u{1E}"))),
        ]))
    }
    return .object([
      ("Layers", .array(layers)), ("I/O Tensors", .strings(plan.inputs.map(\.name) + plan.outputs.map(\.name))),
    ])
  }

  /// Tensors as trtexec lists them, sizes that are not known before running as -1.
  private static func tensors(_ plan: Plan, _ slots: [Int]) -> JSON {
    .array(
      slots.filter(plan.slots.indices.contains).map { index in
        let slot = plan.slots[index]
        let shape = slot.type.tensor?.shape ?? []
        return .object([
          ("Name", .string(slot.name.isEmpty ? "slot \(index)" : slot.name)),
          ("Dimensions", .array(shape.map { .int($0.constantValue ?? -1) })),
          ("Format/Datatype", .string(slot.type.tensor.map { "\($0.dtype)" } ?? "\(slot.type)")),
        ])
      })
  }

  /// A run of its own in which every step is timed.
  private func profileLayers(
    _ context: borrowing ExecutionContext, _ plan: Plan, _ say: (String) -> Void
  ) throws {
    let profiler = LayerProfiler(plan: plan)
    context.time(context.activeProfile, with: profiler)
    defer { context.time(context.activeProfile, with: nil) }
    for _ in 0..<max(request.iterations, 10) { try context.run(profile: profile) }
    let layers = profiler.layers.filter { $0.depth == 0 }.map { layer in
      (
        name: layer.sources.isEmpty ? layer.name : layer.sources.joined(separator: " + "),
        ms: Units.milliseconds(layer.median)
      )
    }
    let runs = Double(profiler.runCount)
    let total = max(layers.reduce(0) { $0 + $1.ms }, 1e-12)
    if request.has("dumpProfile") {
      say("=== Profile (\(profiler.runCount) iterations ) ===")
      say("   Time(ms)     Avg.(ms)   Median(ms)   Time(%)   Layer")
      for layer in layers {
        let columns = [(layer.ms * runs, 2), (layer.ms, 4), (layer.ms, 4), (100 * layer.ms / total, 1)]
        let text = columns.map { value, digits in
          let text = Units.fixed(value, digits)
          return String(repeating: " ", count: max(0, 11 - text.count)) + text
        }
        say(text.joined(separator: "  ") + "   " + layer.name)
      }
    }
    let records = layers.map { layer in
      JSON.object([
        ("name", .string(layer.name)), ("timeMs", .number(layer.ms * runs)), ("averageMs", .number(layer.ms)),
        ("medianMs", .number(layer.ms)), ("percentage", .number(100 * layer.ms / total)),
      ])
    }
    try export("exportProfile", .array([.object([("count", .int(profiler.runCount))])] + records))
  }
}
