package import ApusCore
package import ApusGraph

/// A model as it was read from a file: its graph in Apus operations, and what the file says about itself.
package struct Model: Sendable {
  package var graph: Graph
  package var name: String
  /// Name and version of the program that wrote the file.
  package var producer: String
  /// Version of each operator set that the file imports, by domain.
  package var opsets: [String: Int]
  package var metadata: [String: String]

  package init(graph: Graph, name: String, producer: String, opsets: [String: Int], metadata: [String: String]) {
    self.graph = graph
    self.name = name
    self.producer = producer
    self.opsets = opsets
    self.metadata = metadata
  }
}

/// What the user decides about a model when it is read.
package struct ImportOptions: Sendable {
  /// Shapes of inputs that replace those in the file, by input name.
  package var shapes: [String: Shape]
  /// Elements of integer inputs that decide sizes, by input name: numbers, and symbols that take what a call gives.
  package var values: [String: [Dim]]
  /// Inputs whose value is fixed when the model is read: they become constants.
  package var constants: [String: HostTensor]
  /// The operations that may be used.
  package var catalogue: Catalogue

  package init(
    shapes: [String: Shape] = [:], values: [String: [Dim]] = [:], constants: [String: HostTensor] = [:],
    catalogue: Catalogue
  ) {
    self.shapes = shapes
    self.values = values
    self.constants = constants
    self.catalogue = catalogue
  }
}

/// Reads one model format.
package protocol Importer: Sendable {
  /// Name of the format, for messages.
  var format: String { get }

  /// Whether a file that starts with these bytes looks like this format.
  func canRead(prefix: UnsafeRawBufferPointer) -> Bool

  /// Names and types of the inputs that a model asks for, without reading its nodes.
  func inputs(of path: String) throws(ImportError) -> [(name: String, type: ValueType)]

  /// Reads a model and all files it refers to.
  ///
  /// - Throws: ``ImportError`` with every problem of the model.
  func load(_ path: String, _ options: ImportOptions) throws(ImportError) -> Model
}
