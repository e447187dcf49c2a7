package import ApusCore
import SwiftProtobuf

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

extension HostValue {
  /// Reads a value from a protobuf file: a `TensorProto`, or a `SequenceProto` or `OptionalProto` where `type` asks for it.
  ///
  /// - Throws: ``ImportError`` `APUS-I-0001` when the file cannot be read, `APUS-I-0002` when it is not such a message,
  ///   `APUS-I-0020` when its data do not fit its dims.
  package init(onnxFile path: String, type: ValueType) throws(ImportError) {
    let file: MappedFile
    do { file = try MappedFile(path: path) } catch { throw ImportError("APUS-I-0001", "\(error)") }
    do { self = try HostValue.decode(Array(file.bytes), type) } catch { throw error.at(path) }
  }

  private static func decode(_ bytes: [UInt8], _ type: ValueType) throws(ImportError) -> HostValue {
    let reader = TensorReader()
    switch type {
    case .tensor: return .tensor(try reader.tensor(try ProtoFile.parse(Onnx_TensorProto.self, bytes, "TensorProto")))
    case .sequence(let element):
      return try reader.sequence(try ProtoFile.parse(Onnx_SequenceProto.self, bytes, "SequenceProto"), element)
    case .optional(let element):
      return try reader.optional(try ProtoFile.parse(Onnx_OptionalProto.self, bytes, "OptionalProto"), element)
    }
  }
}

extension TensorReader {
  fileprivate func sequence(_ proto: Onnx_SequenceProto, _ element: ValueType) throws(ImportError) -> HostValue {
    var values: [HostValue] = []
    switch proto.elemType {
    case SequenceKind.tensor: for item in proto.tensorValues { values.append(.tensor(try tensor(item))) }
    case SequenceKind.sequence:
      for item in proto.sequenceValues { values.append(try sequence(item, TensorReader.element(of: element))) }
    case SequenceKind.optional:
      for item in proto.optionalValues { values.append(try optional(item, TensorReader.element(of: element))) }
    default:
      throw ImportError("APUS-I-0020", "sequences of element kind \(proto.elemType) are not supported")
    }
    return .sequence(values, element: element)
  }

  fileprivate func optional(_ proto: Onnx_OptionalProto, _ element: ValueType) throws(ImportError) -> HostValue {
    switch proto.elemType {
    case SequenceKind.undefined: return .optional(nil, element: element)
    case SequenceKind.tensor:
      if !proto.hasTensorValue { return .optional(nil, element: element) }
      return .optional(.tensor(try tensor(proto.tensorValue)), element: element)
    case SequenceKind.sequence:
      if !proto.hasSequenceValue { return .optional(nil, element: element) }
      return .optional(try sequence(proto.sequenceValue, TensorReader.element(of: element)), element: element)
    default:
      throw ImportError("APUS-I-0020", "optionals of element kind \(proto.elemType) are not supported")
    }
  }

  private static func element(of type: ValueType) -> ValueType {
    switch type {
    case .sequence(let element), .optional(let element): element
    case .tensor: type
    }
  }

  /// Numbers of `SequenceProto.DataType` and `OptionalProto.DataType`.
  private enum SequenceKind {
    static let undefined: Int32 = 0
    static let tensor: Int32 = 1
    static let sequence: Int32 = 3
    static let optional: Int32 = 5
  }
}

/// Parsing of whole protobuf messages with our errors.
enum ProtoFile {
  static func parse<M: SwiftProtobuf.Message>(
    _ type: M.Type, _ bytes: some SwiftProtobufContiguousBytes, _ what: String
  ) throws(ImportError) -> M {
    do {
      return try M(serializedBytes: bytes, partial: true)
    } catch {
      throw ImportError(
        "APUS-I-0002", "not a protobuf \(what): \(error)", hint: "The file is truncated, corrupt or of another format.")
    }
  }
}
