import ApusCore
import ApusGraph
import ApusOps

/// Branches and loops.
enum ControlOperators {
  static let table: [String: Lowering] = ["If": branch, "Loop": loop, "Scan": scan, "SequenceMap": sequenceMap]

  /// A branch whose condition is known is inlined; else both become bodies.
  private static func branch(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let condition = try scalar(n, n.input(0), "the condition")
    let (yes, no) = (try n.graph("then_branch"), try n.graph("else_branch"))
    if let isTrue = n.knownDims(condition)?.first?.constantValue {
      return isTrue != 0 ? try n.inline(yes, [], "then") : try n.inline(no, [], "else")
    }
    var bodies = try branches(n, yes, no)
    try matchSingles(n, bodies)
    do { try checkRanks(n, bodies) } catch {
      // "Squeeze where the size is 1": later nodes need the rank of the case that is tested for.
      guard isEquality(condition, n.builder.graph) else { throw error }
      bodies[1] = try failing(n, like: bodies[0], error)
    }
    return try n.emit([condition], bodies: bodies) { If(symbols: $1, bodies: $0) }
  }

  /// Both branches as bodies. One that cannot be computed for the sizes given becomes a failure when it runs: models keep
  /// branches for other sizes than those they are used with.
  private static func branches(
    _ n: NodeContext, _ yes: Onnx_GraphProto, _ no: Onnx_GraphProto
  ) throws(ImportError) -> [NodeContext.Body] {
    let first = try n.session.attempt { () throws(ImportError) in try n.body(yes, [], "then") }
    let second = try n.session.attempt { () throws(ImportError) in try n.body(no, [], "else") }
    switch (first, second) {
    case (.success(let a), .success(let b)): return [a, b]
    case (.success(let a), .failure(let error)): return [a, try failing(n, like: a, error)]
    case (.failure(let error), .success(let b)): return [try failing(n, like: b, error), b]
    case (.failure(let a), .failure(let b)): throw ImportError(problems: a.problems + b.problems)
    }
  }

  /// A body that gives results like those of `other` and fails when it runs.
  private static func failing(
    _ n: NodeContext, like other: NodeContext.Body, _ error: ImportError
  ) throws(ImportError) -> NodeContext.Body {
    let inner = GraphBuilder(parent: n.builder)
    for output in other.builder.graph.outputs {
      guard let type = other.builder.graph.type(output).tensor else { throw error }
      let message = "this branch cannot be computed for the sizes the model was built with: \(error)"
      do { inner.graph.outputs += try inner.graph.add(Fail(message, type), [], name: n.node.name) } catch {
        throw ImportError(problems: error.problems)
      }
    }
    inner.graph.outputNames = other.builder.graph.outputNames
    return NodeContext.Body(builder: inner, ownInputCount: 0)
  }

  /// Whether a condition is an equality, seen through reshapes.
  private static func isEquality(_ condition: ValueID, _ graph: Graph) -> Bool {
    var value = condition
    while let producer = graph.producer(value) {
      let node = graph[producer]
      if node.op.name == "equal" { return true }
      guard node.op.isView, let input = node.inputs.first else { return false }
      value = input
    }
    return false
  }

  /// Gives single elements of the first branch the rank that the second gives them.
  private static func matchSingles(_ n: NodeContext, _ bodies: [NodeContext.Body]) throws(ImportError) {
    let (yes, no) = (bodies[0].builder.graph, bodies[1].builder.graph)
    for (index, (a, b)) in zip(yes.outputs, no.outputs).enumerated() {
      guard let a = yes.type(a).tensor, let b = no.type(b).tensor, a.rank != b.rank, a.elementCount == 1,
        b.elementCount == 1
      else { continue }
      bodies[0].builder.graph.outputs[index] = try n.inner(bodies[0], "then").reshape(yes.outputs[index], b.shape)
    }
  }

  /// A value has one rank: where the branches give two, the condition must be decided when the model is read.
  private static func checkRanks(_ n: NodeContext, _ bodies: [NodeContext.Body]) throws(ImportError) {
    let (yes, no) = (bodies[0].builder.graph, bodies[1].builder.graph)
    for (a, b) in zip(yes.outputs, no.outputs) {
      guard let a = yes.type(a).tensor, let b = no.type(b).tensor, a.rank != b.rank else { continue }
      throw ImportError(
        "APUS-I-0015",
        "the branches give \(a) and \(b), of different rank, so the condition must be known when the "
          + "model is read",
        hint: "Give the sizes that decide it with --shape.")
    }
  }

  /// A tensor of one element as one of rank 0.
  private static func scalar(_ n: NodeContext, _ id: ValueID, _ what: String) throws(ImportError) -> ValueID {
    let count = try n.type(id).elementCount
    if let count = count.constantValue, count != 1 {
      throw ImportError("APUS-I-0013", "\(what) has \(count) elements, 1 is expected")
    }
    return try n.reshape(id, [])
  }

  private static func loop(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    var trips = n.scalar(-1, .i64)
    if let given = n.optional(0) { trips = try n("max", scalar(n, given, "the trip count"), n.scalar(0, .i64)) }
    var condition = n.scalar(1, .bool)
    if let given = n.optional(1) { condition = try scalar(n, given, "the condition") }
    var states: [ValueID] = []
    for position in n.inputs.indices.dropFirst(2) { states.append(try n.input(position)) }
    let head: [ValueType] = [.tensor(TensorType(.i64, [])), .tensor(TensorType(.bool, []))]
    let types = states.map { n.builder.graph.type($0) }
    let body = try stableBody(n, head: head, states: types, slices: [], leading: 1)
    let wrapped = try wrapOptionals(n, body, states: types)
    var results = try n.emit([trips, condition] + states, bodies: [body]) {
      Loop(carried: states.count, symbols: $1, body: $0[0])
    }
    for position in wrapped { results[position] = try SequenceOperators.unwrapped(n, results[position]) }
    return results
  }

  /// Wraps what a body gives for states that are optional into optionals; the positions of these states.
  private static func wrapOptionals(
    _ n: NodeContext, _ body: NodeContext.Body, states: [ValueType]
  ) throws(ImportError) -> [Int] {
    var wrapped: [Int] = []
    let context = n.inner(body, "wrap")
    for (position, state) in states.enumerated() {
      let output = body.builder.graph.outputs[1 + position]
      guard case .optional = state else { continue }
      if case .optional = body.builder.graph.type(output) { continue }
      body.builder.graph.outputs[1 + position] = try SequenceOperators.wrapped(context, output)
      wrapped.append(position)
    }
    return wrapped
  }

  /// The node's body for states of these types; sizes that change from one iteration to the next become symbols of the
  /// body's own.
  private static func stableBody(
    _ n: NodeContext, head: [ValueType], states: [ValueType], slices: [ValueType], leading: Int
  ) throws(ImportError) -> NodeContext.Body {
    let proto = try n.graph("body")
    let first = try n.body(proto, head + states + slices, "body")
    let outputs = first.builder.graph.outputs.dropFirst(leading)
    guard outputs.count >= states.count else {
      throw ImportError("APUS-I-0014", "the body has too few outputs for \(states.count) states")
    }
    var widened: [ValueType] = []
    for (state, output) in zip(states, outputs) {
      widened.append(try opened(n, state, first.builder.graph.type(output)))
    }
    return widened == states ? first : try n.body(proto, head + widened + slices, "body")
  }

  /// The type of a state with fresh symbols for the sizes that differ after one iteration.
  private static func opened(
    _ n: NodeContext, _ before: ValueType, _ after: ValueType
  ) throws(ImportError) -> ValueType {
    switch (before, after) {
    case (.tensor(let a), .tensor(let b)) where a.rank == b.rank:
      let shape = zip(a.shape, b.shape).map { $0 == $1 ? $0 : Dim(n.freshSymbol("state")) }
      return .tensor(a.with(shape: shape))
    case (.sequence, .sequence): return after
    // The body's result becomes an optional as well, see `wrapOptionals`.
    case (.optional, .tensor(let type)): return .optional(.tensor(type.with(shape: SequenceOperators.anySizes(type))))
    case (.optional, .sequence(.tensor(let type))):
      return .optional(.sequence(.tensor(type.with(shape: SequenceOperators.anySizes(type)))))
    default: return before
    }
  }

  // MARK: Scan

  private static func scan(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    if n.opset < 9 { return try batchedScan(n) }
    return try scan(n, n.allInputs(), directions: "scan_input_directions")
  }

  /// Scan of operator set 8, whose values have a batch as first axis: a scan over the batch whose body is the scan of one entry.
  private static func batchedScan(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    if n.optional(0) != nil { throw .unsupported("with lengths of the sequences") }
    let inputs = n.inputs.dropFirst().compactMap { $0 }
    guard inputs.count == n.inputs.count - 1, !inputs.isEmpty else {
      throw ImportError("APUS-I-0014", "at least one state or sequence is needed and none may be left out")
    }
    let inner = GraphBuilder(parent: n.builder)
    var entries: [ValueID] = []
    for input in inputs {
      var type = try n.type(input)
      _ = try n.normalized(0, rank: type.rank)
      type.shape.removeFirst()
      entries.append(inner.graph.addInput("entry", .tensor(type)))
    }
    let body = NodeContext.Body(builder: inner, ownInputCount: entries.count)
    inner.graph.outputs = try scan(n.inner(body, "entry"), entries, directions: "directions")
    inner.graph.outputNames = inner.graph.outputs.indices.map { "output_\($0)" }
    let (zeros, resultZeros) = (inputs.map { _ in 0 }, inner.graph.outputs.map { _ in 0 })
    return try n.emit(inputs, bodies: [body]) {
      Scan(
        states: 0, inputAxes: zeros, inputDirections: zeros, outputAxes: resultZeros, outputDirections: resultZeros,
        symbols: $1, body: $0[0])
    }
  }

  private static func scan(
    _ n: NodeContext, _ inputs: [ValueID], directions: String
  ) throws(ImportError) -> [ValueID] {
    let count = try n.int("num_scan_inputs")
    guard count > 0, count <= inputs.count else {
      throw ImportError("APUS-I-0012", "num_scan_inputs is \(count) of \(inputs.count) inputs")
    }
    var axes = padded(try n.optionalInts("scan_input_axes"), to: count)
    var slices: [ValueType] = []
    for (index, input) in inputs.suffix(count).enumerated() {
      var type = try n.type(input)
      axes[index] = try n.normalized(axes[index], rank: type.rank)
      type.shape.remove(at: axes[index])
      slices.append(.tensor(type))
    }
    let states = inputs.dropLast(count).map { n.builder.graph.type($0) }
    let body = try stableBody(n, head: [], states: states, slices: slices, leading: 0)
    let stacked = body.builder.graph.outputs.dropFirst(states.count)
    var outputAxes = padded(try n.optionalInts("scan_output_axes"), to: stacked.count)
    for (index, output) in stacked.enumerated() {
      let rank = (body.builder.graph.type(output).tensor?.rank ?? 0) + 1
      outputAxes[index] = try n.normalized(outputAxes[index], rank: rank)
    }
    let inputDirections = padded(try n.optionalInts(directions), to: count)
    let outputDirections = padded(try n.optionalInts("scan_output_directions"), to: stacked.count)
    return try n.emit(inputs, bodies: [body]) {
      Scan(
        states: states.count, inputAxes: axes, inputDirections: inputDirections, outputAxes: outputAxes,
        outputDirections: outputDirections, symbols: $1, body: $0[0])
    }
  }

  /// The list with zeros for what is missing.
  private static func padded(_ values: [Int]?, to count: Int) -> [Int] {
    let given = values ?? []
    return (0..<count).map { $0 < given.count ? given[$0] : 0 }
  }

  // MARK: SequenceMap

  /// Applies a sub-graph to every element of sequences: a loop whose states are the result sequences.
  private static func sequenceMap(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let proto = try n.graph("body")
    let inputs = try n.allInputs()
    guard case .sequence = n.builder.graph.type(inputs[0]) else {
      throw ImportError("APUS-I-0013", "the first input must be a sequence")
    }
    let inner = GraphBuilder(parent: n.builder)
    let index = inner.graph.addInput("index", .tensor(TensorType(.i64, [])))
    let condition = inner.graph.addInput("condition", .tensor(TensorType(.bool, [])))
    let context = n.inner(NodeContext.Body(builder: inner, ownInputCount: 0), "body")
    var arguments: [ValueID] = []
    for input in inputs {
      let own = inner.capture(input)
      if case .sequence(let element) = inner.graph.type(own) {
        arguments.append(try SequenceOperators.element(context, own, at: index, element))
      } else {
        arguments.append(own)
      }
    }
    let results = try context.inline(proto, arguments, "element")
    var states: [ValueID] = []
    var stateInputs: [ValueID] = []
    var outputs = [condition]
    for result in results {
      let type = try context.type(result)
      states.append(
        try n.emit("sequence_empty", ["dtype": .dtype(type.dtype), "shape": .dims(SequenceOperators.anySizes(type))]))
      let state = inner.graph.addInput(
        "collected", .sequence(.tensor(type.with(shape: SequenceOperators.anySizes(type)))))
      stateInputs.append(state)
      outputs.append(try context("sequence_insert", state, result))
    }
    let captured = inner.captures.map { inner.capture($0) }
    inner.graph.inputs = [index, condition] + stateInputs + captured
    inner.graph.outputs = outputs
    inner.graph.outputNames = outputs.indices.map { "output_\($0)" }
    let body = NodeContext.Body(builder: inner, ownInputCount: 2 + states.count)
    let trips = try n("sequence_length", inputs[0])
    return try n.emit([trips, n.scalar(1, .bool)] + states, bodies: [body]) {
      Loop(carried: states.count, symbols: $1, body: $0[0])
    }
  }
}
