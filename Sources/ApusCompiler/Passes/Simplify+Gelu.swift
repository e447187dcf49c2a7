import ApusCore
import ApusGraph
import ApusOps

extension Simplify {
  /// 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), with the cube as a power or as products in any order.
  static let geluTanh = Rule(
    "elementwise.raise-gelu-tanh", roots: ["mul"],
    fires: [
      "graph(%x: f32[4]) -> (%y) { %three = constant f32[] {3} %k = constant f32[] {0.044715}"
        + " %r = constant f32[] {0.79788456} %o = constant f32[] {1} %h = constant f32[] {0.5} %c = pow(%x, %three)"
        + " %kc = mul(%k, %c) %s = add(%x, %kc) %a = mul(%r, %s) %t = tanh(%a) %b = add(%t, %o) %m = mul(%h, %x)"
        + " %y = mul(%m, %b) }",
      "graph(%x: f32[N]) -> (%y) symbols(N: 0...9) { %k = constant f32[] {0.044715}"
        + " %r = constant f32[] {0.79788456} %o = constant f32[] {1} %h = constant f32[] {0.5} %kx = mul(%k, %x)"
        + " %kxx = mul(%x, %kx) %kxxx = mul(%x, %kxx) %s = add(%x, %kxxx) %a = mul(%s, %r) %t = tanh(%a)"
        + " %b = add(%o, %t) %hb = mul(%h, %b) %y = mul(%x, %hb) }",
    ],
    skips: [
      "graph(%x: f32[4]) -> (%y) { %three = constant f32[] {3} %k = constant f32[] {0.05}"
        + " %r = constant f32[] {0.79788456} %o = constant f32[] {1} %h = constant f32[] {0.5} %c = pow(%x, %three)"
        + " %kc = mul(%k, %c) %s = add(%x, %kc) %a = mul(%r, %s) %t = tanh(%a) %b = add(%t, %o) %m = mul(%h, %x)"
        + " %y = mul(%m, %b) }",
      "graph(%x: f32[4], %z: f32[4]) -> (%y) { %three = constant f32[] {3} %k = constant f32[] {0.044715}"
        + " %r = constant f32[] {0.79788456} %o = constant f32[] {1} %h = constant f32[] {0.5} %c = pow(%z, %three)"
        + " %kc = mul(%k, %c) %s = add(%x, %kc) %a = mul(%r, %s) %t = tanh(%a) %b = add(%t, %o) %m = mul(%h, %x)"
        + " %y = mul(%m, %b) }",
    ]
  ) { graph, node in
    let parts = factors(graph, node.outputs[0], 3)
    guard parts.count == 3, let half = parts.firstIndex(where: { graph.scalar($0) == 0.5 }),
      let bell = parts.indices.first(where: { $0 != half && argument(graph, parts[$0]) != nil }),
      let x = argument(graph, parts[bell]), parts[3 - half - bell] == x, graph.type(x) == graph.type(node.outputs[0])
    else { return nil }
    return graph.add("gelu_tanh", [x])
  }

  /// x when a value is 1 + tanh(√(2/π)·(x + 0.044715·x³)).
  private static func argument(_ graph: Rewriting, _ value: ValueID) -> ValueID? {
    func close(_ value: Double?, _ wanted: Double) -> Bool { value.map { abs($0 - wanted) < 1e-4 * wanted } ?? false }
    guard let sum = graph.producer(value, "add") else { return nil }
    for position in [0, 1] where graph.scalar(sum.inputs[position]) == 1 {
      guard let tanh = graph.producer(sum.inputs[1 - position], "tanh"),
        let scaled = graph.producer(tanh.inputs[0], "mul"),
        let side = [0, 1].first(where: { close(graph.scalar(scaled.inputs[$0]), (2 / Double.pi).squareRoot()) }),
        let inner = graph.producer(scaled.inputs[1 - side], "add")
      else { continue }
      for linear in [0, 1] {
        let x = inner.inputs[linear]
        let cubic = factors(graph, inner.inputs[1 - linear], 3)
        let others = cubic.filter { !close(graph.scalar($0), 0.044715) }
        if others.count == cubic.count - 1, others == [x, x, x] { return x }
      }
    }
    return nil
  }

  /// What a value is the product of, down to some depth; a cube counts as three.
  private static func factors(_ graph: Rewriting, _ value: ValueID, _ depth: Int) -> [ValueID] {
    if depth > 0, let product = graph.producer(value, "mul") {
      return product.inputs.flatMap { factors(graph, $0, depth - 1) }
    }
    if let power = graph.producer(value, "pow"), graph.scalar(power.inputs[1]) == 3 {
      return [ValueID](repeating: power.inputs[0], count: 3)
    }
    return [value]
  }
}
