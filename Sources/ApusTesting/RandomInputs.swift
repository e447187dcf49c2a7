package import ApusCore
package import ApusGraph

/// Inputs for graphs with symbolic sizes.
package enum RandomInputs {
  /// Random tensors for a graph's inputs, with the sizes chosen for its symbols.
  ///
  /// - Parameter trial: 0 takes the smallest sizes the ranges allow, any other some up to `limit`.
  package static func make(
    _ graph: Graph, trial: Int, seed: UInt64, limit: Int = 9
  ) -> (inputs: [HostValue], sizes: [String: Int]) {
    var generator = RandomTensor.Generator(seed: seed)
    var sizes: [String: Int] = [:]
    for symbol in GraphText.symbols(of: graph) {
      let lower = max(symbol.range.lower, 0)
      let upper = max(lower, min(symbol.range.upper, max(limit, lower)))
      sizes[symbol.name] = trial == 0 ? lower : Int.random(in: lower...upper, using: &generator)
    }
    let inputs = graph.inputs.enumerated().map { index, id -> HostValue in
      let type = graph.type(id).tensor ?? TensorType(.f32, [])
      let shape = type.shape.map { $0.evaluate { sizes[$0] } ?? 0 }
      return .tensor(RandomTensor.make(type.dtype, shape, seed: seed &* 1000 &+ UInt64(index)))
    }
    return (inputs, sizes)
  }
}
