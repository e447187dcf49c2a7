import ApusCore

/// The symbols of a model: one per name, and fresh ones that meet no other.
struct SymbolTable {
  private var named: [String: Symbol] = [:]
  private var taken: Set<String> = []
  /// Names of the symbols that are set while running.
  var late: Set<String> = []
  /// Names of the symbols that stand for elements of inputs.
  private(set) var elements: Set<String> = []

  /// Keeps a name from being given to a fresh symbol.
  mutating func reserve(_ symbol: Symbol) {
    taken.insert(symbol.name)
    if named[symbol.name] == nil { named[symbol.name] = symbol }
  }

  /// Keeps the name of a symbol that stands for an element of an input.
  mutating func reserve(element symbol: Symbol) {
    taken.insert(symbol.name)
    elements.insert(symbol.name)
  }

  /// The symbol of a dimension name; nil when the name is not a plain name (empty, `?`, arithmetic).
  mutating func symbol(named name: String) -> Symbol? {
    guard let clean = SymbolTable.plainName(name) else { return nil }
    if let symbol = named[clean] { return symbol }
    let symbol = Symbol(clean)
    reserve(symbol)
    return symbol
  }

  /// A symbol whose name starts with `stem` and was not used before.
  mutating func fresh(_ stem: String, _ range: Interval = Interval(0, .max)) -> Symbol {
    let base = SymbolTable.clean(stem)
    var name = base
    var number = 1
    while !taken.insert(name).inserted {
      number += 1
      name = "\(base)_\(number)"
    }
    return Symbol(name, range)
  }

  private static func isPlain(_ byte: UInt8) -> Bool {
    (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte) || byte == 95 || byte == 46
  }

  /// Longest dimension name that is kept.
  private static let nameLimit = 128

  /// The name with what a symbol's name cannot hold replaced; nil when the text is no name but an expression.
  private static func plainName(_ text: String) -> String? {
    let arithmetic: Set<Character> = ["+", "*", "(", ")", ",", "?", "%"]
    if text.isEmpty || text.utf8.count > nameLimit || text.contains(where: arithmetic.contains) { return nil }
    if text.contains(" - ") || text.contains(" / ") || Int(text) != nil { return nil }
    let name = clean(text)
    // The size of sequence elements that differ has this name.
    return name == "_" ? nil : name
  }

  private static func clean(_ text: String) -> String {
    let bytes = text.utf8.prefix(nameLimit).map { isPlain($0) || $0 == 47 ? ($0 == 47 ? UInt8(46) : $0) : UInt8(95) }
    let name = String(decoding: bytes, as: UTF8.self)
    guard let first = name.utf8.first, !(48...57).contains(first), first != 46 else { return "d\(name)" }
    return name
  }
}
