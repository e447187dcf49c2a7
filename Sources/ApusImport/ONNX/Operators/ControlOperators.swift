import ApusCore
import ApusGraph

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
    let bodies = [try n.body(yes, [], "then"), try n.body(no, [], "else")]
    return try n.emit("if", [:], [condition], bodies: bodies)
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
    let forever = n.constant(HostTensor(.i64, [], int64s: [Int64.max]))
    var trips = forever
    if let given = n.optional(0) { trips = try scalar(n, given, "the trip count") }
    var condition = n.scalar(1, .bool)
    if let given = n.optional(1) { condition = try scalar(n, given, "the condition") }
    var states: [ValueID] = []
    for position in n.inputs.indices.dropFirst(2) { states.append(try n.input(position)) }
    return try loop(n, n.graph("body"), trips: trips, condition: condition, states: states)
  }

  private static func loop(
    _ n: NodeContext, _ proto: Onnx_GraphProto, trips: ValueID, condition: ValueID, states: [ValueID]
  ) throws(ImportError) -> [ValueID] {
    let types =
      [.tensor(TensorType(.i64, [])), .tensor(TensorType(.bool, []))] + states.map { n.builder.graph.type($0) }
    let body = try n.body(proto, types, "body")
    guard body.builder.graph.outputs.count > states.count else {
      throw ImportError(
        "APUS-I-0014", "the body has \(body.builder.graph.outputs.count) outputs for \(states.count) states")
    }
    let attributes: Attributes = ["states": .int(states.count), "count": .dim(Dim(n.freshSymbol(countName(n))))]
    return try n.emit("loop", attributes, [trips, condition] + states, bodies: [body])
  }

  private static func countName(_ n: NodeContext) -> String {
    "\(n.node.output.first { !$0.isEmpty } ?? n.node.opType)_count"
  }

  // MARK: Scan

  /// A scan over axis 0, forwards: other axes and directions are moved there before and back afterwards.
  private static func scan(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    if n.opset < 9 { throw .unsupported("before operator set 9") }
    let inputs = try n.allInputs()
    let proto = try n.graph("body")
    let scannedCount = try n.int("num_scan_inputs")
    guard scannedCount > 0, scannedCount <= inputs.count else {
      throw ImportError("APUS-I-0012", "num_scan_inputs is \(scannedCount) of \(inputs.count) inputs")
    }
    let states = Array(inputs.dropLast(scannedCount))
    let axes = try n.optionalInts("scan_input_axes") ?? []
    let directions = try n.optionalInts("scan_input_directions") ?? []
    var scanned: [ValueID] = []
    var sliceTypes: [ValueType] = []
    for (index, input) in inputs.suffix(scannedCount).enumerated() {
      let rank = try n.shape(input, minimumRank: 1, "a scanned input").count
      let axis = try n.normalized(index < axes.count ? axes[index] : 0, rank: rank)
      let moved = try move(n, input, from: axis, to: 0)
      let isReverse = index < directions.count && directions[index] == 1
      scanned.append(isReverse ? try reversed(n, moved) : moved)
      let type = try n.type(moved)
      sliceTypes.append(.tensor(type.with(shape: Array(type.shape.dropFirst()))))
    }
    let types = states.map { n.builder.graph.type($0) } + sliceTypes
    let body = try n.body(proto, types, "body")
    let attributes: Attributes = ["states": .int(states.count), "scanned": .int(scannedCount)]
    let results = try n.emit("scan", attributes, states + scanned, bodies: [body])
    return try arranged(n, results, after: states.count)
  }

  private static func arranged(
    _ n: NodeContext, _ results: [ValueID], after states: Int
  ) throws(ImportError) -> [ValueID] {
    let axes = try n.optionalInts("scan_output_axes") ?? []
    let directions = try n.optionalInts("scan_output_directions") ?? []
    var arranged = results
    for index in results.indices.dropFirst(states) {
      let output = index - states
      let isReverse = output < directions.count && directions[output] == 1
      let value = isReverse ? try reversed(n, results[index]) : results[index]
      let axis = try n.normalized(output < axes.count ? axes[output] : 0, rank: n.rank(value))
      arranged[index] = try move(n, value, from: 0, to: axis)
    }
    return arranged
  }

  private static func move(_ n: NodeContext, _ x: ValueID, from: Int, to: Int) throws(ImportError) -> ValueID {
    var order = Array(0..<(try n.rank(x)))
    order.remove(at: from)
    order.insert(from, at: to)
    return try n.transpose(x, order)
  }

  private static func reversed(_ n: NodeContext, _ x: ValueID) throws(ImportError) -> ValueID {
    let size = try n.shape(x)[0]
    return try n.slice(x, axis: 0, start: Dim.maximum(size - 1, 0), size: size, step: -1)
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
    let scope = n.scope.child(inner, path: "\(n.scope.path)\(n.node.name)/body/")
    let index = inner.graph.addInput("index", .tensor(TensorType(.i64, [])))
    let condition = inner.graph.addInput("condition", .tensor(TensorType(.bool, [])))
    let context = NodeContext(scope: scope, node: n.node, inputs: [], attributes: [:])
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
      states.append(try n.emit("sequence_empty", ["dtype": .dtype(type.dtype), "shape": .dims(SequenceOperators.anySizes(type))]))
      let state = inner.graph.addInput("collected", .sequence(.tensor(type.with(shape: SequenceOperators.anySizes(type)))))
      stateInputs.append(state)
      outputs.append(try context("sequence_insert", state, result))
    }
    let captured = inner.captures.map { inner.capture($0) }
    inner.graph.inputs = [index, condition] + stateInputs + captured
    inner.graph.outputs = outputs
    inner.graph.outputNames = outputs.indices.map { "output_\($0)" }
    let body = NodeContext.Body(builder: inner, ownInputCount: 2 + states.count)
    let trips = try n("sequence_length", inputs[0])
    let attributes: Attributes = ["states": .int(states.count), "count": .dim(Dim(n.freshSymbol(countName(n))))]
    return try n.emit("loop", attributes, [trips, n.scalar(1, .bool)] + states, bodies: [body])
  }
}
