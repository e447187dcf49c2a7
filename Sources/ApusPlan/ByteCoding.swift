package import ApusCore

/// Appends little-endian numbers and counted text to a byte array.
package struct ByteWriter {
  package private(set) var bytes: [UInt8] = []

  package init() {}

  package mutating func append<Number: FixedWidthInteger>(_ value: Number) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }

  package mutating func append(count: Int) { append(UInt32(truncatingIfNeeded: count)) }

  package mutating func append(_ text: String) {
    append(count: text.utf8.count)
    bytes.append(contentsOf: text.utf8)
  }

  package mutating func append(bytes more: some Sequence<UInt8>) { bytes.append(contentsOf: more) }

  package mutating func append(_ values: [String]) {
    append(count: values.count)
    for value in values { append(value) }
  }
}

/// Reads what ``ByteWriter`` wrote, from bytes that may be anything: every read is checked against the bytes left.
package struct ByteReader {
  private let bytes: UnsafeRawBufferPointer
  private let section: String
  /// Offset in the file of the first byte.
  private let fileOffset: Int
  package private(set) var offset = 0

  package init(_ bytes: UnsafeRawBufferPointer, section: String, fileOffset: Int) {
    self.bytes = bytes
    self.section = section
    self.fileOffset = fileOffset
  }

  package var bytesLeft: Int { bytes.count - offset }

  /// Where the next read happens, in words.
  package var place: String { "section '\(section)', byte \(fileOffset + offset)" }

  package func malformed(_ message: String) -> EngineFileError {
    EngineFileError("APUS-E-0007", message, place: place, hint: "The file is damaged: build the engine again.")
  }

  package mutating func read<Number: FixedWidthInteger>(_ type: Number.Type) throws(EngineFileError) -> Number {
    let size = MemoryLayout<Number>.size
    if bytesLeft < size { throw malformed("\(size) bytes are expected, \(bytesLeft) are left") }
    let value = bytes.loadUnaligned(fromByteOffset: offset, as: type)
    offset += size
    return Number(littleEndian: value)
  }

  package mutating func int() throws(EngineFileError) -> Int {
    Int(truncatingIfNeeded: try read(Int64.self))
  }

  package mutating func tag() throws(EngineFileError) -> Int { Int(try read(UInt8.self)) }

  /// The number of elements of a list, each of which takes at least `minimumSize` bytes.
  package mutating func count(minimumSize: Int) throws(EngineFileError) -> Int {
    let count = Int(try read(UInt32.self))
    if count > bytesLeft / minimumSize {
      offset -= 4
      throw malformed("a list of \(count) elements does not fit the \(bytesLeft - 4) bytes left")
    }
    return count
  }

  package mutating func index(below limit: Int, _ what: String) throws(EngineFileError) -> Int {
    let value = Int(try read(UInt32.self))
    if value >= limit {
      offset -= 4
      throw malformed("\(what) \(value) is out of range: there are \(limit)")
    }
    return value
  }

  package mutating func bytes(_ count: Int) throws(EngineFileError) -> UnsafeRawBufferPointer {
    if count < 0 || count > bytesLeft { throw malformed("\(count) bytes are expected, \(bytesLeft) are left") }
    defer { offset += count }
    return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
  }

  package mutating func text() throws(EngineFileError) -> String {
    let count = try count(minimumSize: 1)
    return String(decoding: try bytes(count), as: UTF8.self)
  }

  package mutating func list<Element>(
    minimumSize: Int, _ element: (inout ByteReader) throws(EngineFileError) -> Element
  ) throws(EngineFileError) -> [Element] {
    let count = try count(minimumSize: minimumSize)
    var elements: [Element] = []
    elements.reserveCapacity(count)
    for _ in 0..<count { elements.append(try element(&self)) }
    return elements
  }

  package mutating func texts() throws(EngineFileError) -> [String] {
    try list(minimumSize: 4) { reader throws(EngineFileError) in try reader.text() }
  }

  package func finish() throws(EngineFileError) {
    if bytesLeft > 0 { throw malformed("\(bytesLeft) bytes follow the end") }
  }
}
