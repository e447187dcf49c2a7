package import ApusCore

/// The value of an operation's attribute.
package enum Attribute: Hashable, Sendable {
  case int(Int)
  case float(Double)
  case bool(Bool)
  case string(String)
  case dtype(DType)
  case dim(Dim)
  case ints([Int])
  case floats([Double])
  case strings([String])
  case dims([Dim])
}

/// An ordered list of named attributes: the identity of an operation beside its name.
package struct Attributes: Hashable, Sendable, ExpressibleByDictionaryLiteral {
  package private(set) var entries: [Entry]

  package struct Entry: Hashable, Sendable {
    package let name: String
    package let value: Attribute
  }

  package init(dictionaryLiteral elements: (String, Attribute)...) {
    entries = elements.map { Entry(name: $0.0, value: $0.1) }
  }

  package init(_ entries: [(String, Attribute)]) { self.entries = entries.map { Entry(name: $0.0, value: $0.1) } }

  package subscript(_ name: String) -> Attribute? { entries.first { $0.name == name }?.value }

  private func missing(_ name: String, _ kind: String) -> GraphError {
    GraphError("APUS-G-0010", "attribute '\(name)' is missing or is not \(kind)")
  }

  package func int(_ name: String) throws(GraphError) -> Int {
    if case .int(let value)? = self[name] { return value }
    throw missing(name, "an integer")
  }

  package func float(_ name: String) throws(GraphError) -> Double {
    switch self[name] {
    case .float(let value)?: return value
    case .int(let value)?: return Double(value)
    default: throw missing(name, "a number")
    }
  }

  package func bool(_ name: String) throws(GraphError) -> Bool {
    if case .bool(let value)? = self[name] { return value }
    throw missing(name, "true or false")
  }

  package func string(_ name: String) throws(GraphError) -> String {
    if case .string(let value)? = self[name] { return value }
    throw missing(name, "a string")
  }

  package func dtype(_ name: String) throws(GraphError) -> DType {
    if case .dtype(let value)? = self[name] { return value }
    throw missing(name, "an element type")
  }

  package func ints(_ name: String) throws(GraphError) -> [Int] {
    switch self[name] {
    case .ints(let values)?: return values
    case .dims(let dims)?:
      let values = dims.compactMap(\.constantValue)
      if values.count == dims.count { return values }
    default: break
    }
    throw missing(name, "a list of integers")
  }

  package func floats(_ name: String) throws(GraphError) -> [Double] {
    switch self[name] {
    case .floats(let values)?: return values
    case .ints(let values)?: return values.map(Double.init)
    default: throw missing(name, "a list of numbers")
    }
  }

  package func strings(_ name: String) throws(GraphError) -> [String] {
    switch self[name] {
    case .strings(let values)?: return values
    case .ints(let values)? where values.isEmpty: return []
    default: throw missing(name, "a list of strings")
    }
  }

  package func dims(_ name: String) throws(GraphError) -> [Dim] {
    switch self[name] {
    case .dims(let values)?: return values
    case .ints(let values)?: return values.map { Dim($0) }
    default: throw missing(name, "a list of sizes")
    }
  }

  package func dim(_ name: String) throws(GraphError) -> Dim {
    switch self[name] {
    case .dim(let value)?: return value
    case .int(let value)?: return Dim(value)
    default: throw missing(name, "a size")
    }
  }
}
