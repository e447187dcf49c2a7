package import ApusCore
package import ApusGraph

/// Computes one of two sub-graphs.
///
/// - Shapes: condition (one bool), captured values… → what the bodies `[then, else]` give; both take the captured values.
///   A size that the branches do not share, or that is made of symbols a branch binds, is a symbol of `symbols`, taken in
///   the order of results and axes: whoever builds the operation gives ``ControlOperation/openSizeCount(_:)`` fresh ones.
/// - Throws: ``ShapeError`` `APUS-S-0209` when the branches give different element types or ranks.
/// - Source: ONNX If-21.
package struct If: ControlOperation {
  package var symbols: [Dim]
  package private(set) var bodies: [Graph] = []

  package init(symbols: [Dim], bodies: [Graph]) {
    self.symbols = symbols
    self.bodies = bodies
  }

  package init(name: String, attributes: Attributes) throws(GraphError) { symbols = try attributes.dims("symbols") }

  package func with(bodies: [Graph]) throws(GraphError) -> any Operation { If(symbols: symbols, bodies: bodies) }

  package var name: String { "if" }
  package var attributes: Attributes { ["symbols": .dims(symbols)] }

  package func types(_ x: [ValueType], _ sizes: inout ResultSizes) throws(ShapeError) -> [ValueType] {
    guard let condition = x.first?.tensor, condition.dtype == .bool else {
      throw shapeError("APUS-S-0204", "the condition must be one bool")
    }
    try expectEqual(condition.elementCount, 1, "elements of the condition")
    let (then, other) = (try body(0), try body(1))
    for body in [then, other] { try expectInputs(body, x.count - 1) }
    guard then.outputs.count == other.outputs.count else {
      throw shapeError("APUS-S-0210", "the branches give \(then.outputs.count) and \(other.outputs.count) results")
    }
    let hidden = then.innerSymbols.union(other.innerSymbols)
    var results: [ValueType] = []
    for (a, b) in zip(then.outputs, other.outputs) {
      results.append(try sizes.merge([then.type(a), other.type(b)], hidden: hidden))
    }
    return results
  }

  package func reference(_ x: [HostValue]) throws(EvaluationError) -> [HostValue] {
    guard let first = x.first, bodies.count == 2 else { throw evaluationError("APUS-V-0210", "a branch is missing") }
    return try Interpreter.run(bodies[try condition(first) ? 0 : 1], inputs: Array(x.dropFirst()))
  }
}
