import ApusCore

/// All sizes of a plan as one flat list of nodes, each computed once from the ones before it.
///
/// Values are plain integers; ``unknown`` stands for a size that depends on an unbound symbol or divides by zero.
struct DimProgram: Sendable {
  static let unknown = Int.min

  private enum Node {
    case symbol
    case constant(Int)
    /// Terms at an offset of `operands`: constant, number of terms, per term coefficient, number of factors, factors.
    case polynomial(Int)
    case quotient(Int, Int)
    case minimum(Int, Int)
    case maximum(Int, Int)
  }

  private var nodes: [Node] = []
  private var operands: [Int] = []
  private var known: [Dim: Int] = [:]
  private var symbolNodes: [String: Int] = [:]
  /// Whether a node depends on a symbol that is set while running.
  private(set) var isLate: [Bool] = []
  /// The nodes to compute again when such a symbol is set, in order.
  private(set) var lateNodes: [Int] = []
  let shapeSymbolCount: Int
  let symbolCount: Int

  /// The first nodes are the shape symbols, the next the run symbols.
  init(shapeSymbols: [Symbol], runSymbols: [Symbol]) {
    shapeSymbolCount = shapeSymbols.count
    symbolCount = shapeSymbols.count + runSymbols.count
    for symbol in shapeSymbols + runSymbols {
      symbolNodes[symbol.name] = nodes.count
      isLate.append(nodes.count >= shapeSymbolCount)
      nodes.append(.symbol)
    }
  }

  var count: Int { nodes.count }

  func node(ofSymbol name: String) -> Int? { symbolNodes[name] }

  /// The node of a size; equal sizes share one.
  mutating func add(_ dim: Dim) -> Int {
    if let node = known[dim] { return node }
    let node: Int
    if let value = dim.constantValue {
      node = append(.constant(value), isLate: false)
    } else if let symbol = dim.asSymbol {
      node = symbolNodes[symbol.name] ?? append(.constant(Self.unknown), isLate: false)
    } else {
      node = addPolynomial(dim)
    }
    known[dim] = node
    return node
  }

  private mutating func addPolynomial(_ dim: Dim) -> Int {
    var code = [dim.constantTerm]
    let summands = dim.summands
    code.append(summands.count)
    var late = false
    for summand in summands {
      code.append(summand.coefficient)
      code.append(summand.factors.count)
      for factor in summand.factors {
        let node = add(factor)
        late = late || isLate[node]
        code.append(node)
      }
    }
    let offset = operands.count
    operands += code
    return append(.polynomial(offset), isLate: late)
  }

  private mutating func add(_ factor: Dim.Factor) -> Int {
    switch factor {
    case .symbol(let symbol): return add(Dim(symbol))
    case .quotient(let a, let b): return addPair(a, b) { .quotient($0, $1) }
    case .minimum(let a, let b): return addPair(a, b) { .minimum($0, $1) }
    case .maximum(let a, let b): return addPair(a, b) { .maximum($0, $1) }
    }
  }

  private mutating func addPair(_ a: Dim, _ b: Dim, _ make: (Int, Int) -> Node) -> Int {
    let first = add(a)
    let second = add(b)
    return append(make(first, second), isLate: isLate[first] || isLate[second])
  }

  private mutating func append(_ node: Node, isLate late: Bool) -> Int {
    nodes.append(node)
    isLate.append(late)
    if late { lateNodes.append(nodes.count - 1) }
    return nodes.count - 1
  }

  /// Computes all nodes but the symbols, whose values the caller has put in place.
  func evaluate(into values: UnsafeMutablePointer<Int>) {
    for node in symbolCount..<nodes.count { values[node] = value(of: node, values) }
  }

  /// Computes again what depends on symbols set while running.
  func evaluateLate(into values: UnsafeMutablePointer<Int>) {
    for node in lateNodes { values[node] = value(of: node, values) }
  }

  private func value(of node: Int, _ values: UnsafeMutablePointer<Int>) -> Int {
    switch nodes[node] {
    case .symbol: return values[node]
    case .constant(let value): return value
    case .polynomial(let offset): return polynomial(at: offset, values)
    case .quotient(let a, let b):
      let (x, y) = (values[a], values[b])
      return x == Self.unknown || y == Self.unknown || y == 0 ? Self.unknown : saturatingFloorDivide(x, y)
    case .minimum(let a, let b): return min(values[a], values[b])
    case .maximum(let a, let b):
      return values[a] == Self.unknown || values[b] == Self.unknown ? Self.unknown : max(values[a], values[b])
    }
  }

  private func polynomial(at offset: Int, _ values: UnsafeMutablePointer<Int>) -> Int {
    var sum = operands[offset]
    var position = offset + 2
    for _ in 0..<operands[offset + 1] {
      var product = operands[position]
      let factorCount = operands[position + 1]
      position += 2
      for factor in operands[position..<position + factorCount] {
        if values[factor] == Self.unknown { return Self.unknown }
        product = saturatingMultiply(product, values[factor])
      }
      position += factorCount
      sum = saturatingAdd(sum, product)
    }
    return sum
  }
}
