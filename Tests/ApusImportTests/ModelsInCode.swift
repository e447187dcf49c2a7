import ApusCore
import ApusGraph
import ApusOps
import Foundation
import SwiftProtobuf

@testable import ApusImport

/// Small ONNX models made in code.
enum ONNX {
  static func value(_ name: String, _ code: Int32, _ dims: [Any?]) -> Onnx_ValueInfoProto {
    .with {
      $0.name = name
      $0.type = .with {
        $0.tensorType = .with {
          $0.elemType = code
          $0.shape = .with { $0.dim = dims.map(dimension) }
        }
      }
    }
  }

  private static func dimension(_ dim: Any?) -> Onnx_TensorShapeProto.Dimension {
    .with {
      if let size = dim as? Int { $0.dimValue = Int64(size) }
      if let name = dim as? String { $0.dimParam = name }
    }
  }

  static func floats(_ name: String, _ dims: Any?...) -> Onnx_ValueInfoProto { value(name, 1, dims) }
  static func longs(_ name: String, _ dims: Any?...) -> Onnx_ValueInfoProto { value(name, 7, dims) }
  static func bools(_ name: String, _ dims: Any?...) -> Onnx_ValueInfoProto { value(name, 9, dims) }

  static func tensor(_ name: String, _ values: [Int64], dims: [Int64]? = nil) -> Onnx_TensorProto {
    .with {
      $0.name = name
      $0.dataType = 7
      $0.dims = dims ?? [Int64(values.count)]
      $0.int64Data = values
    }
  }

  static func tensor(_ name: String, floats: [Float], dims: [Int64]? = nil) -> Onnx_TensorProto {
    .with {
      $0.name = name
      $0.dataType = 1
      $0.dims = dims ?? [Int64(floats.count)]
      $0.rawData = floats.withUnsafeBytes { Data($0) }
    }
  }

  static func attribute(_ name: String, _ value: Int) -> Onnx_AttributeProto {
    .with {
      $0.name = name
      $0.type = .int
      $0.i = Int64(value)
    }
  }

  static func attribute(_ name: String, floats value: Float) -> Onnx_AttributeProto {
    .with {
      $0.name = name
      $0.type = .float
      $0.f = value
    }
  }

  static func attribute(_ name: String, _ values: [Int]) -> Onnx_AttributeProto {
    .with {
      $0.name = name
      $0.type = .ints
      $0.ints = values.map { Int64($0) }
    }
  }

  static func attribute(_ name: String, _ graph: Onnx_GraphProto) -> Onnx_AttributeProto {
    .with {
      $0.name = name
      $0.type = .graph
      $0.g = graph
    }
  }

  static func node(
    _ op: String, _ inputs: [String], _ outputs: [String], _ attributes: [Onnx_AttributeProto] = [],
    domain: String = ""
  ) -> Onnx_NodeProto {
    .with {
      $0.opType = op
      $0.name = "\(op)_\(outputs.first ?? "")"
      $0.input = inputs
      $0.output = outputs
      $0.attribute = attributes
      $0.domain = domain
    }
  }

  static func graph(
    _ inputs: [Onnx_ValueInfoProto], _ nodes: [Onnx_NodeProto], _ outputs: [String],
    constants: [Onnx_TensorProto] = []
  ) -> Onnx_GraphProto {
    .with {
      $0.name = "test"
      $0.input = inputs
      $0.node = nodes
      $0.initializer = constants
      $0.output = outputs.map { name in .with { $0.name = name } }
    }
  }

  static func model(
    _ graph: Onnx_GraphProto, opset: Int = 17, functions: [Onnx_FunctionProto] = []
  ) -> Onnx_ModelProto {
    .with {
      $0.irVersion = 8
      $0.graph = graph
      $0.opsetImport = [
        .with { $0.version = Int64(opset) },
        .with {
          $0.domain = "local"
          $0.version = 1
        },
      ]
      $0.functions = functions
    }
  }

  static func load(
    _ model: Onnx_ModelProto, shapes: [String: Shape] = [:], constants: [String: HostTensor] = [:]
  ) throws(ImportError) -> Graph {
    let options = ImportOptions(shapes: shapes, constants: constants, catalogue: .standard)
    return try ONNXImporter().load(model, folder: nil, options).graph
  }

  static func load(bytes: [UInt8]) throws(ImportError) -> Graph {
    let result = bytes.withUnsafeBytes { buffer -> Result<Model, ImportError> in
      Result { () throws(ImportError) in try ONNXImporter().load(buffer, ImportOptions(catalogue: .standard)) }
    }
    return try result.get().graph
  }

  /// The codes of all problems that reading the model gives; empty when it can be read.
  static func codes(_ model: Onnx_ModelProto) -> [String] {
    do {
      _ = try load(model)
      return []
    } catch { return error.problems.map(\.code) }
  }
}

extension Graph {
  var opNames: [String] { order.map { self[$0].op.name } }
}
