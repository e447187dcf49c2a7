import ApusCore
import ApusGraph

/// Lowers one node: gives its results' values in the order of the node's outputs.
typealias Lowering = @Sendable (NodeContext) throws(ImportError) -> [ValueID]

/// One ONNX node while it is turned into Apus operations: its inputs, its attributes and the graph it goes to.
final class NodeContext {
  let scope: NameScope
  let node: Onnx_NodeProto
  /// Version of the operator set of the node's domain.
  let opset: Int
  /// Inputs by position; nil where the node leaves one out.
  let inputs: [ValueID?]
  let attributes: [String: Onnx_AttributeProto]

  init(scope: NameScope, node: Onnx_NodeProto, inputs: [ValueID?], attributes: [String: Onnx_AttributeProto]) {
    self.scope = scope
    self.node = node
    self.inputs = inputs
    self.attributes = attributes
    opset = scope.opsets[node.canonicalDomain] ?? 1
  }

  var builder: GraphBuilder { scope.builder }
  var session: ImportSession { scope.session }

  // MARK: Inputs and results

  /// The input at `position`, which must be present.
  func input(_ position: Int) throws(ImportError) -> ValueID {
    guard let id = optional(position) else {
      throw ImportError("APUS-I-0014", "input \(position) is missing, the node has \(inputs.count) inputs")
    }
    return id
  }

  /// The input at `position`; nil when the node leaves it out.
  func optional(_ position: Int) -> ValueID? { position < inputs.count ? inputs[position] : nil }

  /// All inputs, none of which may be left out; at least `minimum` of them.
  func allInputs(atLeast minimum: Int = 1) throws(ImportError) -> [ValueID] {
    let present = inputs.compactMap { $0 }
    guard present.count == inputs.count, present.count >= minimum else {
      throw ImportError("APUS-I-0014", "at least \(minimum) inputs are needed and none may be left out")
    }
    return present
  }

  /// Whether the model uses the result at `position`.
  func wants(_ position: Int) -> Bool { position < node.output.count && !node.output[position].isEmpty }

  // MARK: Types

  func type(_ id: ValueID) throws(ImportError) -> TensorType {
    guard let type = builder.graph.type(id).tensor else {
      throw ImportError("APUS-I-0013", "a tensor is expected, found \(builder.graph.type(id))")
    }
    return type
  }

  func shape(_ id: ValueID) throws(ImportError) -> Shape { try type(id).shape }
  func rank(_ id: ValueID) throws(ImportError) -> Int { try type(id).rank }
  func dtype(_ id: ValueID) throws(ImportError) -> DType { try type(id).dtype }

  /// The shape, which must have `rank` dims.
  func shape(_ id: ValueID, rank: Int, _ what: String) throws(ImportError) -> Shape {
    let shape = try shape(id)
    if shape.count == rank { return shape }
    throw ImportError("APUS-I-0013", "\(what) must have rank \(rank), found rank \(shape.count)")
  }

  /// The shape, which must have at least `rank` dims.
  func shape(_ id: ValueID, minimumRank rank: Int, _ what: String = "the input") throws(ImportError) -> Shape {
    let shape = try shape(id)
    if shape.count >= rank { return shape }
    throw ImportError("APUS-I-0013", "\(what) must have at least rank \(rank), found rank \(shape.count)")
  }

  /// `axis` counted from the front, checked to be one of `rank` axes.
  func normalized(_ axis: Int, rank: Int) throws(ImportError) -> Int {
    let position = axis < 0 ? saturatingAdd(axis, rank) : axis
    if position >= 0 && position < rank { return position }
    throw ImportError("APUS-I-0013", "axis \(axis) is outside rank \(rank)")
  }

  /// Axes counted from the front, sorted; each at most once.
  func normalized(axes: [Int], rank: Int) throws(ImportError) -> [Int] {
    var sorted: [Int] = []
    for axis in axes { sorted.append(try normalized(axis, rank: rank)) }
    sorted.sort()
    if Set(sorted).count != sorted.count { throw ImportError("APUS-I-0013", "axes \(axes) name one axis twice") }
    return sorted
  }

  // MARK: Known values

  /// The value of a constant.
  func constant(_ id: ValueID) -> HostTensor? { builder.graph[id].constant }

  /// The elements of a small integer tensor as sizes, where they are known.
  func knownDims(_ id: ValueID) -> [Dim]? { builder.graph[id].dims }

  /// The elements of an integer tensor, which must be known when the model is read.
  func requireInts(_ id: ValueID, _ what: String) throws(ImportError) -> [Int] {
    if let dims = knownDims(id) {
      let values = dims.compactMap(\.constantValue)
      if values.count == dims.count { return values }
    }
    if let tensor = constant(id), tensor.dtype.isInteger || tensor.dtype == .bool { return tensor.ints }
    throw mustBeKnown(id, what)
  }

  func requireInt(_ id: ValueID, _ what: String) throws(ImportError) -> Int {
    let values = try requireInts(id, what)
    if values.count == 1 { return values[0] }
    throw ImportError("APUS-I-0013", "\(what) must be one integer, found \(values.count)")
  }

  /// The elements of a numeric tensor, which must be known when the model is read.
  func requireNumbers(_ id: ValueID, _ what: String) throws(ImportError) -> [Double] {
    if let tensor = constant(id), tensor.dtype != .string { return tensor.doubles }
    if let dims = knownDims(id) {
      let values = dims.compactMap(\.constantValue)
      if values.count == dims.count { return values.map(Double.init) }
    }
    throw mustBeKnown(id, what)
  }

  func mustBeKnown(_ id: ValueID, _ what: String) -> ImportError {
    let name = builder.graph[id].name
    return ImportError(
      "APUS-I-0015", "\(what)\(name.isEmpty ? "" : " '\(name)'") must be known when the model is read",
      hint: "Fix the input it is computed from when importing, or make it an initializer.")
  }

  /// The elements of a rank-0 or rank-1 integer tensor as sizes; where they are not known before running, each becomes
  /// a fresh symbol that is set when the tensor has been computed.
  func sizes(_ id: ValueID, _ what: String, range: Interval = Interval(0, .max)) throws(ImportError) -> [Dim] {
    if let dims = knownDims(id) { return dims }
    if let tensor = constant(id), tensor.dtype.isInteger { return tensor.ints.map { Dim($0) } }
    let type = try type(id)
    guard type.rank <= 1, let count = type.elementCount.constantValue, count <= 64, type.dtype.isInteger else {
      throw mustBeKnown(id, what)
    }
    let stem = builder.graph[id].name.isEmpty ? what : builder.graph[id].name
    let dims = (0..<count).map { Dim(session.symbols.fresh("\(stem)_\($0)", range)) }
    try bind(id, to: dims)
    return dims
  }

  private func bind(_ id: ValueID, to dims: [Dim]) throws(ImportError) {
    _ = try emitAll("bind_dims", ["dims": .dims(dims)], [id])
    builder.graph[id].dims = dims
  }

  /// One integer as a size, see ``sizes(_:_:range:)``.
  func size(_ id: ValueID, _ what: String, range: Interval = Interval(0, .max)) throws(ImportError) -> Dim {
    let dims = try sizes(id, what, range: range)
    if dims.count == 1 { return dims[0] }
    throw ImportError("APUS-I-0013", "\(what) must be one integer, found \(dims.count)")
  }

  func freshSymbol(_ stem: String, _ range: Interval = Interval(0, .max)) -> Symbol {
    session.symbols.fresh(stem, range)
  }

  // MARK: Attributes

  func hasAttribute(_ name: String) -> Bool { attributes[name] != nil }

  func attribute(_ name: String) -> Onnx_AttributeProto? { attributes[name] }

  private func value<T>(
    _ name: String, _ types: [Onnx_AttributeProto.AttributeType], _ get: (Onnx_AttributeProto) -> T
  ) throws(ImportError) -> T? {
    guard let attribute = attributes[name] else { return nil }
    if attribute.hasType, !types.contains(attribute.type), attribute.type != .undefined {
      throw ImportError("APUS-I-0012", "attribute '\(name)' has another type than expected")
    }
    return get(attribute)
  }

  private func required<T>(_ name: String, _ value: T?) throws(ImportError) -> T {
    if let value { return value }
    throw ImportError("APUS-I-0012", "attribute '\(name)' is missing")
  }

  func optionalInt(_ name: String) throws(ImportError) -> Int? { try value(name, [.int]) { Int($0.i) } }
  func optionalFloat(_ name: String) throws(ImportError) -> Double? { try value(name, [.float]) { Double($0.f) } }
  func optionalString(_ name: String) throws(ImportError) -> String? {
    try value(name, [.string]) { String(decoding: $0.s, as: UTF8.self) }
  }
  func optionalInts(_ name: String) throws(ImportError) -> [Int]? {
    try value(name, [.ints]) { $0.ints.map { Int($0) } }
  }
  func optionalFloats(_ name: String) throws(ImportError) -> [Double]? {
    try value(name, [.floats]) { $0.floats.map { Double($0) } }
  }
  func optionalStrings(_ name: String) throws(ImportError) -> [String]? {
    try value(name, [.strings]) { $0.strings.map { String(decoding: $0, as: UTF8.self) } }
  }

  func int(_ name: String, _ standard: Int) throws(ImportError) -> Int { try optionalInt(name) ?? standard }
  func int(_ name: String) throws(ImportError) -> Int { try required(name, optionalInt(name)) }
  func flag(_ name: String, _ standard: Bool = false) throws(ImportError) -> Bool {
    try int(name, standard ? 1 : 0) != 0
  }
  func float(_ name: String, _ standard: Double) throws(ImportError) -> Double {
    try optionalFloat(name) ?? Double(Float(standard))
  }
  func string(_ name: String, _ standard: String) throws(ImportError) -> String {
    try optionalString(name) ?? standard
  }
  func string(_ name: String) throws(ImportError) -> String { try required(name, optionalString(name)) }
  func ints(_ name: String) throws(ImportError) -> [Int] { try required(name, optionalInts(name)) }

  /// The attribute's text, which must be one of `choices`.
  func choice(_ name: String, _ choices: [String], default standard: String) throws(ImportError) -> String {
    let text = try string(name, standard)
    if choices.contains(text) { return text }
    throw ImportError(
      "APUS-I-0012", "attribute '\(name)' is '\(text)'; accepted: \(choices.joined(separator: ", "))")
  }

  func optionalDType(_ name: String) throws(ImportError) -> DType? {
    guard let code = try optionalInt(name) else { return nil }
    return try DType.onnx(code)
  }

  func optionalTensor(_ name: String) throws(ImportError) -> HostTensor? {
    guard let proto = try value(name, [.tensor], { $0.t }) else { return nil }
    return try session.tensors.tensor(proto)
  }

  func graph(_ name: String) throws(ImportError) -> Onnx_GraphProto {
    try required(name, value(name, [.graph]) { $0.g })
  }
}
