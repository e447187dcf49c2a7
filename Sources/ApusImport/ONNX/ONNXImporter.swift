package import ApusCore
import ApusGraph

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// Reads ONNX models of operator sets 7 to 28, with external data, local functions and control flow.
///
/// Operators are decomposed into Apus operations through the family tables of `Operators/`; the differences between
/// operator set versions are normalised there and nowhere else.
package struct ONNXImporter: Importer {
  package init() {}

  package var format: String { "ONNX" }

  /// Field numbers of `ModelProto` that a file may start with.
  private static let modelFields: Set<UInt8> = [1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26]

  package func canRead(prefix: UnsafeRawBufferPointer) -> Bool {
    guard prefix.count >= 2 else { return false }
    let field = prefix[0] >> 3
    let isVarint = field == 1 || field == 5
    return ONNXImporter.modelFields.contains(field) && prefix[0] & 7 == (isVarint ? 0 : 2)
  }

  /// Reads a model file.
  ///
  /// - Throws: ``ImportError``: `APUS-I-0001` unreadable, `APUS-I-0002` not an ONNX model, else every problem of the model.
  package func load(_ path: String, _ options: ImportOptions) throws(ImportError) -> Model {
    let file: MappedFile
    do { file = try MappedFile(path: path) } catch { throw ImportError("APUS-I-0001", "\(error)") }
    let slash = path.lastIndex(of: "/")
    let folder = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    do { return try load(file.bytes, folder: folder, options) } catch { throw error.at(path) }
  }

  /// The names and types of a model's inputs, initializers left out, without reading its nodes.
  ///
  /// Dims without a name are symbols `<input>_<axis>`.
  package func inputs(of path: String) throws(ImportError) -> [(name: String, type: ValueType)] {
    let file: MappedFile
    do { file = try MappedFile(path: path) } catch { throw ImportError("APUS-I-0001", "\(error)") }
    do {
      let proto = try parse(file.bytes)
      let session = ImportSession(
        proto, opsets: [:], folder: nil, options: ImportOptions(catalogue: Catalogue([])))
      return try InputReader(session: session).inputs(of: proto.graph)
    } catch { throw error.at(path) }
  }

  /// Reads a model from memory.
  ///
  /// - Parameter folder: where external data files may lie; nil when there are none.
  package func load(
    _ bytes: UnsafeRawBufferPointer, folder: String? = nil, _ options: ImportOptions
  ) throws(ImportError) -> Model {
    try load(try parse(bytes), folder: folder, options)
  }

  private func parse(_ bytes: UnsafeRawBufferPointer) throws(ImportError) -> Onnx_ModelProto {
    guard let base = bytes.baseAddress, bytes.count > 0 else {
      throw ImportError("APUS-I-0002", "the file is empty", hint: "An ONNX model is expected.")
    }
    if bytes.count > Int(Int32.max) {
      throw ImportError(
        "APUS-I-0002", "the file has \(bytes.count) bytes; a protobuf file holds at most 2 GiB",
        hint: "Save the model with external data.")
    }
    let data = Data(
      bytesNoCopy: UnsafeMutableRawPointer(mutating: base), count: bytes.count, deallocator: .none)
    return try ProtoFile.parse(Onnx_ModelProto.self, data, "ONNX model")
  }

  func load(_ proto: Onnx_ModelProto, folder: String?, _ options: ImportOptions) throws(ImportError) -> Model {
    guard proto.hasGraph, !proto.graph.output.isEmpty else {
      throw ImportError(
        "APUS-I-0003", "the file holds no graph with outputs", hint: "It is no ONNX model, or an empty one.")
    }
    let opsets = try ONNXImporter.opsets(proto.opsetImport)
    let session = ImportSession(proto, opsets: opsets, folder: folder, options: options)
    let graph = try session.run(proto.graph)
    var metadata: [String: String] = [:]
    for entry in proto.metadataProps { metadata[entry.key] = entry.value }
    let producer = [proto.producerName, proto.producerVersion].filter { !$0.isEmpty }.joined(separator: " ")
    return Model(
      graph: graph, name: proto.graph.name, producer: producer, opsets: opsets, metadata: metadata)
  }

  /// The newest version of the default operator set that is understood.
  static let newestOpset = 28

  /// Versions by domain; the default domain's name is empty.
  static func opsets(_ imports: [Onnx_OperatorSetIdProto]) throws(ImportError) -> [String: Int] {
    var opsets: [String: Int] = [:]
    for entry in imports {
      let domain = entry.domain == "ai.onnx" ? "" : entry.domain
      guard entry.version > 0, entry.version < 1 << 31 else {
        throw ImportError("APUS-I-0003", "operator set '\(entry.domain)' has version \(entry.version)")
      }
      opsets[domain] = max(opsets[domain] ?? 0, Int(entry.version))
    }
    if let version = opsets[""], version > newestOpset {
      throw ImportError(
        "APUS-I-0003", "operator set \(version) is newer than \(newestOpset), the newest one supported",
        hint: "Export the model with an older operator set.")
    }
    return opsets
  }
}
