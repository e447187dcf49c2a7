package import ApusCore
package import ApusGraph
import ApusKernel

extension Attention {
  /// Adds the primitives that compute this attention to a graph, and gives their result.
  ///
  /// - Throws: ``ShapeError`` when the operands do not fit.
  package func decompose(_ x: [ValueID], into graph: inout Graph, name: String = "") throws(ShapeError) -> ValueID {
    let types = x.map { graph.tensorType($0) }
    _ = try infer(types)
    let sizes = try geometry(types)
    var build = Builder(graph: graph, name: name)
    let shared = sizes.heads.floorDivided(by: sizes.keyHeads)
    let isGrouped = shared != 1
    func grouped(_ heads: Dim, _ rest: [Dim]) -> Shape { [sizes.batch, sizes.keyHeads, heads] + rest }

    let transposed = try build.add(Transpose([0, 1, 3, 2]), [x[1]])
    var scores: ValueID
    if isGrouped {
      let q = try build.add(Reshape(grouped(shared, [sizes.queries, sizes.depth])), [x[0]])
      let k = try build.add(Reshape(grouped(1, [sizes.depth, sizes.keys])), [transposed])
      scores = try build.add(Reshape(sizes.scoreShape), [try build.add(MatMul(), [q, k])])
    } else {
      scores = try build.add(MatMul(), [x[0], transposed])
    }
    scores = try score(scores, x.count > 3 ? x[3] : nil, sizes, types[0].dtype, &build)
    let weights = try build.add(Softmax(axis: 3), [scores])
    var result: ValueID
    if isGrouped {
      let p = try build.add(Reshape(grouped(shared, [sizes.queries, sizes.keys])), [weights])
      let v = try build.add(Reshape(grouped(1, [sizes.keys, sizes.valueDepth])), [x[2]])
      let product = try build.add(MatMul(), [p, v])
      result = try build.add(Reshape([sizes.batch, sizes.heads, sizes.queries, sizes.valueDepth]), [product])
    } else {
      result = try build.add(MatMul(), [weights, x[2]])
    }
    graph = build.graph
    return result
  }

  /// Scale, cap and masks on raw scores.
  private func score(
    _ raw: ValueID, _ mask: ValueID?, _ sizes: Geometry, _ dtype: DType, _ build: inout Builder
  ) throws(ShapeError) -> ValueID {
    var scores = raw
    if scale != 1 { scores = try build.add(Elementwise(.mul), [scores, build.constant(scale, dtype)]) }
    if softcap != 0 {
      let cap = build.constant(softcap, dtype)
      scores = try build.add(Elementwise(.tanh), [try build.add(Elementwise(.div), [scores, cap])])
      scores = try build.add(Elementwise(.mul), [scores, cap])
    }
    let hidden = build.constant(-.infinity, dtype)
    if let mask, build.graph.tensorType(mask).dtype == .bool {
      scores = try build.add(Where(), [mask, scores, hidden])
    } else if let mask {
      let added = build.graph.tensorType(mask).dtype == dtype ? mask : try build.add(Cast(to: dtype), [mask])
      scores = try build.add(Elementwise(.add), [scores, added])
    }
    if causal {
      let query = try build.add(Iota([sizes.queries, 1], axis: 0), [])
      let first = try build.add(Sizes([offset]), [])
      let last = try build.add(Elementwise(.add), [query, first])
      let key = try build.add(Iota([1, sizes.keys], axis: 1), [])
      let seen = try build.add(Elementwise(.less_equal), [key, last])
      scores = try build.add(Where(), [seen, scores, hidden])
    }
    return scores
  }

  /// A graph being extended under one node name.
  private struct Builder {
    var graph: Graph
    let name: String

    mutating func add(_ op: any Operation, _ x: [ValueID]) throws(ShapeError) -> ValueID {
      try graph.add(op, x, name: name)[0]
    }

    mutating func constant(_ value: Double, _ dtype: DType) -> ValueID {
      graph.addConstant(HostTensor(scalar: value, dtype))
    }
  }
}
