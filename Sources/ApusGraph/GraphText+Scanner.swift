import ApusCore

/// Reads tokens, types and attribute values from text, and knows where it is.
struct TextScanner {
  private let bytes: [UInt8]
  private(set) var position = 0

  init(_ text: String) { bytes = Array(text.utf8) }

  var isAtEnd: Bool { position >= bytes.count }

  // MARK: Errors

  func error(_ expected: String) -> GraphError { failure("expected \(expected), found \(foundText)") }

  func failure(_ message: String, hint: String = "") -> GraphError {
    let before = bytes[..<min(position, bytes.count)]
    let line = before.count { $0 == UInt8(ascii: "\n") } + 1
    let column = before.count - (before.lastIndex(of: UInt8(ascii: "\n")) ?? -1)
    return GraphError("APUS-G-0040", message, place: "\(line):\(column)", hint: hint)
  }

  private var foundText: String {
    if isAtEnd { return "the end" }
    let rest = bytes[position...].prefix(24).prefix { $0 != UInt8(ascii: "\n") }
    return rest.isEmpty ? "the end of the line" : "'\(String(decoding: rest, as: UTF8.self))'"
  }

  // MARK: Tokens

  mutating func skipBlanks() {
    while position < bytes.count {
      switch bytes[position] {
      case UInt8(ascii: " "), UInt8(ascii: "\n"), UInt8(ascii: "\r"), UInt8(ascii: "\t"): position += 1
      case UInt8(ascii: "/") where isAtComment:
        while position < bytes.count, bytes[position] != UInt8(ascii: "\n") { position += 1 }
      default: return
      }
    }
  }

  /// Two slashes behind a blank, or at the beginning; behind anything else they divide a size.
  private var isAtComment: Bool {
    guard bytes[position...].starts(with: "//".utf8) else { return false }
    return position == 0 || [" ", "\t", "\n", "\r"].contains { UInt8(ascii: $0) == bytes[position - 1] }
  }

  func peek(_ token: String) -> Bool {
    var copy = self
    return copy.take(token)
  }

  mutating func take(_ token: String) -> Bool {
    skipBlanks()
    guard bytes[position...].starts(with: token.utf8) else { return false }
    let end = position + token.utf8.count
    if let last = token.utf8.last, Self.isWord(last), end < bytes.count, Self.isWord(bytes[end]) { return false }
    position = end
    return true
  }

  /// Passes over one byte; false at the end.
  mutating func skipByte() -> Bool {
    if isAtEnd { return false }
    position += 1
    return true
  }

  mutating func expect(_ token: String) throws(GraphError) {
    if !take(token) { throw error("'\(token)'") }
  }

  /// Letters, digits, `_`, `.`, `$` and what is beyond ASCII, as far as they go; empty when there is none.
  mutating func word() -> String {
    skipBlanks()
    let start = position
    while position < bytes.count, Self.isWord(bytes[position]) { position += 1 }
    return String(decoding: bytes[start..<position], as: UTF8.self)
  }

  mutating func integer() -> Int? {
    let start = position
    let isNegative = take("-")
    if let value = Int(word()) { return isNegative ? -value : value }
    position = start
    return nil
  }

  mutating func quotedText() throws(GraphError) -> String {
    try expect("\"")
    var content: [UInt8] = []
    while position < bytes.count, bytes[position] != UInt8(ascii: "\"") {
      if bytes[position] == UInt8(ascii: "\\") {
        position += 1
        guard position < bytes.count else { break }
        switch bytes[position] {
        case UInt8(ascii: "n"): content.append(UInt8(ascii: "\n"))
        case UInt8(ascii: "r"): content.append(UInt8(ascii: "\r"))
        case UInt8(ascii: "t"): content.append(UInt8(ascii: "\t"))
        default: content.append(bytes[position])
        }
      } else {
        content.append(bytes[position])
      }
      position += 1
    }
    if isAtEnd { throw error("'\"'") }
    position += 1
    return String(decoding: content, as: UTF8.self)
  }

  /// Everything up to the next comma or closing bracket that no bracket inside it encloses, trimmed.
  mutating func element() -> String {
    skipBlanks()
    let start = position
    var depth = 0
    scan: while position < bytes.count {
      switch bytes[position] {
      case UInt8(ascii: "("): depth += 1
      case UInt8(ascii: ")") where depth > 0: depth -= 1
      case UInt8(ascii: ","), UInt8(ascii: "]"), UInt8(ascii: "}"), UInt8(ascii: ")"), UInt8(ascii: "\n"):
        if depth == 0 { break scan }
      default: break
      }
      position += 1
    }
    var end = position
    while end > start, bytes[end - 1] == UInt8(ascii: " ") { end -= 1 }
    return String(decoding: bytes[start..<end], as: UTF8.self)
  }

  static func isWord(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
      UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "$"), 128...:
      true
    default: false
    }
  }

  /// Whether a name can stand without quotation marks: word characters, not only digits.
  static func isIdentifier(_ name: String) -> Bool {
    name.utf8.allSatisfy(isWord) && !name.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
  }

  /// Whether a word is a value of another kind than a size.
  static func isReserved(_ word: String) -> Bool { word == "true" || word == "false" || DType(rawValue: word) != nil }

  // MARK: Types and attributes

  mutating func dim(_ symbols: [String: Symbol]) throws(GraphError) -> Dim {
    let start = position
    let text = element()
    do { return try Dim(parsing: text, symbols: symbols) } catch {
      position = start
      throw failure("'\(text)' is no size", hint: error.problems.first?.message ?? "")
    }
  }

  mutating func valueType(_ symbols: [String: Symbol], depth: Int) throws(GraphError) -> ValueType {
    if depth > 8 { throw failure("types are nested too deeply") }
    for (word, make) in [("seq", ValueType.sequence), ("opt", ValueType.optional)] where take(word) {
      try expect("<")
      let element = try valueType(symbols, depth: depth + 1)
      try expect(">")
      return make(element)
    }
    skipBlanks()
    let start = position
    guard let dtype = DType(rawValue: word()) else {
      position = start
      throw error("an element type")
    }
    try expect("[")
    var shape: Shape = []
    while !take("]") {
      if !shape.isEmpty { try expect(",") }
      shape.append(try dim(symbols))
    }
    return .tensor(TensorType(dtype, shape))
  }

  mutating func attribute(_ symbols: [String: Symbol]) throws(GraphError) -> Attribute {
    if peek("\"") { return .string(try quotedText()) }
    if take("[") { return try list(symbols) }
    let start = position
    let text = element()
    if text == "true" || text == "false" { return .bool(text == "true") }
    if let dtype = DType(rawValue: text) { return .dtype(dtype) }
    if let value = Int(text) { return .int(value) }
    if let value = Double(text) { return .float(value) }
    position = start
    return .dim(try dim(symbols))
  }

  private mutating func list(_ symbols: [String: Symbol]) throws(GraphError) -> Attribute {
    if peek("\"") {
      var strings: [String] = []
      while !take("]") {
        if !strings.isEmpty { try expect(",") }
        strings.append(try quotedText())
      }
      return .strings(strings)
    }
    var texts: [String] = []
    let start = position
    while !take("]") {
      if !texts.isEmpty { try expect(",") }
      texts.append(element())
      if texts.last == "" { throw error("an element") }
    }
    let integers = texts.compactMap { Int($0) }
    if integers.count == texts.count { return .ints(integers) }
    let numbers = texts.compactMap { Double($0) }
    if numbers.count == texts.count { return .floats(numbers) }
    var dims: [Dim] = []
    for text in texts {
      do { dims.append(try Dim(parsing: text, symbols: symbols)) } catch {
        position = start
        throw failure("'\(text)' is no size", hint: error.problems.first?.message ?? "")
      }
    }
    return .dims(dims)
  }
}
