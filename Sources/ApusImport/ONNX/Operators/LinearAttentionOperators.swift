import ApusCore
import ApusGraph
import ApusOps

/// Attention as a recurrence over positions: a scan whose state is one matrix per head.
enum LinearAttentionOperators {
  static let table: [String: Lowering] = ["LinearAttention": linearAttention]

  /// What a step of the recurrence reads, each with positions first: `[T, B, H, …]`.
  private struct Streams {
    var q: ValueID
    var k: ValueID
    var v: ValueID
    var decay: ValueID?
    var beta: ValueID?

    var all: [ValueID] { [q, k, v] + [decay, beta].compactMap { $0 } }
  }

  private static func linearAttention(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let rule = try n.choice("update_rule", ["linear", "gated", "delta", "gated_delta"], default: "gated_delta")
    let heads = (query: try n.int("q_num_heads"), key: try n.int("kv_num_heads"))
    guard heads.key > 0, heads.query > 0, heads.query % heads.key == 0 else {
      throw ImportError("APUS-I-0012", "\(heads.query) query heads do not divide among \(heads.key)")
    }
    let dtype = try n.dtype(n.input(0))
    var streams = Streams(
      q: try stream(n, n.input(0), heads: heads.query), k: try stream(n, n.input(1), heads: heads.key),
      v: try stream(n, n.input(2), heads: heads.key))
    if rule.hasPrefix("gated") { streams.decay = try stream(n, n.input(4), heads: heads.key) }
    if rule.hasSuffix("delta") {
      let columns = try n.shape(n.input(5), rank: 3, "beta")[2]
      streams.beta = try stream(n, n.input(5), heads: columns == 1 ? 1 : heads.key)
    }
    let (q, k, v) = (try n.shape(streams.q), try n.shape(streams.k), try n.shape(streams.v))
    let state: ValueID
    if let past = n.optional(3) {
      state = try n.cast(past, .f32)
    } else {
      state = try n.broadcast(n.scalar(0, .f32), [k[1], k[2], k[3], v[3]])
    }
    let body = try step(n, streams, state, groups: heads.query / heads.key, scale: scale(n, q[3]))
    let count = streams.all.count
    let zeros = [Int](repeating: 0, count: count)
    let results = try n.emit([state] + streams.all, bodies: [body]) {
      Scan(
        states: 1, inputAxes: zeros, inputDirections: zeros, outputAxes: [0], outputDirections: [0], symbols: $1,
        body: $0[0])
    }
    // [T, B, H, Dv] to [B, T, H·Dv].
    let packed = try n.reshape(n.transpose(results[1], [1, 0, 2, 3]), [q[1], q[0], q[2] * v[3]])
    let stateType = try n.optional(3).map { id throws(ImportError) in try n.dtype(id) } ?? dtype
    return [try n.cast(packed, dtype), try n.cast(results[0], stateType)]
  }

  private static func scale(_ n: NodeContext, _ depth: Dim) throws(ImportError) -> Double {
    let given = try n.float("scale", 0)
    if given != 0 { return given }
    guard let size = depth.constantValue, size > 0 else {
      throw ImportError(
        "APUS-I-0015", "the depth \(depth) of a head must be known", hint: "Give the shape with --shape.")
    }
    return 1 / Double(size).squareRoot()
  }

  /// `[B, T, H·D]` as `[T, B, H, D]` in f32.
  private static func stream(_ n: NodeContext, _ x: ValueID, heads: Int) throws(ImportError) -> ValueID {
    let shape = try n.shape(x, rank: 3, "the operands")
    guard let depth = shape[2].dividedExactly(by: Dim(heads)) else {
      throw ImportError("APUS-I-0013", "\(shape[2]) does not divide into \(heads) heads")
    }
    let split = try n.reshape(n.cast(x, .f32), [shape[0], shape[1], Dim(heads), depth])
    return try n.transpose(split, [1, 0, 2, 3])
  }

  /// One position: the state `[B, H, Dk, Dv]` decays, is corrected, takes in the key and value, and answers the query.
  private static func step(
    _ n: NodeContext, _ streams: Streams, _ state: ValueID, groups: Int, scale: Double
  ) throws(ImportError) -> NodeContext.Body {
    let inner = GraphBuilder(parent: n.builder)
    let b = NodeContext(
      scope: n.scope.child(inner, path: "\(n.scope.path)\(n.node.name)/step/"), node: n.node, inputs: [],
      attributes: [:])
    func input(_ name: String, _ outer: ValueID, dropping count: Int) throws(ImportError) -> ValueID {
      let type = try n.type(outer)
      return inner.graph.addInput(name, .tensor(type.with(shape: Array(type.shape.dropFirst(count)))))
    }
    var memory = try input("state", state, dropping: 0)
    let q = try input("q", streams.q, dropping: 1)
    let k = try b.unsqueeze(input("k", streams.k, dropping: 1), [3])
    var v = try b.unsqueeze(input("v", streams.v, dropping: 1), [2])
    if let decay = streams.decay {
      let gate = try b("exp", input("decay", decay, dropping: 1))
      memory = try b("mul", memory, b.unsqueeze(gate, [3]))
    }
    if let beta = streams.beta {
      let rate = try b.unsqueeze(input("beta", beta, dropping: 1), [3])
      let known = try b.reduce("sum", b("mul", memory, k), [2], keepDims: true)
      v = try b("mul", rate, b("sub", v, known))
    }
    memory = try b("add", memory, b("mul", k, v))
    // Consecutive query heads share a state.
    let shape = try b.shape(q)
    let split: Shape = [shape[0], shape[1].floorDivided(by: Dim(groups)), Dim(groups), 1, shape[2]]
    let answer = try b("matmul", b.reshape(q, split), b.unsqueeze(memory, [2]))
    let depth = try b.shape(memory)[3]
    let output = try b("mul", b.reshape(answer, [shape[0], shape[1], depth]), b.scalar(scale, .f32))
    inner.graph.outputs = [memory, output]
    inner.graph.outputNames = ["state", "output"]
    return NodeContext.Body(builder: inner, ownInputCount: 1 + streams.all.count)
  }
}
