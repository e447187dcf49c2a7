package import ApusCore
package import ApusGraph
package import ApusKernel

/// Makes an i64 vector of sizes, evaluated when it runs.
package struct Sizes: TensorOperation {
  package let dims: [Dim]

  package init(_ dims: [Dim]) { self.dims = dims }

  package init(name: String, attributes: Attributes) throws(GraphError) { dims = try attributes.dims("dims") }

  package var name: String { "sizes" }
  package var attributes: Attributes { ["dims": .dims(dims)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 0...0)
    return [TensorType(.i64, sizes: [dims.count])]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try expectNoOperands(x)
    return [HostTensor(.i64, [dims.count], int64s: try constants(dims).map(Int64.init))]
  }

  private func expectNoOperands(_ x: [HostTensor]) throws(EvaluationError) { _ = try resultType(for: x) }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    guard let last = dims.last else { return nil }
    let dims = dims
    return [
      Operand(results[0]) { coordinates, arena in
        dims.indices.dropLast().reversed().reduce(arena.index(last)) { rest, position in
          let isHere = arena.binary(.equal, arena.index(coordinates[0]), arena.index(Dim(position)))
          return arena.select(isHere, arena.index(dims[position]), rest)
        }
      }
    ]
  }

  package func dims(_ x: [[Dim]?], _ types: [TensorType]) -> [[Dim]?]? { [dims] }
  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { 0 }

  package static let samples = [
    Sample(Sizes([Dim(Symbol("A")) + 1, 7, Dim(Symbol("B")) * 2]), where: ["A": 1...5, "B": 1...5])
  ]
}
