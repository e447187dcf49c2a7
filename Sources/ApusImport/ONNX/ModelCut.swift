package import ApusCore
import SwiftProtobuf

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// An ONNX model from which nodes can be taken away: what a node that is gone computed becomes an input.
package struct ModelCut: Sendable {
  var model: Onnx_ModelProto

  /// Reads a model file.
  ///
  /// - Throws: ``ImportError``, as the importer does, for a file that is no ONNX model.
  package init(path: String) throws(ImportError) {
    let file: MappedFile
    do { file = try MappedFile(path: path) } catch { throw ImportError("APUS-I-0001", "\(error)") }
    model = try ProtoFile.parse(Onnx_ModelProto.self, Data(file.bytes), "ONNX model")
    let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? "."
    // Smaller models are files by themselves.
    for index in model.graph.initializer.indices where model.graph.initializer[index].dataLocation == .external {
      let tensor = try TensorReader(external: ExternalData(folder: folder)).tensor(model.graph.initializer[index])
      model.graph.initializer[index].externalData = []
      model.graph.initializer[index].dataLocation = .default
      model.graph.initializer[index].rawData = tensor.withUnsafeBytes { Data($0) }
    }
  }

  /// The file's bytes.
  ///
  /// - Throws: ``ImportError`` `APUS-I-0001` when it is too large for one file.
  package func bytes() throws(ImportError) -> [UInt8] {
    do { return try model.serializedBytes() } catch { throw ImportError("APUS-I-0001", "\(error)") }
  }

  /// Nodes, those of bodies not among them.
  package var nodeCount: Int { model.graph.node.count }
  /// Nodes and those of all bodies.
  package var wholeCount: Int { nodeCount + bodyPaths.reduce(0) { $0 + nodeCount(in: $1) } }
  package var outputNames: [String] { model.graph.output.map(\.name) }
  package var inputNames: [String] { model.graph.input.map(\.name) }
  package var initializerNames: [String] { model.graph.initializer.map(\.name) }

  /// Names of all values that nodes compute.
  package var computedNames: [String] { model.graph.node.flatMap(\.output).filter { !$0.isEmpty } }

  /// What the nodes are, in their order, each before those of its bodies.
  package var nodeTexts: [String] { Self.texts(model.graph.node) }

  private static func texts(_ nodes: [Onnx_NodeProto]) -> [String] {
    nodes.flatMap { node -> [String] in
      ["\(node.qualifiedName) '\(node.name.isEmpty ? node.output.first ?? "" : node.name)'"]
        + node.attribute.filter(\.hasG).flatMap { texts($0.g.node).map { "  \($0)" } }
    }
  }

  /// The same model with other outputs.
  package func giving(_ names: [String]) -> ModelCut {
    var cut = self
    let known = Dictionary(model.graph.output.map { ($0.name, $0) }) { first, _ in first }
    cut.model.graph.output = names.map { name in known[name] ?? .with { $0.name = name } }
    return cut
  }

  /// Without the nodes at these places.
  ///
  /// - Parameter type: the type of a value by name, its sizes known; nil where it is not.
  /// - Returns: nil when nothing is left, or when a value that is still needed has no known type.
  package func without(_ places: Set<Int>, type: (String) -> TensorType?) -> ModelCut? {
    var cut = self
    cut.model.graph.node = model.graph.node.enumerated().filter { !places.contains($0.offset) }.map(\.element)
    let gone = Set(places.flatMap { model.graph.node[$0].output })
    let used = Set(cut.model.graph.node.flatMap(Self.uses))
    let made = Set(cut.computedNames)
    // What only nodes that are gone used is given now.
    let fresh = places.flatMap { Self.uses(model.graph.node[$0]) }.filter { made.contains($0) && !used.contains($0) }
    var names = outputNames.filter(made.contains)
    for name in fresh.sorted() where !names.contains(name) { names.append(name) }
    if names.isEmpty { return nil }
    cut = cut.giving(names)
    for name in gone.intersection(used).sorted() {
      guard let input = type(name).flatMap({ Self.input(name, $0) }) else { return nil }
      cut.model.graph.input.append(input)
    }
    return cut.pruned()
  }

  /// With an initializer as an input.
  package func freeing(_ name: String) -> ModelCut? {
    guard let place = model.graph.initializer.firstIndex(where: { $0.name == name }) else { return nil }
    var cut = self
    let tensor = cut.model.graph.initializer.remove(at: place)
    guard let dtype = try? DType.onnx(Int(tensor.dataType)),
      let input = Self.input(name, TensorType(dtype, tensor.dims.map { Dim(Int($0)) }))
    else { return nil }
    cut.model.graph.input.removeAll { $0.name == name }
    cut.model.graph.input.append(input)
    return cut
  }

  /// Without nodes that no output needs, inputs and initializers that nothing uses, and what says nothing about computing.
  package func pruned() -> ModelCut {
    var cut = self
    var needed = Set(outputNames)
    cut.model.graph.node = Self.kept(model.graph.node, &needed)
    cut.model.graph.input.removeAll { !needed.contains($0.name) }
    cut.model.graph.initializer.removeAll { !needed.contains($0.name) }
    cut.model.graph.sparseInitializer.removeAll { !needed.contains($0.values.name) }
    cut.model.graph.valueInfo = []
    cut.model.graph.quantizationAnnotation = []
    cut.model.metadataProps = []
    cut.model.docString = ""
    cut.model.graph.docString = ""
    let called = Self.called(cut.model.graph.node)
    if cut.model.functions.allSatisfy({ !called.contains("\($0.domain)::\($0.name)") }) { cut.model.functions = [] }
    return cut
  }

  /// Operators of nodes and of their bodies.
  private static func called(_ nodes: [Onnx_NodeProto]) -> Set<String> {
    nodes.reduce(into: []) { names, node in
      names.insert("\(node.domain)::\(node.opType)")
      for attribute in node.attribute where attribute.hasG { names.formUnion(called(attribute.g.node)) }
    }
  }

  /// The nodes that give something that is needed; what they take is needed as well.
  private static func kept(_ nodes: [Onnx_NodeProto], _ needed: inout Set<String>) -> [Onnx_NodeProto] {
    var kept: [Onnx_NodeProto] = []
    for var node in nodes.reversed() where node.output.contains(where: needed.contains) {
      for index in node.attribute.indices where node.attribute[index].hasG {
        var inside = Set(node.attribute[index].g.output.map(\.name))
        node.attribute[index].g.node = Self.kept(node.attribute[index].g.node, &inside)
        node.attribute[index].g.initializer.removeAll { !inside.contains($0.name) }
        node.attribute[index].g.valueInfo = []
      }
      kept.append(node)
      needed.formUnion(uses(node))
    }
    return kept.reversed()
  }

  /// Names that a node and its bodies take from around it.
  static func uses(_ node: Onnx_NodeProto) -> [String] {
    (node.input + node.attribute.flatMap(NodeOrder.freeNames)).filter { !$0.isEmpty }
  }

  static func input(_ name: String, _ type: TensorType) -> Onnx_ValueInfoProto? {
    guard let code = type.dtype.onnxCode, let shape = type.constantShape else { return nil }
    return .with {
      $0.name = name
      $0.type = .with {
        $0.tensorType = .with {
          $0.elemType = Int32(code)
          $0.shape = .with { $0.dim = shape.map { size in .with { $0.dimValue = Int64(size) } } }
        }
      }
    }
  }
}
