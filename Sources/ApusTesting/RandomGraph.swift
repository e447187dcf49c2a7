import ApusCore
package import ApusGraph
import ApusOps

/// Makes up small graphs over all operations and symbolic sizes, with branches, loops and scans, several outputs and
/// subexpressions that are used, or written, more than once.
///
/// Graphs of odd seeds mostly compute in i32, exactly and with every discontinuous function; those of even seeds in f32 with
/// functions whose errors stay small. Any other operation is used as one of its samples has it, on values that are brought to
/// the types it wants; where it might turn a small error into a large one, on values that every form computes to the bit.
package struct RandomGraph {
  var graph: Graph
  var generator: RandomTensor.Generator
  let seed: UInt64
  let dtype: DType
  /// Values of the graph's type that later nodes may use.
  var pool: [ValueID] = []
  /// Values of other types that are exact.
  var others: [ValueID] = []
  /// Values that every form computes to the bit.
  private var exact: Set<ValueID> = []
  /// Results of samples that become outputs.
  private var results: [ValueID] = []
  /// How many bodies this graph is in.
  private(set) var depth = 0
  /// Symbols that the shapes of inputs tell.
  private var told: Set<Symbol> = []
  private var symbolCount = 0
  private var inputCount = 0
  /// The first node that is this graph's own.
  private let firstNode: Int
  /// How far results of f32 may be apart.
  var tolerance = 1e-4

  /// Appends a graph to others, of which it is independent; its symbols, inputs and outputs are named by the seed.
  ///
  /// - Returns: how far its results of f32 may be apart.
  @discardableResult
  package static func append(seed: UInt64, to graph: inout Graph) -> Double {
    var random = RandomGraph(graph, seed)
    random.fill()
    graph = random.graph
    return random.tolerance
  }

  package static func make(seed: UInt64) -> Graph {
    var graph = Graph()
    append(seed: seed, to: &graph)
    return graph
  }

  private init(_ graph: Graph, _ seed: UInt64) {
    self.graph = graph
    self.seed = seed
    firstNode = graph.order.count
    generator = RandomTensor.Generator(seed: seed &* 7919 &+ 13)
    dtype = seed % 2 == 0 ? .f32 : .i32
  }

  // MARK: Choosing

  mutating func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &generator) }
  mutating func chance(_ percent: Int) -> Bool { number(0...99) < percent }
  mutating func choose<Element>(_ elements: [Element]) -> Element { elements[number(0...elements.count - 1)] }

  private var symbols: [Symbol] {
    [Symbol("A\(seed)", Interval(1, 7)), Symbol("B\(seed)", Interval(1, 5)), Symbol("Z\(seed)", Interval(0, 4))]
  }

  /// A size; once the inputs are there, only the symbols that their shapes tell.
  mutating func dim() -> Dim {
    let choice = number(0...9)
    if choice < 3, pool.isEmpty || told.contains(symbols[choice]) { return Dim(symbols[choice]) }
    return choice == 3 ? 1 : Dim(number(2...7))
  }

  /// A size in a range: a small number, or a symbol that inputs tell.
  mutating func dim(in range: ClosedRange<Int>) -> Dim {
    let fitting = symbols.filter { symbol in
      told.contains(symbol) && symbol.range.lower >= range.lowerBound && symbol.range.upper <= range.upperBound
    }
    if !fitting.isEmpty, chance(50) { return Dim(choose(fitting)) }
    return Dim(number(range.lowerBound...min(range.upperBound, range.lowerBound + 6)))
  }

  /// A symbol that only running sets.
  mutating func freshSymbol(_ range: Interval = Interval(0, .max)) -> Dim {
    symbolCount += 1
    return Dim(Symbol("late\(seed)_\(symbolCount)", range))
  }

  func shape(_ value: ValueID) -> Shape { graph.tensorType(value).shape }

  private func isSmall(_ shape: Shape) -> Bool {
    shape.count <= 5 && Dim.product(shape).evaluate { _ in 6 } ?? .max <= 5000
  }

  // MARK: Building

  private mutating func fill() {
    let shapes = (0..<number(1...3)).map { _ in (0..<number(1...4)).map { _ in dim() } }
    for shape in shapes { pool.append(addInput(TensorType(dtype, shape))) }
    let first = pool.count
    grow(to: first + number(3...8))
    var outputs = pool.indices.filter { $0 == pool.count - 1 || ($0 >= first && chance(15)) }.map { pool[$0] }
    for result in results.suffix(3) where !outputs.contains(result) { outputs.append(result) }
    for output in outputs {
      graph.outputNames.append("g\(seed)_y\(graph.outputs.count)")
      graph.outputs.append(output)
    }
  }

  /// Adds nodes until the pool has that many values.
  private mutating func grow(to count: Int) {
    for _ in 0..<60 where pool.count < count {
      // The newest value is used most, so that chains form.
      let x = chance(60) ? pool[pool.count - 1] : choose(pool)
      if let y = step(x), isSmall(shape(y)) { pool.append(y) }
    }
  }

  /// Adds nodes to a body that begins with these values; the last value of the type of the first.
  mutating func grow(from values: [ValueID]) -> ValueID {
    pool = values
    grow(to: values.count + number(1...4))
    let type = graph.type(values[0])
    let last = pool.last { graph.type($0) == type && !values.contains($0) }
    return last ?? add("neg", [values[0]]) ?? values[0]
  }

  /// The graph of a body whose inputs have these types, with what `build` makes of them as outputs.
  mutating func body(
    _ inputs: [(type: ValueType, isExact: Bool)], _ build: (inout RandomGraph, [ValueID]) -> [ValueID]
  ) -> Graph {
    var inner = RandomGraph(Graph(), seed)
    inner.depth = depth + 1
    inner.told = told
    (inner.generator, inner.symbolCount, inner.tolerance) = (generator, symbolCount, tolerance)
    let ids = inputs.enumerated().map { inner.graph.addInput("in\($0.offset)", $0.element.type) }
    inner.exact = Set(zip(ids, inputs).filter(\.1.isExact).map(\.0))
    inner.graph.outputs = build(&inner, ids)
    inner.graph.outputNames = inner.graph.outputs.indices.map { "out\($0)" }
    (generator, symbolCount, tolerance) = (inner.generator, inner.symbolCount, inner.tolerance)
    return inner.graph
  }

  // MARK: Nodes and values

  mutating func addInput(_ type: TensorType) -> ValueID {
    let id = graph.addInput("g\(seed)_x\(inputCount)", .tensor(type))
    inputCount += 1
    for dim in type.shape { told.formUnion(dim.symbols) }
    exact.insert(id)
    return id
  }

  mutating func constant(_ tensor: HostTensor) -> ValueID {
    let id = graph.addConstant(tensor)
    exact.insert(id)
    return id
  }

  func isExact(_ value: ValueID) -> Bool { exact.contains(value) }

  /// Whether the symbols of a shape are told by inputs.
  func isTold(_ shape: Shape) -> Bool { shape.allSatisfy { told.isSuperset(of: $0.symbols) } }

  /// Operations on floats that do not round.
  private static let exactNames: Set<String> = [
    "neg", "abs", "relu", "min", "max", "where", "reduce_max", "reduce_min", "transpose", "reshape", "slice", "concat",
    "tile", "broadcast_to", "gather", "gather_elements", "gather_nd", "pad", "max_pool", "top_k", "unique",
  ]

  /// Adds a node; nil when its operands do not suit it.
  mutating func addAll(_ op: any Operation, _ inputs: [ValueID]) -> [ValueID]? {
    guard let outputs = try? graph.add(op, inputs) else { return nil }
    let isExact = inputs.allSatisfy(isExact) && op.isPure
    for output in outputs {
      let isFloat = graph.type(output).tensor?.dtype.isFloat ?? true
      if isExact, !isFloat || Self.exactNames.contains(op.name) { exact.insert(output) }
    }
    return outputs
  }

  mutating func add(_ name: String, _ inputs: [ValueID], _ attributes: Attributes = [:]) -> ValueID? {
    guard let op = try? Catalogue.standard.make(name, attributes) else { return nil }
    return addAll(op, inputs)?.first
  }

  /// Makes results outputs by chance, and keeps those that exact operations may use.
  mutating func keep(_ values: [ValueID]) {
    for value in values {
      if depth == 0, chance(50) { results.append(value) }
      if let type = graph.type(value).tensor, isExact(value), isSmall(type.shape) { others.append(value) }
    }
  }

  /// The same operation on the same operands once more.
  private mutating func repetition() -> ValueID? {
    let own = graph.order.dropFirst(firstNode).filter { id in
      graph[id].op.isPure && graph[id].op.bodies.isEmpty && graph[id].op.boundSymbols.isEmpty
        && graph.type(graph[id].outputs[0]).tensor?.dtype == dtype
    }
    guard !own.isEmpty else { return nil }
    let node = graph[choose(own)]
    return addAll(node.op, node.inputs)?.first
  }

  private mutating func step(_ x: ValueID) -> ValueID? {
    switch number(0...26) {
    case 0...2: unary(x)
    case 3...7: binary(x)
    case 8, 9: reduction(x)
    case 10: transposed(x)
    case 11: reshaped(x)
    case 12: sliced(x)
    case 13: padded(x)
    case 14: joined(x)
    case 15: repeated(x)
    case 16: indexed(x)
    case 17: running(x)
    case 18: product(x)
    case 19: repetition()
    case 20: control(x)
    default: sampled()
    }
  }
}
