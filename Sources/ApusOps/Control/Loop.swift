package import ApusCore
package import ApusGraph

/// Repeats a sub-graph.
///
/// - Shapes: most iterations (one integer, −1 for no bound), condition (one bool), carried values…, captured values… →
///   the carried values at the end, then what each iteration gave beyond them, stacked along a new first axis. The body
///   takes iteration (i64), condition, carried and captured values and gives condition, carried values and what to stack;
///   it runs while the condition holds.
///   In the body, sizes of carried values that change between iterations are symbols of its own. In the results these
///   sizes, the iteration count and sizes made of symbols that the body binds are symbols of `symbols`, taken in the order
///   of results and axes: whoever builds the operation gives ``ControlOperation/openSizeCount(_:)`` fresh ones.
/// - Throws: ``ShapeError`` `APUS-S-0209` when a carried value changes its element type or rank.
/// - Source: ONNX Loop-21.
package struct Loop: ControlOperation {
  package let carried: Int
  package var symbols: [Dim]
  package private(set) var bodies: [Graph] = []

  package init(carried: Int, symbols: [Dim], body: Graph) {
    self.carried = carried
    self.symbols = symbols
    bodies = [body]
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    carried = try attributes.int("carried")
    symbols = try attributes.dims("symbols")
    guard (0..<1 << 20).contains(carried) else { throw attributeError("\(carried) carried values") }
  }

  package func with(bodies: [Graph]) throws(GraphError) -> any Operation {
    var copy = self
    copy.bodies = bodies
    return copy
  }

  package var name: String { "loop" }
  package var attributes: Attributes { ["carried": .int(carried), "symbols": .dims(symbols)] }

  package func types(_ x: [ValueType], _ sizes: inout ResultSizes) throws(ShapeError) -> [ValueType] {
    let body = try body(0)
    guard x.count >= 2 + carried else {
      throw shapeError("APUS-S-0010", "\(2 + carried) operands or more are expected, \(x.count) given")
    }
    try expectInputs(body, x.count)
    guard body.outputs.count >= 1 + carried else {
      throw shapeError("APUS-S-0210", "the body gives \(body.outputs.count) values for \(carried) carried ones")
    }
    var hidden = body.innerSymbols
    for position in 2..<2 + carried { hidden.formUnion(ownSymbols(body.type(body.inputs[position]), x[position])) }
    var results: [ValueType] = []
    for position in 0..<carried {
      let (input, output) = (body.inputs[2 + position], body.outputs[1 + position])
      results.append(
        try sizes.merge([x[2 + position], body.type(input), body.type(output)], hidden: hidden))
    }
    for output in body.outputs.dropFirst(1 + carried) {
      guard body.type(output).tensor != nil else {
        throw shapeError("APUS-S-0207", "a tensor is expected to be stacked, found \(body.type(output))")
      }
      let count = try sizes.nextSymbol()
      guard let slice = try sizes.merge([body.type(output)], hidden: hidden).tensor else { continue }
      results.append(.tensor(slice.with(shape: [count] + slice.shape)))
    }
    return results
  }

  /// Symbols that a body's carried input has and the value it begins with has not.
  private func ownSymbols(_ input: ValueType, _ start: ValueType) -> Set<String> {
    guard let input = input.tensor, let start = start.tensor, input.rank == start.rank else { return [] }
    var names: Set<String> = []
    for (own, outer) in zip(input.shape, start.shape) where own != outer {
      names.formUnion(Set(own.symbols.map(\.name)).subtracting(outer.symbols.map(\.name)))
    }
    return names
  }

  package func reference(_ x: [HostValue]) throws(EvaluationError) -> [HostValue] {
    guard let body = bodies.first, x.count >= 2 + carried, let limit = try tensorValue(x[0]).ints.first else {
      throw evaluationError("APUS-V-0210", "the body or an operand is missing")
    }
    var holds = try condition(x[1])
    var values = Array(x[2..<2 + carried])
    let captured = Array(x[(2 + carried)...])
    var slices = [[HostTensor]](repeating: [], count: max(body.outputs.count - 1 - carried, 0))
    var iteration = 0
    while holds, limit < 0 || iteration < limit {
      let counter = HostTensor(.i64, [], int64s: [Int64(iteration)])
      let flag = HostTensor(.bool, [], int64s: [1])
      let outputs = try Interpreter.run(body, inputs: [.tensor(counter), .tensor(flag)] + values + captured)
      guard outputs.count >= 1 + carried else { throw evaluationError("APUS-V-0210", "the body gives too few values") }
      holds = try condition(outputs[0])
      values = Array(outputs[1..<1 + carried])
      for (index, value) in outputs.dropFirst(1 + carried).enumerated() { slices[index].append(try tensorValue(value)) }
      iteration += 1
    }
    var stacks: [HostValue] = []
    for (index, parts) in slices.enumerated() {
      let slice = body.type(body.outputs[1 + carried + index]).tensor
      let type = slice.map { ValueType.tensor($0.with(shape: [0] + $0.shape)) }
      stacks.append(.tensor(try stacked(parts, axis: 0, type)))
    }
    return values + stacks
  }
}
