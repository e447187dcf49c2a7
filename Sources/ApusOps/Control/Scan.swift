package import ApusCore
package import ApusGraph

/// Runs a sub-graph over slices of its operands, carrying states along.
///
/// - Shapes: states…, scanned values…, captured values… → the states at the end, then what each step gave beyond them,
///   stacked along `output_axes`. The body takes states, one slice of each scanned value (without the axis of
///   `input_axes`) and captured values and gives states and what to stack. A direction of 1 runs from the end.
///   Sizes made of symbols that the body binds are symbols of `symbols`, as for ``Loop``.
/// - Throws: ``ShapeError`` `APUS-S-0209` when a state changes its type.
/// - Source: ONNX Scan-21.
package struct Scan: ControlOperation {
  package var states: Int
  package var inputAxes: [Int]
  package var inputDirections: [Int]
  package var outputAxes: [Int]
  package var outputDirections: [Int]
  package var symbols: [Dim] = []
  package private(set) var bodies: [Graph] = []

  package init(
    states: Int, inputAxes: [Int], inputDirections: [Int], outputAxes: [Int], outputDirections: [Int], symbols: [Dim],
    body: Graph
  ) {
    self.states = states
    self.inputAxes = inputAxes
    self.inputDirections = inputDirections
    self.outputAxes = outputAxes
    self.outputDirections = outputDirections
    self.symbols = symbols
    bodies = [body]
  }

  package init(name: String, attributes a: Attributes) throws(GraphError) {
    states = try a.int("states")
    inputAxes = try a.ints("input_axes")
    inputDirections = try a.ints("input_directions")
    outputAxes = try a.ints("output_axes")
    outputDirections = try a.ints("output_directions")
    symbols = try a.dims("symbols")
    guard (0..<1 << 20).contains(states), !inputAxes.isEmpty, inputAxes.count == inputDirections.count,
      outputAxes.count == outputDirections.count
    else { throw attributeError("states, axes and directions do not fit together") }
  }

  package func with(bodies: [Graph]) throws(GraphError) -> any Operation {
    var copy = self
    copy.bodies = bodies
    return copy
  }

  package var name: String { "scan" }
  package var attributes: Attributes {
    [
      "states": .int(states), "input_axes": .ints(inputAxes), "input_directions": .ints(inputDirections),
      "output_axes": .ints(outputAxes), "output_directions": .ints(outputDirections), "symbols": .dims(symbols),
    ]
  }

  package func types(_ x: [ValueType], _ sizes: inout ResultSizes) throws(ShapeError) -> [ValueType] {
    let body = try body(0)
    guard x.count >= states + inputAxes.count else {
      throw shapeError("APUS-S-0010", "\(states + inputAxes.count) operands or more are expected, \(x.count) given")
    }
    try expectInputs(body, x.count)
    guard body.outputs.count == states + outputAxes.count else {
      throw shapeError(
        "APUS-S-0210", "the body gives \(body.outputs.count) values, \(states + outputAxes.count) are expected")
    }
    var count: Dim?
    for (position, axis) in inputAxes.enumerated() {
      guard let scanned = x[states + position].tensor else {
        throw shapeError("APUS-S-0207", "a tensor is expected to be scanned, found \(x[states + position])")
      }
      try expectAxis(axis, rank: scanned.rank)
      if let count { try expectEqual(count, scanned.shape[axis], "steps of the scanned values") }
      count = count ?? scanned.shape[axis]
    }
    var results: [ValueType] = []
    let hidden = body.innerSymbols
    for state in 0..<states {
      results.append(try sizes.merge([x[state], body.type(body.outputs[state])], hidden: hidden))
    }
    for (position, axis) in outputAxes.enumerated() {
      let merged = try sizes.merge([body.type(body.outputs[states + position])], hidden: hidden)
      guard let slice = merged.tensor else { throw shapeError("APUS-S-0207", "\(merged) cannot be stacked") }
      try expectAxis(axis, rank: slice.rank + 1)
      var shape = slice.shape
      shape.insert(count ?? 0, at: axis)
      results.append(.tensor(slice.with(shape: shape)))
    }
    return results
  }

  package func reference(_ x: [HostValue]) throws(EvaluationError) -> [HostValue] {
    guard let body = bodies.first else { throw evaluationError("APUS-V-0210", "the body is missing") }
    let types: [ValueType]
    do { types = try infer(x.map(\.type)) } catch { throw EvaluationError(problems: error.problems) }
    var scanned: [HostTensor] = []
    for position in inputAxes.indices { scanned.append(try tensorValue(x[states + position])) }
    let count = scanned.first?.shape[inputAxes[0]] ?? 0
    var values = Array(x[..<states])
    let captured = Array(x[(states + inputAxes.count)...])
    var slices = [[HostTensor]](repeating: [], count: outputAxes.count)
    for step in 0..<count {
      let parts = inputAxes.indices.map { position -> HostValue in
        let index = inputDirections[position] == 0 ? step : count - 1 - step
        return .tensor(Self.slice(scanned[position], axis: inputAxes[position], index))
      }
      let outputs = try Interpreter.run(body, inputs: values + parts + captured)
      guard outputs.count == states + outputAxes.count else {
        throw evaluationError("APUS-V-0210", "the body gives \(outputs.count) values")
      }
      values = Array(outputs[..<states])
      for (index, value) in outputs.dropFirst(states).enumerated() { slices[index].append(try tensorValue(value)) }
    }
    var stacks: [HostValue] = []
    for (position, axis) in outputAxes.enumerated() {
      let parts = outputDirections[position] == 0 ? slices[position] : slices[position].reversed()
      stacks.append(.tensor(try stacked(parts, axis: axis, types[states + position])))
    }
    return values + stacks
  }

  private static func slice(_ x: HostTensor, axis: Int, _ index: Int) -> HostTensor {
    let split = AxisSplit(x.shape, axis: axis)
    var sources: [Int] = []
    sources.reserveCapacity(split.outer * split.inner)
    for outer in 0..<split.outer {
      let start = (outer * split.count + index) * split.inner
      sources.append(contentsOf: start..<start + split.inner)
    }
    var shape = x.shape
    shape.remove(at: axis)
    return x.gathering(sources, shape: shape)
  }
}
