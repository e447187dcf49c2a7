package import ApusCore
package import ApusKernel

/// A kind of computation as a value: its attributes, its shape rule, its reference and its lowering.
///
/// An operation holds no graph structure. Two operations are equal when name and attributes are.
package protocol Operation: Sendable {
  /// Name in the graph's text form, `snake_case`.
  var name: String { get }

  /// All that distinguishes this operation from others of its name.
  var attributes: Attributes { get }

  /// The operation named `name` with these attributes. Types that serve one name ignore `name`.
  init(name: String, attributes: Attributes) throws(GraphError)

  /// The result types for these operand types.
  func infer(_ x: [ValueType]) throws(ShapeError) -> [ValueType]

  /// Computes the results: slow, clear, in f64 where it matters. The operands' types are such that ``infer(_:)`` accepts
  /// them; ``evaluate(_:)`` makes sure of it.
  func reference(_ x: [HostValue]) throws(EvaluationError) -> [HostValue]

  /// The results as functions of the operands' elements, or nil when the operation has no such form and a kernel
  /// template or the host computes it.
  func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]?

  /// Symbols that this operation sets when it runs (data-dependent sizes), in the order its attributes name them.
  var boundSymbols: [Symbol] { get }

  /// What is known of an integer result's elements as sizes, from what is known of the operands' elements; nil entries
  /// are unknown.
  func dims(_ x: [[Dim]?], _ types: [TensorType]) -> [[Dim]?]?

  /// Sub-graphs (branches, loop bodies). Their inputs are the node's operands that follow the operation's own.
  var bodies: [Graph] { get }

  /// The operation with other sub-graphs: how the text form and the passes put bodies into an operation.
  func with(bodies: [Graph]) throws(GraphError) -> any Operation

  /// Uses that every implementation is tested on; at least one for each name the type serves.
  static var samples: [Sample] { get }

  /// Whether the result is the first operand's elements in the same order under another shape.
  var isView: Bool { get }

  /// Whether equal operands always give equal results; false for random operations.
  var isPure: Bool { get }

  /// Floating-point or integer operations needed, for rooflines.
  func work(_ x: [ValueType], _ results: [ValueType]) -> Dim
}

extension Operation {
  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? { nil }
  package var boundSymbols: [Symbol] { [] }
  package func dims(_ x: [[Dim]?], _ types: [TensorType]) -> [[Dim]?]? { nil }
  package var bodies: [Graph] { [] }
  package func with(bodies: [Graph]) throws(GraphError) -> any Operation {
    if bodies.isEmpty { return self }
    throw GraphError("APUS-G-0012", "\(name) has no bodies, \(bodies.count) given")
  }
  package static var samples: [Sample] { [] }
  package var isView: Bool { false }
  package var isPure: Bool { true }
  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim {
    Dim.sum(results.compactMap { $0.tensor?.elementCount })
  }

  package func isEqual(to other: any Operation) -> Bool {
    name == other.name && attributes == other.attributes && bodies.isEmpty && other.bodies.isEmpty
  }
}

extension Operation {
  /// Computes the results of operands that may be unfit, such as values whose sizes became known only while running.
  ///
  /// - Throws: what ``infer(_:)`` says of the operands' types, or ``reference(_:)`` of their values.
  package func evaluate(_ x: [HostValue]) throws(EvaluationError) -> [HostValue] {
    do { _ = try infer(x.map(\.type)) } catch { throw EvaluationError(problems: error.problems) }
    return try reference(x)
  }
}

/// An operation on tensors only: the usual case.
package protocol TensorOperation: Operation {
  func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType]
  func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor]
}

extension TensorOperation {
  package func infer(_ x: [ValueType]) throws(ShapeError) -> [ValueType] {
    var types: [TensorType] = []
    for (index, type) in x.enumerated() {
      guard let tensor = type.tensor else {
        throw ShapeError("APUS-S-0002", "\(name): operand \(index) is \(type), a tensor is expected")
      }
      types.append(tensor)
    }
    return try infer(types).map { .tensor($0) }
  }

  package func reference(_ x: [HostValue]) throws(EvaluationError) -> [HostValue] {
    var tensors: [HostTensor] = []
    for (index, value) in x.enumerated() {
      guard let tensor = value.tensor else {
        throw EvaluationError("APUS-V-0001", "\(name): operand \(index) is not a tensor")
      }
      tensors.append(tensor)
    }
    return try reference(tensors).map { .tensor($0) }
  }
}

/// The operations that can be named in text and in files: one dictionary from name to type.
package struct Catalogue: Sendable {
  /// A type and the operation names that it serves.
  package typealias Entry = (names: [String], type: any Operation.Type)

  private let types: [String: any Operation.Type]

  package init(_ families: [[Entry]]) {
    var types: [String: any Operation.Type] = [:]
    for entry in families.joined() {
      for name in entry.names {
        precondition(types[name] == nil, "operation '\(name)' is listed twice")
        types[name] = entry.type
      }
    }
    self.types = types
  }

  package var names: [String] { types.keys.sorted() }

  package func type(_ name: String) -> (any Operation.Type)? { types[name] }

  package func make(_ name: String, _ attributes: Attributes) throws(GraphError) -> any Operation {
    guard let type = types[name] else {
      throw GraphError("APUS-G-0011", "no operation is called '\(name)'", hint: "`apus ops` lists all.")
    }
    return try type.init(name: name, attributes: attributes)
  }
}
