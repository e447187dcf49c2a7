package import ApusCore

/// Text tensors in the constants section: per element the UTF-8 byte count (u32) and the bytes.
package enum StringConstants {
  package static func encode(_ strings: [String]) -> [UInt8] {
    var writer = ByteWriter()
    for string in strings { writer.append(string) }
    return writer.bytes
  }

  /// Reads `count` elements from the start of `bytes`.
  package static func decode(_ bytes: UnsafeRawBufferPointer, count: Int, fileOffset: Int = 0) throws(EngineFileError)
    -> [String]
  {
    var reader = ByteReader(bytes, section: "constants", fileOffset: fileOffset)
    if count < 0 || count > bytes.count / 4 {
      throw reader.malformed("\(count) texts do not fit \(bytes.count) bytes")
    }
    var strings: [String] = []
    strings.reserveCapacity(count)
    for _ in 0..<count { strings.append(try reader.text()) }
    return strings
  }
}
