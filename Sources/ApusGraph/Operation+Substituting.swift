package import ApusCore

extension Attribute {
  func substituting(_ replacement: (Symbol) -> Dim?) -> Attribute {
    switch self {
    case .dim(let dim): .dim(dim.substituting(replacement))
    case .dims(let dims): .dims(dims.map { $0.substituting(replacement) })
    default: self
    }
  }

  var hasSymbols: Bool {
    switch self {
    case .dim(let dim): !dim.isConstant
    case .dims(let dims): dims.contains { !$0.isConstant }
    default: false
    }
  }
}

extension ValueType {
  package func substituting(_ replacement: (Symbol) -> Dim?) -> ValueType {
    switch self {
    case .tensor(let type): .tensor(type.with(shape: type.shape.map { $0.substituting(replacement) }))
    case .sequence(let element): .sequence(element.substituting(replacement))
    case .optional(let element): .optional(element.substituting(replacement))
    }
  }
}

extension Operation {
  /// The operation with the symbols of its attributes and bodies replaced; symbols that it binds itself stay.
  ///
  /// - Throws: ``GraphError`` when the operation refuses the new attributes.
  package func substituting(_ replacement: (Symbol) -> Dim?) throws(GraphError) -> any Operation {
    let bound = Set(boundSymbols)
    func kept(_ symbol: Symbol) -> Dim? { bound.contains(symbol) ? nil : replacement(symbol) }
    var result: any Operation = self
    if attributes.entries.contains(where: \.value.hasSymbols) {
      let values = attributes.entries.map { ($0.name, $0.value.substituting(kept)) }
      result = try type(of: self).init(name: name, attributes: Attributes(values))
    }
    if bodies.isEmpty { return result }
    var replaced: [Graph] = []
    for body in bodies { replaced.append(try body.substituting(kept)) }
    return try result.with(bodies: replaced)
  }
}

extension Operation {
  /// The operation with other symbols in place of those that it binds itself.
  ///
  /// - Throws: ``GraphError`` when the operation refuses the new attributes.
  package func renaming(_ bound: [Symbol: Dim]) throws(GraphError) -> any Operation {
    if bound.isEmpty { return self }
    let values = attributes.entries.map { ($0.name, $0.value.substituting { bound[$0] }) }
    return try type(of: self).init(name: name, attributes: Attributes(values))
  }
}

extension Graph {
  /// The graph with symbols replaced in every type and operation.
  package func substituting(_ replacement: (Symbol) -> Dim?) throws(GraphError) -> Graph {
    var graph = self
    for index in values.indices {
      let id = ValueID(index: index)
      graph[id].type = values[index].type.substituting(replacement)
      graph[id].dims = values[index].dims?.map { $0.substituting(replacement) }
    }
    for id in order { graph[id].op = try self[id].op.substituting(replacement) }
    return graph
  }
}
