import ApusCore
import ApusGraph
import ApusImport
import TestSupport
import Testing

/// A use of an ONNX operator with an element type left open: a line of `Cases/operators.txt`.
struct OperatorUse {
  private enum Operand {
    case missing
    /// `f32[2,3]`, nil in place of the type that varies; `wrapper` is the field of ONNX's `TypeProto` around the tensor's.
    case input(DType?, [Int], wrapper: Int?)
    case constant(HostTensor)
  }

  let name: String
  private let opset: Int
  private var operands: [Operand] = []
  private var attributes: [(name: String, text: String)] = []
  private var results = 1
  /// Whether the operator does what its bodies do.
  private(set) var isBodies = false

  /// All lines of the file.
  static func all() throws -> [OperatorUse] {
    try Repository.text("Cases/operators.txt").split(separator: "\n").filter { !$0.hasPrefix("#") }.map(
      OperatorUse.init)
  }

  private init(_ line: Substring) throws {
    var words = line.split(separator: " ")[...]
    let title = words.removeFirst().split(separator: "@")
    name = String(title[0])
    opset = title.count > 1 ? Int(title[1]) ?? 0 : 28
    while let word = words.popFirst() {
      if word == "->" {
        results = words.popFirst().flatMap { Int($0) } ?? 0
      } else if word == "*" {
        isBodies = true
      } else if let parts = word.wholeMatch(of: /(\w+)=(.*)/) {
        attributes.append((String(parts.1), String(parts.2)))
      } else {
        operands.append(try Self.operand(word))
      }
    }
  }

  private static func operand(_ word: Substring) throws -> Operand {
    if word == "-" { return .missing }
    if let tensor = constant(word) { return .constant(tensor) }
    let parts = try #require(word.wholeMatch(of: /(?:(seq|optional)\()?(\w+)\[([\d,]*)\]\)?/), "\(word)")
    return .input(
      DType(rawValue: String(parts.2)), parts.3.split(separator: ",").compactMap { Int($0) },
      wrapper: parts.1.map { $0 == "seq" ? 4 : 9 })
  }

  /// `i64{1,2}`, `i64[1,2]{1,2}` or `f32(0.5)`.
  private static func constant(_ text: Substring) -> HostTensor? {
    guard let parts = text.wholeMatch(of: /(\w+?)(\[[\d,]+\])?([{(])(.*)[})]/),
      let dtype = DType(rawValue: String(parts.1))
    else { return nil }
    let values = parts.4.split(separator: ",").compactMap { Double($0) }
    let shape = parts.2.map { $0.dropFirst().dropLast().split(separator: ",").compactMap { Int($0) } }
    return HostTensor(dtype, shape ?? (parts.3 == "(" ? [] : [values.count]), doubles: values)
  }

  /// Element types that the operands have where none is left open.
  var ownTypes: Set<DType>? {
    let isOpen =
      operands.contains { if case .input(nil, _, _) = $0 { true } else { false } }
      || attributes.contains { $0.text == "T" }
    if isOpen { return nil }
    let types = operands.compactMap { if case .input(let dtype, _, _) = $0 { dtype } else { nil } }
    return Set(types.isEmpty ? [.f32] : types)
  }

  /// The model of one node with an element type in the open places.
  func model(_ dtype: DType) throws -> [UInt8] {
    var inputs: [Proto] = []
    var constants: [Proto] = []
    var names: [String] = []
    for (index, operand) in operands.enumerated() {
      let name = "x\(index)"
      names.append(name)
      switch operand {
      case .missing: names[index] = ""
      case .input(let own, let shape, let wrapper):
        let type = ONNXModel.type(try code(own ?? dtype), shape)
        inputs.append(
          Proto().adding(1, name).adding(2, wrapper.map { Proto().adding($0, Proto().adding(1, type)) } ?? type))
      case .constant(let value): constants.append(try tensor(value, name))
      }
    }
    let outputs = (0..<results).map { "y\($0)" }
    let parts = name.split(separator: "::").map(String.init)
    let domain = parts.count > 1 ? parts[0] : ""
    let node = ONNXModel.node(
      parts[parts.count - 1], names, outputs, name: "use", try attributes.map { try attribute($0.name, $0.text, dtype) }
    ).adding(7, domain)
    let graph = ONNXModel.graph(
      [node], inputs: inputs, outputs: outputs.map { Proto().adding(1, $0) }, constants: constants)
    var model = Proto().adding(1, 10).adding(8, Proto().adding(1, "").adding(2, opset))
    if !domain.isEmpty { model = model.adding(8, Proto().adding(1, domain).adding(2, domain == "ai.onnx.ml" ? 5 : 1)) }
    return model.adding(7, graph).bytes
  }

  private func attribute(_ name: String, _ text: String, _ dtype: DType) throws -> Proto {
    let value = text == "T" && name == "value" ? HostTensor(dtype, [1], doubles: [0]) : Self.constant(text[...])
    if let value {
      return Proto().adding(1, name).adding(5, try tensor(value, "")).adding(20, 4)
    }
    if text == "T" { return ONNXModel.attribute(name, try code(dtype)) }
    if text.hasPrefix("\"") { return ONNXModel.attribute(name, String(text.dropFirst().dropLast())) }
    if text.hasPrefix("[") {
      return ONNXModel.attribute(name, text.dropFirst().dropLast().split(separator: ",").compactMap { Int($0) })
    }
    return try Int(text).map { ONNXModel.attribute(name, $0) }
      ?? ONNXModel.attribute(name, float: #require(Float(text), "\(name)=\(text)"))
  }

  private func tensor(_ value: HostTensor, _ name: String) throws -> Proto {
    if value.dtype == .string {
      return Proto().adding(1, value.shape).adding(2, try code(.string)).adding(8, name).adding(6, value.strings)
    }
    return ONNXModel.tensor(name, value.shape, try code(value.dtype), value.withUnsafeBytes { Array($0) })
  }

  private func code(_ dtype: DType) throws -> Int { try #require(dtype.onnxCode) }
}
