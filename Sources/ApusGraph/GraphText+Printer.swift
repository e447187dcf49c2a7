import ApusCore

/// Writes graphs as text. See ``GraphText``.
struct GraphPrinter {
  var text = ""
  var constants: [String: HostTensor] = [:]
  /// Constants of more elements than this are kept beside the text.
  var largestInline = GraphText.largestInline

  mutating func print(_ graph: Graph, indent: String, symbols: [Symbol]) {
    let names = ValueNames(graph)
    let inputs = graph.inputs.map { "\(names[$0]): \(graph.type($0))" }.joined(separator: ", ")
    let outputs = graph.outputs.enumerated().map { index, id in
      index < graph.outputNames.count ? "\(names[id]) as \(quoted(graph.outputNames[index]))" : names[id]
    }
    text += "graph(\(inputs)) -> (\(outputs.joined(separator: ", ")))"
    if !symbols.isEmpty { text += " symbols(\(symbols.map(declaration).joined(separator: ", ")))" }
    text += " {\n"
    for id in names.constants {
      guard let tensor = graph[id].constant else { continue }
      text += "\(indent)  \(names[id]) = constant \(tensor.type) \(elements(tensor))\n"
    }
    for id in graph.order { print(graph[id], graph, names, indent: indent + "  ") }
    text += "\(indent)}"
    if indent.isEmpty { text += "\n" }
  }

  private mutating func print(_ node: Node, _ graph: Graph, _ names: ValueNames, indent: String) {
    text += indent
    if !node.outputs.isEmpty { text += node.outputs.map { names[$0] }.joined(separator: ", ") + " = " }
    text += "\(node.op.name)(\(node.inputs.map { names[$0] }.joined(separator: ", ")))"
    print(node.op, indent: indent)
    if !node.outputs.isEmpty { text += " : " + node.outputs.map { "\(graph.type($0))" }.joined(separator: ", ") }
    if !node.name.isEmpty { text += " @\(quoted(node.name))" }
    text += "\n"
  }

  /// Attributes and bodies of an operation.
  mutating func print(_ op: any Operation, indent: String) {
    let attributes = op.attributes.entries
    if !attributes.isEmpty {
      text += " {\(attributes.map { "\($0.name): \(Self.text($0.value))" }.joined(separator: ", "))}"
    }
    let bodies = op.bodies
    if !bodies.isEmpty {
      text += " bodies [\n"
      for (index, body) in bodies.enumerated() {
        text += indent + "  "
        print(body, indent: indent + "  ", symbols: [])
        text += index + 1 < bodies.count ? ",\n" : "\n"
      }
      text += indent + "]"
    }
  }

  private func declaration(_ symbol: Symbol) -> String {
    let lower = symbol.range.lower == .min ? "" : "\(symbol.range.lower)"
    let upper = symbol.range.upper == .max ? "" : "\(symbol.range.upper)"
    return "\(symbol.name): \(lower)...\(upper)\(symbol.opt.map { "@\($0)" } ?? "")"
  }

  // MARK: Constants

  private mutating func elements(_ tensor: HostTensor) -> String {
    if tensor.elementCount > largestInline {
      let name = "c\(constants.count)"
      constants[name] = tensor
      return "external(\"\(name)\")"
    }
    return "{\(Self.elements(tensor).joined(separator: ", "))}"
  }

  private static func elements(_ tensor: HostTensor) -> [String] {
    switch tensor.dtype {
    case .string: return tensor.strings.map(quoted)
    case .bool: return tensor.int64s.map { $0 == 0 ? "false" : "true" }
    case .u64: return tensor.elements(as: UInt64.self).map(String.init)
    case .f32:
      return tensor.elements(as: Float.self).map { $0.isNaN ? bits($0.bitPattern) : $0.description }
    case .f64:
      return tensor.elements(as: Double.self).map { $0.isNaN ? bits($0.bitPattern) : $0.description }
    case let dtype where dtype.isFloat:
      let patterns =
        dtype.byteCount == 2 ? tensor.elements(as: UInt16.self) : tensor.elements(as: UInt8.self).map(UInt16.init)
      return zip(tensor.doubles, patterns).map { $0.isNaN ? bits($1) : $0.description }
    default: return tensor.int64s.map(String.init)
    }
  }

  /// A NaN is written by its bits, which say which one it is.
  private static func bits(_ pattern: some FixedWidthInteger) -> String { "0x" + String(pattern, radix: 16) }

  // MARK: Attributes

  private static func text(_ attribute: Attribute) -> String {
    switch attribute {
    case .int(let value): "\(value)"
    case .float(let value): value.description
    case .bool(let value): "\(value)"
    case .string(let value): quoted(value)
    case .dtype(let value): value.rawValue
    case .dim(let value): text(value)
    case .ints(let values): "\(values)"
    case .floats(let values): "\(values)"
    case .strings(let values): "[\(values.map(quoted).joined(separator: ", "))]"
    case .dims(let values): "[\(values.map { text($0) }.joined(separator: ", "))]"
    }
  }

  /// A symbol whose name reads as another kind of value is put in parentheses.
  private static func text(_ dim: Dim) -> String {
    let text = dim.description
    let isAmbiguous = dim.asSymbol != nil && (TextScanner.isReserved(text) || Double(text) != nil)
    return isAmbiguous ? "(\(text))" : text
  }
}

/// The names that values have in the text: their own, made unique, or numbers.
private struct ValueNames {
  private var names: [Int: String] = [:]
  /// Constants that nodes or outputs use, in order of first use.
  private(set) var constants: [ValueID] = []

  init(_ graph: Graph) {
    var used: [String: Int] = [:]
    var unnamed = 0
    func add(_ id: ValueID) {
      guard names[id.index] == nil else { return }
      let name = graph[id].name
      if name.isEmpty {
        names[id.index] = "%\(unnamed)"
        unnamed += 1
        return
      }
      let count = (used[name] ?? 0) + 1
      used[name] = count
      let spelled = TextScanner.isIdentifier(name) ? name : quoted(name)
      names[id.index] = "%" + spelled + (count > 1 ? "#\(count)" : "")
    }
    graph.inputs.forEach { add($0) }
    let users = graph.order.flatMap { graph[$0].inputs } + graph.outputs
    for id in users where graph[id].constant != nil && names[id.index] == nil {
      add(id)
      constants.append(id)
    }
    for node in graph.order { graph[node].outputs.forEach { add($0) } }
  }

  subscript(_ id: ValueID) -> String { names[id.index] ?? "%undefined" }
}

/// Text in quotation marks with `"`, `\` and line ends escaped.
func quoted(_ text: String) -> String {
  var result = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"": result += "\\\""
    case "\\": result += "\\\\"
    case "\n": result += "\\n"
    case "\r": result += "\\r"
    case "\t": result += "\\t"
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result + "\""
}
