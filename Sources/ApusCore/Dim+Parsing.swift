extension Dim {
  /// Reads the text form that ``description`` writes; symbols not in `symbols` get the range `0 … ∞`.
  ///
  /// - Throws: ``ShapeError`` `APUS-S-0001` with the offset of the first character that does not fit.
  public init(parsing text: String, symbols: [String: Symbol] = [:]) throws(ShapeError) {
    var parser = DimParser(text: Array(text.utf8), symbols: symbols)
    self = try parser.sum(depth: 0)
    parser.skipSpaces()
    if parser.position < parser.text.count { throw parser.error("an operator or the end") }
  }
}

extension Symbol {
  /// The text as a name that ``Dim/init(parsing:symbols:)`` reads: bytes that names cannot hold become `$` and two hex
  /// digits.
  package static func name(from text: String) -> String {
    var name = ""
    for (index, byte) in text.utf8.enumerated() {
      if DimParser.isWord(byte), byte < 128, byte != 36, index > 0 || !DimParser.isDigit(byte) {
        name.unicodeScalars.append(Unicode.Scalar(byte))
      } else {
        name += (byte < 16 ? "$0" : "$") + String(byte, radix: 16)
      }
    }
    return name
  }

  /// The name of an input's element that decides sizes, which no size has: `shape$0`.
  package static func name(ofElement index: Int, of input: String) -> String { "\(name(from: input))$\(index)" }
}

/// Recursive descent over sums, products, quotients, `min` and `max`; nesting is limited so that hostile text cannot
/// exhaust the stack.
private struct DimParser {
  let text: [UInt8]
  let symbols: [String: Symbol]
  var position = 0

  func error(_ expected: String) -> ShapeError {
    ShapeError(
      "APUS-S-0001", "expected \(expected) at offset \(position) of '\(String(decoding: text, as: UTF8.self))'",
      hint: "Write integers, names, + - * // and min(a, b), max(a, b).")
  }

  mutating func skipSpaces() { while position < text.count, text[position] == 32 { position += 1 } }

  mutating func take(_ token: String) -> Bool {
    skipSpaces()
    let bytes = Array(token.utf8)
    guard position + bytes.count <= text.count, Array(text[position..<position + bytes.count]) == bytes else {
      return false
    }
    position += bytes.count
    return true
  }

  mutating func sum(depth: Int) throws(ShapeError) -> Dim {
    if depth > 64 { throw error("less nesting") }
    var value = try product(depth: depth)
    while true {
      if take("+") {
        value = value + (try product(depth: depth))
      } else if take("-") {
        value = value - (try product(depth: depth))
      } else {
        return value
      }
    }
  }

  mutating func product(depth: Int) throws(ShapeError) -> Dim {
    var value = try factor(depth: depth)
    while true {
      if take("//") {
        value = value.floorDivided(by: try factor(depth: depth))
      } else if take("*") {
        value = value * (try factor(depth: depth))
      } else {
        return value
      }
    }
  }

  mutating func factor(depth: Int) throws(ShapeError) -> Dim {
    if depth > 64 { throw error("less nesting") }
    if take("-") { return -(try factor(depth: depth + 1)) }
    if take("(") {
      let value = try sum(depth: depth + 1)
      if !take(")") { throw error("')'") }
      return value
    }
    skipSpaces()
    let start = position
    while position < text.count, Self.isWord(text[position]) { position += 1 }
    if position == start { throw error("a number, a name or '('") }
    let word = String(decoding: text[start..<position], as: UTF8.self)
    if let number = Int(word) { return Dim(number) }
    if Self.isDigit(text[start]) { throw error("a name that does not start with a digit") }
    if word == "min" || word == "max", take("(") {
      let a = try sum(depth: depth + 1)
      if !take(",") { throw error("','") }
      let b = try sum(depth: depth + 1)
      if !take(")") { throw error("')'") }
      return word == "min" ? .minimum(a, b) : .maximum(a, b)
    }
    return Dim(symbols[word] ?? Symbol(word))
  }

  static func isDigit(_ byte: UInt8) -> Bool { (48...57).contains(byte) }

  /// Bytes of a name: letters, digits, `_`, `.`, `$` and everything beyond ASCII.
  static func isWord(_ byte: UInt8) -> Bool {
    isDigit(byte) || (65...90).contains(byte) || (97...122).contains(byte) || byte == 95 || byte == 46 || byte == 36
      || byte >= 128
  }
}
