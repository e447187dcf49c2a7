import ApusCore

/// Reads graphs from text. See ``GraphText``.
struct GraphParser {
  private var scanner: TextScanner
  private let catalogue: Catalogue
  private let constants: [String: HostTensor]
  private var symbols: [String: Symbol] = [:]

  /// Deepest nesting of bodies.
  private static let deepest = 16

  init(_ text: String, catalogue: Catalogue, constants: [String: HostTensor]) {
    scanner = TextScanner(text)
    self.catalogue = catalogue
    self.constants = constants
  }

  mutating func parseWhole() throws(GraphError) -> Graph {
    try declareSymbols()
    let graph = try parseGraph(depth: 0)
    scanner.skipBlanks()
    if !scanner.isAtEnd { throw scanner.error("the end") }
    return graph
  }

  /// Reads attributes and bodies of an operation.
  mutating func parseOperation(_ name: String) throws(GraphError) -> any Operation {
    let place = scanner
    var op = try make(name, try parseAttributes(), at: place)
    let bodies = try parseBodies(depth: 0)
    if !bodies.isEmpty { op = try op.with(bodies: bodies) }
    scanner.skipBlanks()
    if !scanner.isAtEnd { throw scanner.error("the end") }
    return op
  }

  /// Reads the symbol list ahead of everything else, since the inputs' types before it use the symbols.
  private mutating func declareSymbols() throws(GraphError) {
    let start = scanner
    defer { scanner = start }
    try scanner.expect("graph")
    try skipParenthesized()
    try scanner.expect("->")
    try skipParenthesized()
    guard scanner.take("symbols") else { return }
    try scanner.expect("(")
    while !scanner.take(")") {
      if !symbols.isEmpty { try scanner.expect(",") }
      // A word takes dots in, so that the colon has to end the name.
      let name = scanner.word()
      if name.isEmpty { throw scanner.error("a symbol") }
      try scanner.expect(":")
      let (range, opt) = try interval()
      symbols[name] = Symbol(name, range, opt: opt)
    }
  }

  /// A range, and what is tuned for where that is said.
  private mutating func interval() throws(GraphError) -> (range: Interval, opt: Int?) {
    let text = scanner.element()
    let hint = "Write 1...8, 0..., ...8 or 1...8@4."
    guard let range = text.firstRange(of: "...") else { throw scanner.failure("'\(text)' is no range", hint: hint) }
    let low = text[..<range.lowerBound]
    let rest = text[range.upperBound...]
    let high = rest.prefix { $0 != "@" }
    let tuned = rest.dropFirst(high.count + 1)
    let lower = low.isEmpty ? Int.min : Int(low)
    let upper = high.isEmpty ? Int.max : Int(high)
    guard let lower, let upper, lower <= upper, high.count == rest.count || Int(tuned) != nil else {
      throw scanner.failure("'\(text)' is no range", hint: hint)
    }
    return (Interval(lower, upper), Int(tuned))
  }

  private mutating func skipParenthesized() throws(GraphError) {
    try scanner.expect("(")
    var depth = 1
    while depth > 0 {
      if scanner.peek("\"") {
        _ = try scanner.quotedText()
      } else if scanner.take("(") {
        depth += 1
      } else if scanner.take(")") {
        depth -= 1
      } else if !scanner.skipByte() {
        throw scanner.error("')'")
      }
    }
  }

  // MARK: Graphs

  private mutating func parseGraph(depth: Int) throws(GraphError) -> Graph {
    if depth > Self.deepest { throw scanner.failure("bodies are nested too deeply") }
    var scope = Scope()
    try scanner.expect("graph")
    try scanner.expect("(")
    while !scanner.take(")") {
      if !scope.graph.inputs.isEmpty { try scanner.expect(",") }
      let name = try valueName()
      try scanner.expect(":")
      let type = try scanner.valueType(symbols, depth: 0)
      try define(name, scope.graph.addInput(name.name, type), &scope)
    }
    try scanner.expect("->")
    let outputs = try parseOutputs()
    if scanner.take("symbols") { try skipParenthesized() }
    try scanner.expect("{")
    while !scanner.take("}") { try parseNode(&scope, depth: depth) }
    for output in outputs {
      guard let id = scope.values[output.key] else { throw scanner.failure("output \(output.key) is not defined") }
      scope.graph.outputs.append(id)
    }
    scope.graph.outputNames = outputs.compactMap(\.alias)
    return scope.graph
  }

  private mutating func parseOutputs() throws(GraphError) -> [(key: String, alias: String?)] {
    var outputs: [(key: String, alias: String?)] = []
    try scanner.expect("(")
    while !scanner.take(")") {
      if !outputs.isEmpty { try scanner.expect(",") }
      let name = try valueName()
      outputs.append((name.key, scanner.take("as") ? try scanner.quotedText() : nil))
    }
    let named = outputs.count { $0.alias != nil }
    if named != 0, named != outputs.count { throw scanner.failure("either all outputs have a name or none") }
    return outputs
  }

  private mutating func parseNode(_ scope: inout Scope, depth: Int) throws(GraphError) {
    var results: [ValueName] = []
    if scanner.peek("%") {
      repeat { results.append(try valueName()) } while scanner.take(",")
      try scanner.expect("=")
    }
    if scanner.take("constant") {
      guard results.count == 1 else { throw scanner.failure("a constant is one value") }
      let tensor = try parseConstant()
      try define(results[0], scope.graph.addConstant(tensor, name: results[0].name), &scope)
      return
    }
    let place = scanner
    let opName = scanner.word()
    if opName.isEmpty { throw scanner.error("an operation") }
    let operands = try parseOperands(scope)
    var op = try make(opName, try parseAttributes(), at: place)
    let bodies = try parseBodies(depth: depth)
    if !bodies.isEmpty {
      do { op = try op.with(bodies: bodies) } catch { throw placed(error, place) }
    }
    let types = try parseTypes()
    let nodeName = scanner.take("@") ? try scanner.quotedText() : ""
    let ids: [ValueID]
    do {
      ids = try scope.graph.add(op, operands, name: nodeName, resultNames: results.map(\.name))
    } catch {
      throw placed(GraphError(problems: error.problems), place)
    }
    if ids.count != results.count {
      throw place.failure("\(opName) has \(ids.count) results, \(results.count) are named")
    }
    if let types, types != ids.map({ scope.graph.type($0) }) {
      let found = ids.map { "\(scope.graph.type($0))" }.joined(separator: ", ")
      throw place.failure("\(opName) has results of type \(found), the text says otherwise")
    }
    for (name, id) in zip(results, ids) { try define(name, id, &scope) }
  }

  private mutating func parseOperands(_ scope: Scope) throws(GraphError) -> [ValueID] {
    var operands: [ValueID] = []
    try scanner.expect("(")
    while !scanner.take(")") {
      if !operands.isEmpty { try scanner.expect(",") }
      let place = scanner
      let name = try valueName()
      guard let id = scope.values[name.key] else { throw place.failure("\(name.key) is not defined before its use") }
      operands.append(id)
    }
    return operands
  }

  private mutating func parseAttributes() throws(GraphError) -> Attributes {
    var entries: [(String, Attribute)] = []
    guard scanner.take("{") else { return Attributes(entries) }
    while !scanner.take("}") {
      if !entries.isEmpty { try scanner.expect(",") }
      let name = scanner.word()
      if name.isEmpty { throw scanner.error("an attribute") }
      try scanner.expect(":")
      entries.append((name, try scanner.attribute(symbols)))
    }
    return Attributes(entries)
  }

  private mutating func parseBodies(depth: Int) throws(GraphError) -> [Graph] {
    guard scanner.take("bodies") else { return [] }
    try scanner.expect("[")
    var bodies: [Graph] = []
    while !scanner.take("]") {
      if !bodies.isEmpty { try scanner.expect(",") }
      bodies.append(try parseGraph(depth: depth + 1))
    }
    return bodies
  }

  private mutating func parseTypes() throws(GraphError) -> [ValueType]? {
    guard scanner.take(":") else { return nil }
    var types: [ValueType] = []
    repeat { types.append(try scanner.valueType(symbols, depth: 0)) } while scanner.take(",")
    return types
  }

  private func make(_ name: String, _ attributes: Attributes, at place: TextScanner) throws(GraphError)
    -> any Operation
  {
    do { return try catalogue.make(name, attributes) } catch { throw placed(error, place) }
  }

  private func placed(_ error: GraphError, _ place: TextScanner) -> GraphError {
    error.at(place.failure("").problems[0].place)
  }

  // MARK: Values

  private struct Scope {
    var graph = Graph()
    var values: [String: ValueID] = [:]
  }

  /// A value as the text spells it, and the name it has in the graph.
  private struct ValueName {
    let key: String
    let name: String
  }

  private mutating func valueName() throws(GraphError) -> ValueName {
    try scanner.expect("%")
    let isQuoted = scanner.peek("\"")
    let text = isQuoted ? try scanner.quotedText() : scanner.word()
    if text.isEmpty { throw scanner.error("a name") }
    let suffix = scanner.take("#") ? "#" + scanner.word() : ""
    let isNumber = !isQuoted && !TextScanner.isIdentifier(text)
    return ValueName(key: (isNumber ? "%" : "%\"") + text + suffix, name: isNumber ? "" : text)
  }

  private func define(_ name: ValueName, _ id: ValueID, _ scope: inout Scope) throws(GraphError) {
    if scope.values.updateValue(id, forKey: name.key) != nil {
      throw scanner.failure("\(name.key) is defined twice")
    }
  }

  // MARK: Constants

  private mutating func parseConstant() throws(GraphError) -> HostTensor {
    let place = scanner
    guard let type = try scanner.valueType(symbols, depth: 0).tensor, let shape = type.constantShape,
      shape.allSatisfy({ $0 >= 0 })
    else { throw place.failure("a constant is a tensor of known sizes") }
    if scanner.take("external") {
      try scanner.expect("(")
      let name = try scanner.quotedText()
      try scanner.expect(")")
      guard let tensor = constants[name], tensor.dtype == type.dtype, tensor.shape == shape else {
        throw place.failure("no constant \(quoted(name)) of type \(type) was given")
      }
      return tensor
    }
    let count = shape.reduce(1, saturatingMultiply)
    if scanner.take("random") {
      try scanner.expect("(")
      guard let seed = scanner.integer(), count <= 1 << 24 else { throw scanner.error("a seed, and fewer elements") }
      try scanner.expect(")")
      return RandomTensor.make(type.dtype, shape, seed: UInt64(bitPattern: Int64(seed)))
    }
    try scanner.expect("{")
    var texts: [String] = []
    while !scanner.take("}") {
      if !texts.isEmpty { try scanner.expect(",") }
      texts.append(type.dtype == .string ? try scanner.quotedText() : scanner.element())
      if texts.count > count { break }
    }
    guard texts.count == count else { throw place.failure("\(type) has \(count) elements, not \(texts.count)") }
    guard let tensor = Self.tensor(type.dtype, shape, texts) else {
      throw place.failure("the elements are not all of type \(type.dtype)")
    }
    return tensor
  }

  private static func tensor(_ dtype: DType, _ shape: [Int], _ texts: [String]) -> HostTensor? {
    func all<Element>(_ values: [Element]) -> [Element]? { values.count == texts.count ? values : nil }
    switch dtype {
    case .string: return HostTensor(strings: texts, shape: shape)
    case .bool:
      return all(texts.compactMap { $0 == "true" ? UInt8(1) : $0 == "false" ? 0 : nil }).map {
        HostTensor(dtype, shape, elements: $0)
      }
    case .u64: return all(texts.compactMap { UInt64($0) }).map { HostTensor(dtype, shape, elements: $0) }
    case .f32:
      return all(texts.compactMap { bits($0, UInt32.self).map { Float(bitPattern: $0) } ?? Float($0) }).map {
        HostTensor(dtype, shape, elements: $0)
      }
    case .f64:
      return all(texts.compactMap { bits($0, UInt64.self).map { Double(bitPattern: $0) } ?? Double($0) }).map {
        HostTensor(dtype, shape, elements: $0)
      }
    case _ where dtype.isFloat: return smallFloats(dtype, shape, texts)
    default: return all(texts.compactMap { Int64($0) }).map { HostTensor(dtype, shape, int64s: $0) }
    }
  }

  private static func smallFloats(_ dtype: DType, _ shape: [Int], _ texts: [String]) -> HostTensor? {
    var patterns: [UInt16] = []
    for text in texts {
      if let pattern = bits(text, UInt16.self) {
        patterns.append(pattern)
      } else if let value = Double(text) {
        let one = HostTensor(scalar: value, dtype)
        patterns.append(
          dtype.byteCount == 2 ? one.elements(as: UInt16.self)[0] : UInt16(one.elements(as: UInt8.self)[0]))
      } else {
        return nil
      }
    }
    if dtype.byteCount == 2 { return HostTensor(dtype, shape, elements: patterns) }
    return HostTensor(dtype, shape, elements: patterns.map { UInt8(truncatingIfNeeded: $0) })
  }

  private static func bits<Pattern: FixedWidthInteger>(_ text: String, _ type: Pattern.Type) -> Pattern? {
    text.hasPrefix("0x") ? Pattern(text.dropFirst(2), radix: 16) : nil
  }
}
