import ApusCore

/// A JSON document whose objects keep the order of their members.
indirect enum JSON {
  case null
  case bool(Bool)
  case int(Int)
  case number(Double)
  case string(String)
  case array([JSON])
  case object([(String, JSON)])

  static func strings(_ texts: [String]) -> JSON { .array(texts.map { .string($0) }) }
  static func ints(_ numbers: [Int]) -> JSON { .array(numbers.map { .int($0) }) }
}

extension JSON: CustomStringConvertible {
  /// Indented by two spaces; arrays without objects or arrays inside stand on one line.
  var description: String { text(indentation: "") }

  private func text(indentation: String) -> String {
    switch self {
    case .null: return "null"
    case .bool(let value): return String(value)
    case .int(let value): return String(value)
    // JSON has no NaN and no infinities.
    case .number(let value): return value.isFinite ? String(value) : "null"
    case .string(let value): return JSONText.quoted(value)
    case .array(let items):
      if items.allSatisfy(\.isScalar) {
        return "[" + items.map { $0.text(indentation: "") }.joined(separator: ", ") + "]"
      }
      return Self.block(items.map { $0.text(indentation: indentation + "  ") }, "[", "]", indentation)
    case .object(let members):
      let lines = members.map { "\(JSONText.quoted($0.0)): \($0.1.text(indentation: indentation + "  "))" }
      return lines.isEmpty ? "{}" : Self.block(lines, "{", "}", indentation)
    }
  }

  private var isScalar: Bool {
    switch self {
    case .array, .object: false
    default: true
    }
  }

  private static func block(_ lines: [String], _ open: String, _ close: String, _ indentation: String) -> String {
    "\(open)\n\(indentation)  " + lines.joined(separator: ",\n\(indentation)  ") + "\n\(indentation)\(close)"
  }
}
