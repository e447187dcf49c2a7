package import ApusCore
package import ApusGraph

/// Cuts a graph into parts that are compiled one by one and run one after the other.
///
/// A part ends with each node that is named: what comes after it in the order of execution belongs to later parts. Where
/// computation changes between device and host another part begins when that is asked for. What depends on constants alone is no reason to cross a cut: every part computes it for itself, so that folding
/// removes it.
package struct GraphCut {
  /// A part as a graph of its own. Values keep their numbers; those that other parts compute are inputs.
  package struct Part {
    package var graph: Graph
    /// Symbols that the part sets and others read.
    package var boundSymbols: [String]
  }

  /// Parts run by increasing level; those of one level on different sides do not depend on each other.
  private struct Place: Hashable, Comparable {
    var level: Int
    var isHost: Bool

    static func < (a: Place, b: Place) -> Bool { (a.level, a.isHost ? 1 : 0) < (b.level, b.isHost ? 1 : 0) }
  }

  private let graph: Graph
  private let names: Set<String>
  private let isHost: (Node) -> Bool
  private var places: [NodeID: Place] = [:]
  /// Names of the symbols in each node's attributes, and in the types of what it reads and gives.
  private let symbols: [NodeID: Set<String>]
  private var binders: [String: NodeID] = [:]

  /// - Parameter isHost: whether a node runs elsewhere than those around it.
  /// - Throws: ``BuildError`` `APUS-B-0043` for a name that no node has, `APUS-B-0031` when a cut separates nothing.
  package static func parts(
    of graph: Graph, after names: [String], isHost: (Node) -> Bool
  ) throws(BuildError) -> [Part] {
    try check(names, graph)
    return try withoutActuallyEscaping(isHost) { isHost throws(BuildError) -> [Part] in
      var cut = GraphCut(graph: graph, names: Set(names), isHost: isHost)
      cut.place()
      try cut.checkCuts(names)
      return cut.parts()
    }
  }

  private init(graph: Graph, names: Set<String>, isHost: @escaping (Node) -> Bool) {
    self.graph = graph
    self.names = names
    self.isHost = isHost
    symbols = Dictionary(uniqueKeysWithValues: graph.order.map { ($0, Self.symbols(of: graph[$0], in: graph)) })
  }

  private static func check(_ names: [String], _ graph: Graph) throws(BuildError) {
    let known = graph.order.map { graph[$0].name }
    var problems: [Diagnostic] = []
    for name in names where !known.contains(name) {
      problems.append(
        Diagnostic(
          "APUS-B-0043", "the model has no node '\(name)'", place: "--break-at \(name)",
          hint: Spelling.hint(for: name, in: known.reduce(into: []) { if $0.last != $1 { $0.append($1) } })))
    }
    if !problems.isEmpty { throw BuildError(problems: problems) }
  }

  /// There must be something on both sides of each cut.
  private func checkCuts(_ names: [String]) throws(BuildError) {
    var problems: [Diagnostic] = []
    for name in names {
      guard let end = graph.order.lastIndex(where: { graph[$0].name == name }) else { continue }
      let (before, after) = (graph.order[...end], graph.order[(end + 1)...])
      if before.contains(where: { places[$0] != nil }), after.contains(where: { places[$0] != nil }) { continue }
      problems.append(
        Diagnostic(
          "APUS-B-0031", "all that depends on the inputs is on one side of it, so there is nothing to cut",
          place: "--break-at \(name)", hint: "Name a node in the middle of the model."))
    }
    if !problems.isEmpty { throw BuildError(problems: problems) }
  }

  // MARK: Placing

  private mutating func place() {
    let outputs = Set(graph.outputs)
    // A node of the model may have become several.
    let ends = Set(names.compactMap { name in graph.order.last { graph[$0].name == name } })
    var first = 0
    for id in graph.order {
      defer { if ends.contains(id) { first = max(first, (places[id]?.level ?? first) + 1) } }
      let node = graph[id]
      for symbol in node.op.boundSymbols { binders[symbol.name] = id }
      let producers = node.inputs.compactMap { graph.producer($0) }
      let own = symbols[id] ?? []
      let isFixed =
        !node.inputs.contains { graph.inputs.contains($0) } && !producers.contains { places[$0] != nil }
        && node.op.isPure && node.op.boundSymbols.isEmpty && outputs.isDisjoint(with: node.outputs)
        && !own.contains { binders[$0] != nil }
      if isFixed { continue }
      var place = Place(level: first, isHost: isHost(node))
      for producer in producers + own.compactMap({ binders[$0] }) where producer != id {
        guard let before = places[producer] else { continue }
        place.level = max(place.level, before.level + (before.isHost != place.isHost ? 1 : 0))
      }
      places[id] = place
    }
  }

  private static func symbols(of node: Node, in graph: Graph) -> Set<String> {
    var names: Set<String> = []
    func add(_ dim: Dim) { for symbol in dim.symbols { names.insert(symbol.name) } }
    for value in node.inputs + node.outputs { graph.type(value).tensor?.shape.forEach(add) }
    for entry in node.op.attributes.entries {
      switch entry.value {
      case .dim(let dim): add(dim)
      case .dims(let dims): dims.forEach(add)
      default: break
      }
    }
    for body in node.op.bodies { names.formUnion(GraphText.symbols(of: body).map(\.name)) }
    return names
  }

  // MARK: Parts

  private func parts() -> [Part] {
    var nodes: [Place: [NodeID]] = [:]
    for id in graph.order { if let place = places[id] { nodes[place, default: []].append(id) } }
    let order = nodes.keys.sorted()
    return order.compactMap { place in part(nodes[place] ?? [], place) }
  }

  private func part(_ own: [NodeID], _ place: Place) -> Part? {
    var needed = Set(own)
    var pending = own
    while let id = pending.popLast() {
      for producer in graph[id].inputs.compactMap({ graph.producer($0) })
      where places[producer] == nil && needed.insert(producer).inserted { pending.append(producer) }
    }
    var part = graph
    part.order = graph.order.filter(needed.contains)
    let computed = Set(part.order.flatMap { graph[$0].outputs })
    let read = part.order.flatMap { graph[$0].inputs }
    part.inputs = []
    for value in read where !computed.contains(value) && graph[value].constant == nil && !part.inputs.contains(value) {
      part.inputs.append(value)
      part[value].source = .input
    }
    var wanted = Set(graph.outputs)
    var wantedSymbols: Set<String> = []
    for (id, other) in places where other != place {
      wanted.formUnion(graph[id].inputs)
      wantedSymbols.formUnion(symbols[id] ?? [])
    }
    for output in graph.outputs {
      for dim in graph.type(output).tensor?.shape ?? [] { wantedSymbols.formUnion(dim.symbols.map(\.name)) }
    }
    part.outputs = own.flatMap { graph[$0].outputs }.filter(wanted.contains)
    let bound = own.flatMap { graph[$0].op.boundSymbols }.map(\.name).filter(wantedSymbols.contains)
    if part.outputs.isEmpty, bound.isEmpty { return nil }
    name(&part)
    return Part(graph: part, boundSymbols: bound)
  }

  /// Gives every input and output of a part a name that no other has.
  private func name(_ part: inout Graph) {
    var used: Set<String> = []
    func unique(_ value: ValueID) -> String {
      let name = graph[value].name.isEmpty ? "value\(value.index)" : graph[value].name
      return used.insert(name).inserted ? name : "\(name).\(value.index)"
    }
    for input in part.inputs { part[input].name = unique(input) }
    used = []
    part.outputNames = part.outputs.map(unique)
  }
}
