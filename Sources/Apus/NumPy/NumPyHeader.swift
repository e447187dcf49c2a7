import ApusCore

/// The header of a `.npy` file: element type, order and shape, and where the elements start.
struct NumPyHeader {
  /// How the elements are written.
  enum Element: Equatable {
    case number(DType)
    /// Opaque bytes of this width: how NumPy writes types it does not know, such as bf16.
    case opaque(byteCount: Int)
    /// Fixed-width text: UTF-32 code units or bytes, padded with zeros.
    case text(unitCount: Int, unitByteCount: Int)

    var byteCount: Int {
      switch self {
      case .number(let dtype): dtype.byteCount
      case .opaque(let byteCount): byteCount
      case .text(let unitCount, let unitByteCount): saturatingMultiply(unitCount, unitByteCount)
      }
    }
  }

  var element: Element
  var isBigEndian: Bool
  var isFortranOrder: Bool
  var shape: [Int]
  var dataOffset: Int
}

// MARK: Reading

extension NumPyHeader {
  static let magic: [UInt8] = [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59]

  /// Reads the header at the start of `bytes`.
  init(_ bytes: UnsafeRawBufferPointer) throws(NumPyError) {
    guard bytes.count >= 10, Array(bytes[0..<6]) == Self.magic else {
      throw NumPyError("APUS-N-0001", "not a .npy file: it does not start with \\x93NUMPY")
    }
    let version = bytes[6]
    guard (1...3).contains(version) else {
      throw NumPyError("APUS-N-0001", "version \(version) of the .npy format is not known; 1 to 3 are")
    }
    let lengthWidth = version == 1 ? 2 : 4
    guard bytes.count >= 8 + lengthWidth else { throw NumPyError("APUS-N-0002", "the header is cut off") }
    let length = (0..<lengthWidth).reduce(0) { $0 | Int(bytes[8 + $1]) << (8 * $1) }
    dataOffset = 8 + lengthWidth + length
    guard dataOffset <= bytes.count else { throw NumPyError("APUS-N-0002", "the header is cut off") }
    var fields = HeaderFields(text: Array(bytes[8 + lengthWidth..<dataOffset]))
    try fields.read()
    shape = fields.shape
    isFortranOrder = fields.isFortranOrder
    (element, isBigEndian) = try Self.element(fields.descriptor)
  }

  private static let numbers: [String: DType] = [
    "f8": .f64, "f4": .f32, "f2": .f16, "i8": .i64, "i4": .i32, "i2": .i16, "i1": .i8, "u8": .u64, "u4": .u32,
    "u2": .u16, "u1": .u8, "b1": .bool,
  ]

  private static func element(_ descriptor: String) throws(NumPyError) -> (Element, isBigEndian: Bool) {
    let order = descriptor.first ?? " "
    let kind = "<>|=".contains(order) ? String(descriptor.dropFirst()) : descriptor
    if let dtype = numbers[kind] { return (.number(dtype), order == ">") }
    if let count = Int(kind.dropFirst()), count >= 0 {
      switch kind.first {
      case "U": return (.text(unitCount: count, unitByteCount: 4), order == ">")
      case "S": return (.text(unitCount: count, unitByteCount: 1), false)
      case "V": return (.opaque(byteCount: count), order == ">")
      default: break
      }
    }
    throw NumPyError(
      "APUS-N-0003", "element type '\(descriptor)' is not supported",
      hint: "Supported: floats, integers, bool, and text of fixed width (U, S).")
  }
}

/// Reads the Python dictionary of the header: `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`.
private struct HeaderFields {
  let text: [UInt8]
  var position = 0
  var descriptor = ""
  var isFortranOrder = false
  var shape: [Int] = []

  init(text: [UInt8]) { self.text = text }

  private func malformed(_ expected: String) -> NumPyError {
    NumPyError("APUS-N-0002", "the header is malformed at character \(position): \(expected) is expected")
  }

  private mutating func take(_ token: Character) -> Bool {
    while position < text.count, [9, 10, 13, 32].contains(text[position]) { position += 1 }
    guard position < text.count, token.asciiValue == text[position] else { return false }
    position += 1
    return true
  }

  mutating func read() throws(NumPyError) {
    var missing: Set = ["descr", "fortran_order", "shape"]
    if !take("{") { throw malformed("'{'") }
    while !take("}") {
      let key = try string()
      if !take(":") { throw malformed("':'") }
      switch key {
      case "descr": descriptor = try string()
      case "fortran_order": isFortranOrder = try word() == "True"
      case "shape": shape = try tuple()
      default: throw malformed("one of descr, fortran_order and shape")
      }
      missing.remove(key)
      if !take(","), !(position < text.count && text[position] == UInt8(ascii: "}")) { throw malformed("','") }
    }
    if !missing.isEmpty { throw malformed(missing.sorted().joined(separator: " and ")) }
  }

  private mutating func string() throws(NumPyError) -> String {
    guard let quote: Character = take("'") ? "'" : take("\"") ? "\"" : nil else {
      throw malformed("a quoted name (types with named fields are not supported)")
    }
    let start = position
    while position < text.count, text[position] != quote.asciiValue { position += 1 }
    guard position < text.count else { throw malformed("a closing quote") }
    position += 1
    return String(decoding: text[start..<position - 1], as: UTF8.self)
  }

  private mutating func word() throws(NumPyError) -> String {
    _ = take(" ")
    let start = position
    while position < text.count, text[position] > 47 && text[position] < 123 { position += 1 }
    if start == position { throw malformed("a word or a number") }
    return String(decoding: text[start..<position], as: UTF8.self)
  }

  private mutating func tuple() throws(NumPyError) -> [Int] {
    if !take("(") { throw malformed("'('") }
    var sizes: [Int] = []
    while !take(")") {
      // Python 2 wrote long integers with a trailing L.
      let digits = try word()
      guard let size = Int(digits.hasSuffix("L") ? String(digits.dropLast()) : digits), size >= 0 else {
        throw malformed("a size of 0 or more")
      }
      sizes.append(size)
      if !take(","), !(position < text.count && text[position] == UInt8(ascii: ")")) { throw malformed("','") }
    }
    return sizes
  }
}

// MARK: Writing

extension NumPyHeader {
  /// The bytes before the elements, padded so that these start at a multiple of 64.
  static func bytes(_ tensor: HostTensor, textUnitCount: Int) -> [UInt8] {
    let sizes = tensor.shape.map(String.init).joined(separator: ", ") + (tensor.rank == 1 ? "," : "")
    let descriptor = descriptor(tensor.dtype, textUnitCount: textUnitCount)
    let text = "{'descr': '\(descriptor)', 'fortran_order': False, 'shape': (\(sizes)), }"
    let padding = 63 - (10 + text.utf8.count) % 64
    let length = text.utf8.count + padding + 1
    return magic + [1, 0, UInt8(length & 255), UInt8(length >> 8)] + Array(text.utf8)
      + [UInt8](repeating: 32, count: padding) + [10]
  }

  private static func descriptor(_ dtype: DType, textUnitCount: Int) -> String {
    switch dtype {
    case .string: return "<U\(textUnitCount)"
    case .bf16: return "<V2"
    case .f8e4m3fn, .f8e4m3fnuz, .f8e5m2, .f8e5m2fnuz, .f8e8m0, .f4e2m1, .i4, .i2, .u4, .u2: return "|V1"
    default:
      let kind = numbers.first { $0.value == dtype }?.key ?? "V\(dtype.byteCount)"
      return (dtype.byteCount == 1 ? "|" : "<") + kind
    }
  }
}
