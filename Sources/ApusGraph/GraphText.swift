package import ApusCore

/// The text form of a graph: everything that the graph holds, and nothing else.
///
/// ```
/// graph(%x: f32[N, 3, 8, 8]) -> (%y as "out") symbols(N: 1...8@4) {
///   %w = constant f32[2] {0.5, -1.0}
///   %t = constant f32[4, 3, 3, 3] external("c0")
///   %y = conv(%x, %t) {strides: [1, 1], layout: "nchw"} : f32[N, 4, 6, 6] @"layer1/conv"
/// }
/// ```
/// Values without a name are numbered; equal names are told apart by `#2`, `#3`. Types of results may be left out when
/// writing by hand and are checked where present. `@` stands before what a symbol is tuned for. `//` behind a blank starts a comment. `random(seed)` in place of a constant's elements
/// makes some up.
package struct GraphText: Sendable {
  package let text: String
  /// Constants too large to be spelled out, by the name that the text gives them.
  package let constants: [String: HostTensor]

  /// Constants of more elements than this are kept beside the text.
  package static let largestInline = 64

  package init(_ graph: Graph) {
    var printer = GraphPrinter()
    printer.print(graph, indent: "", symbols: GraphText.symbols(of: graph))
    text = printer.text
    constants = printer.constants
  }

  /// Reads the text form.
  ///
  /// - Throws: ``GraphError`` `APUS-G-0040` with line and column of what does not fit.
  package static func parse(
    _ text: String, catalogue: Catalogue, constants: [String: HostTensor] = [:]
  ) throws(GraphError) -> Graph {
    var parser = GraphParser(text, catalogue: catalogue, constants: constants)
    return try parser.parseWhole()
  }

  /// All symbols of a graph and its bodies in order of first occurrence, each name once.
  package static func symbols(of graph: Graph) -> [Symbol] {
    var found: [Symbol] = []
    var names: Set<String> = []
    visitDims(of: graph) { dim in
      for symbol in dim.symbols where names.insert(symbol.name).inserted { found.append(symbol) }
    }
    return found
  }

  /// Calls `visit` with every dim of every type and attribute.
  static func visitDims(of graph: Graph, _ visit: (Dim) -> Void) {
    for id in graph.inputs { visitDims(of: graph.type(id), visit) }
    for id in graph.order {
      let node = graph[id]
      for entry in node.op.attributes.entries {
        switch entry.value {
        case .dim(let dim): visit(dim)
        case .dims(let dims): dims.forEach(visit)
        default: break
        }
      }
      for body in node.op.bodies { visitDims(of: body, visit) }
      for output in node.outputs { visitDims(of: graph.type(output), visit) }
    }
  }

  private static func visitDims(of type: ValueType, _ visit: (Dim) -> Void) {
    switch type {
    case .tensor(let tensor): tensor.shape.forEach(visit)
    case .sequence(let element), .optional(let element): visitDims(of: element, visit)
    }
  }
}

extension ValueType {
  /// Reads a type as ``description`` writes it: `f32[N, 3]`, `seq<i64[2]>`.
  package init(parsing text: String, symbols: [String: Symbol] = [:]) throws(GraphError) {
    var scanner = TextScanner(text)
    self = try scanner.valueType(symbols, depth: 0)
    scanner.skipBlanks()
    if !scanner.isAtEnd { throw scanner.error("the end of the type") }
  }
}
