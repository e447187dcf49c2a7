import ApusCore
import ApusGraph

/// The names of one ONNX graph or function body while its nodes are lowered.
final class NameScope {
  enum Slot {
    case value(ValueID)
    /// A value whose node could not be lowered; its users are skipped without a further message.
    case failed
    /// A function's parameter that the call leaves out.
    case omitted
  }

  let session: ImportSession
  let builder: GraphBuilder
  let opsets: [String: Int]
  /// Prefix of node names: the path of inlined functions and branches.
  let path: String
  private let parent: NameScope?
  /// Functions being inlined, outermost first.
  private let callStack: [String]
  /// Attributes of the function call that this body is inlined for.
  private let callAttributes: [String: Onnx_AttributeProto]?
  private var slots: [String: Slot] = [:]

  init(
    session: ImportSession, builder: GraphBuilder, parent: NameScope?, opsets: [String: Int], path: String,
    callStack: [String] = [], callAttributes: [String: Onnx_AttributeProto]? = nil
  ) {
    self.session = session
    self.builder = builder
    self.parent = parent
    self.opsets = opsets
    self.path = path
    self.callStack = callStack
    self.callAttributes = callAttributes
  }

  /// A scope for a sub-graph that sees this scope's names.
  func child(_ builder: GraphBuilder, path: String) -> NameScope {
    NameScope(
      session: session, builder: builder, parent: self, opsets: opsets, path: path, callStack: callStack,
      callAttributes: callAttributes)
  }

  // MARK: Names

  func define(_ name: String, _ id: ValueID) throws(ImportError) {
    if name.isEmpty { throw ImportError("APUS-I-0030", "a value has no name") }
    if slots.updateValue(.value(id), forKey: name) != nil {
      throw ImportError(
        "APUS-I-0030", "the name '\(name)' is given to two values", hint: "Every value needs a name of its own.")
    }
  }

  func fail(_ name: String) { if !name.isEmpty { slots[name] = .failed } }

  private func omit(_ name: String) { slots[name] = .omitted }

  func lookup(_ name: String) -> Slot? {
    if let slot = slots[name] { return slot }
    guard let parent, let slot = parent.lookup(name) else { return nil }
    guard case .value(let id) = slot, parent.builder !== builder else { return slot }
    return .value(builder.capture(id))
  }

  // MARK: Graphs

  /// Lowers a graph's constants and nodes. Its inputs must have been defined.
  func lower(_ proto: Onnx_GraphProto) throws(ImportError) {
    for initializer in proto.initializer {
      do { try define(initializer.name, constant(try session.tensors.tensor(initializer), initializer.name)) } catch {
        session.report(error)
        fail(initializer.name)
      }
    }
    for initializer in proto.sparseInitializer {
      let name = initializer.values.name
      do { try define(name, constant(try session.tensors.tensor(initializer), name)) } catch {
        session.report(error.at("sparse tensor '\(name)'"))
        fail(name)
      }
    }
    try lower(proto.node)
  }

  private func constant(_ tensor: HostTensor, _ name: String) -> ValueID {
    builder.graph.addConstant(tensor, name: name)
  }

  func lower(_ nodes: [Onnx_NodeProto]) throws(ImportError) {
    for index in try NodeOrder.sort(nodes, isDefined: { lookup($0) != nil }) { try lower(nodes[index]) }
  }

  /// The values of a graph's outputs, once its nodes are lowered; nil when one failed.
  func outputs(_ proto: Onnx_GraphProto) throws(ImportError) -> [ValueID]? {
    var values: [ValueID] = []
    for output in proto.output {
      switch lookup(output.name) {
      case .value(let id)?: values.append(id)
      case .failed?: return nil
      case .omitted?, nil: throw ImportError("APUS-I-0031", "output '\(output.name)' is computed by no node")
      }
    }
    return values
  }

  // MARK: Nodes

  private func lower(_ node: Onnx_NodeProto) throws(ImportError) {
    try session.countNode()
    var inputs: [ValueID?] = []
    for name in node.input {
      if name.isEmpty {
        inputs.append(nil)
        continue
      }
      switch lookup(name) {
      case .value(let id)?: inputs.append(id)
      case .omitted?: inputs.append(nil)
      case .failed?, nil:
        if !isKnown(node) { session.reportUnsupported(node.qualifiedName, place: place(node, [])) }
        node.output.forEach(fail)
        return
      }
    }
    do {
      let results = try results(of: node, inputs)
      for (name, id) in zip(node.output, results) where !name.isEmpty {
        if builder.graph[id].name.isEmpty { builder.graph[id].name = path + name }
        try define(name, id)
      }
      for name in node.output.dropFirst(results.count) { fail(name) }
      try checkOutputs(node, results.count)
    } catch {
      for name in node.output where slots[name] == nil { fail(name) }
      session.report(error, node, place: place(node, inputs))
    }
  }

  private func checkOutputs(_ node: Onnx_NodeProto, _ count: Int) throws(ImportError) {
    guard let missing = node.output.dropFirst(count).first(where: { !$0.isEmpty }) else { return }
    throw ImportError(
      "APUS-I-0011", "result '\(missing)' is not supported: only the first \(count) of this operator are")
  }

  private func isKnown(_ node: Onnx_NodeProto) -> Bool {
    session.function(node) != nil || OperatorTable.lowering(node.qualifiedName) != nil
  }

  private func results(of node: Onnx_NodeProto, _ inputs: [ValueID?]) throws(ImportError) -> [ValueID] {
    let attributes = try resolvedAttributes(of: node)
    if let function = session.function(node) { return try inline(function, node, inputs, attributes) }
    guard let lowering = OperatorTable.lowering(node.qualifiedName) else { throw .unsupported() }
    let context = NodeContext(scope: self, node: node, inputs: inputs, attributes: attributes)
    return try lowering(context)
  }

  /// The node's attributes by name, with references to the enclosing function's attributes resolved.
  private func resolvedAttributes(of node: Onnx_NodeProto) throws(ImportError) -> [String: Onnx_AttributeProto] {
    var attributes: [String: Onnx_AttributeProto] = [:]
    for attribute in node.attribute {
      if attribute.refAttrName.isEmpty {
        attributes[attribute.name] = attribute
      } else if let callAttributes {
        if var value = callAttributes[attribute.refAttrName] {
          value.name = attribute.name
          attributes[attribute.name] = value
        }
      } else {
        throw ImportError(
          "APUS-I-0012", "attribute '\(attribute.name)' refers to '\(attribute.refAttrName)' outside a function")
      }
    }
    return attributes
  }

  private func place(_ node: Onnx_NodeProto, _ inputs: [ValueID?]) -> String {
    let types = inputs.map { $0.map { builder.graph.type($0).description } ?? "-" }
    let name = node.name.isEmpty ? node.output.first ?? "" : node.name
    let opset = opsets[node.canonicalDomain].map { "opset \($0)" } ?? "no opset"
    return "\(node.qualifiedName) '\(path)\(name)' (\(opset); \(types.joined(separator: ", ")))"
  }

  // MARK: Functions

  private func inline(
    _ function: Onnx_FunctionProto, _ node: Onnx_NodeProto, _ inputs: [ValueID?],
    _ attributes: [String: Onnx_AttributeProto]
  ) throws(ImportError) -> [ValueID] {
    let name = "\(node.qualifiedName):\(node.overload)"
    if callStack.contains(name) || callStack.count > 64 {
      throw ImportError(
        "APUS-I-0033", "function \(node.qualifiedName) calls itself: \((callStack + [name]).joined(separator: " → "))")
    }
    guard inputs.count <= function.input.count else {
      throw ImportError(
        "APUS-I-0014",
        "function \(node.qualifiedName) takes \(function.input.count) inputs, the node has \(inputs.count)")
    }
    var values = Dictionary(function.attributeProto.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    for (key, value) in attributes { values[key] = value }
    var versions = try ONNXImporter.opsets(function.opsetImport)
    for (domain, version) in opsets where versions[domain] == nil { versions[domain] = version }
    let label = node.name.isEmpty ? node.opType : node.name
    let scope = NameScope(
      session: session, builder: builder, parent: nil, opsets: versions, path: "\(path)\(label)/",
      callStack: callStack + [name], callAttributes: values)
    for (index, parameter) in function.input.enumerated() {
      if index < inputs.count, let id = inputs[index] { try scope.define(parameter, id) } else { scope.omit(parameter) }
    }
    try scope.lower(function.node)
    return try scope.functionResults(function)
  }

  private func functionResults(_ function: Onnx_FunctionProto) throws(ImportError) -> [ValueID] {
    var results: [ValueID] = []
    for output in function.output {
      switch lookup(output) {
      case .value(let id)?: results.append(id)
      case .failed?: throw ImportError(problems: [])
      case .omitted?, nil: throw ImportError("APUS-I-0031", "output '\(output)' of the function is computed by no node")
      }
    }
    return results
  }
}
