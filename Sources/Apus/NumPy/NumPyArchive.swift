public import ApusCore
import CZlib

/// Reads a NumPy `.npz` file: a zip archive of `.npy` files, stored or deflated.
public struct NumPyArchive: Sendable {
  private let path: String
  private let file: MappedFile
  private let entries: [Entry]

  private struct Entry {
    var name: String
    var method: Int
    var crc: UInt32
    var compressedSize: Int
    var size: Int
    var headerOffset: Int
  }

  /// Reads the list of contents.
  ///
  /// - Throws: ``NumPyError`` `APUS-N-0001` when the file is no zip archive, `-0002` when it is malformed.
  public init(contentsOf path: String) throws(NumPyError) {
    self.path = path
    do { file = try MappedFile(path: path) } catch { throw NumPyError("APUS-N-0005", error.description) }
    do { entries = try Self.directory(ByteReader(file.bytes)) } catch { throw error.at(path) }
  }

  /// Names of the tensors, in the order of the file.
  public var names: [String] { entries.map(\.name) }

  /// Reads one tensor.
  ///
  /// - Throws: ``NumPyError`` `APUS-N-0006` when there is none of that name, and what ``NumPyFile`` throws.
  public func read(_ name: String, expecting expected: DType? = nil) throws(NumPyError) -> HostTensor {
    guard let entry = entries.first(where: { $0.name == name }) else {
      throw NumPyError(
        "APUS-N-0006", "no tensor '\(name)' in the archive", place: path,
        hint: "It holds: \(names.joined(separator: ", ")).")
    }
    do {
      let bytes = try content(of: entry)
      return try NumPyFile.read(
        UnsafeRawBufferPointer(start: bytes.base, count: bytes.byteCount), owner: bytes, expecting: expected)
    } catch { throw error.at("\(path): \(name)") }
  }
}

// MARK: Zip

/// Little-endian integers at offsets, nil beyond the end.
private struct ByteReader {
  let bytes: UnsafeRawBufferPointer

  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  func integer(_ offset: Int, _ width: Int) throws(NumPyError) -> Int {
    guard offset >= 0, offset <= bytes.count - width else {
      throw NumPyError("APUS-N-0002", "the archive is cut off at byte \(bytes.count)")
    }
    return (0..<width).reduce(0) { $0 | Int(truncatingIfNeeded: UInt64(bytes[offset + $1]) << (8 * $1)) }
  }

  func text(_ offset: Int, _ count: Int) throws(NumPyError) -> String {
    guard offset >= 0, count >= 0, offset <= bytes.count - count else {
      throw NumPyError("APUS-N-0002", "the archive is cut off at byte \(bytes.count)")
    }
    return String(decoding: bytes[offset..<offset + count], as: UTF8.self)
  }
}

extension NumPyArchive {
  /// Finds the record that ends the archive, before a comment of at most 64 KiB.
  private static func endRecord(_ reader: ByteReader) throws(NumPyError) -> Int {
    var offset = reader.bytes.count - 22
    let lowest = max(0, offset - 0xFFFF)
    while offset >= lowest {
      if try reader.integer(offset, 4) == 0x0605_4B50 { return offset }
      offset -= 1
    }
    throw NumPyError("APUS-N-0001", "not a .npz file: it is no zip archive")
  }

  /// Reads the central directory, with sizes of zip64 where the plain ones are full.
  private static func directory(_ reader: ByteReader) throws(NumPyError) -> [Entry] {
    let end = try endRecord(reader)
    var entryCount = try reader.integer(end + 10, 2)
    var position = try reader.integer(end + 16, 4)
    if position == 0xFFFF_FFFF || entryCount == 0xFFFF {
      let end64 = try reader.integer(end - 20 + 8, 8)
      entryCount = try reader.integer(end64 + 32, 8)
      position = try reader.integer(end64 + 48, 8)
    }
    var entries: [Entry] = []
    while entries.count < entryCount {
      guard try reader.integer(position, 4) == 0x0201_4B50 else {
        throw NumPyError("APUS-N-0002", "the archive's directory is malformed at byte \(position)")
      }
      let nameLength = try reader.integer(position + 28, 2)
      let extraLength = try reader.integer(position + 30, 2)
      var entry = Entry(
        name: try reader.text(position + 46, nameLength), method: try reader.integer(position + 10, 2),
        crc: UInt32(truncatingIfNeeded: try reader.integer(position + 16, 4)),
        compressedSize: try reader.integer(position + 20, 4), size: try reader.integer(position + 24, 4),
        headerOffset: try reader.integer(position + 42, 4))
      try readExtra(reader, position + 46 + nameLength, extraLength, into: &entry)
      if entry.name.hasSuffix(".npy") { entry.name.removeLast(4) }
      entries.append(entry)
      position += 46 + nameLength + extraLength + (try reader.integer(position + 32, 2))
    }
    return entries
  }

  private static func readExtra(
    _ reader: ByteReader, _ start: Int, _ count: Int, into entry: inout Entry
  ) throws(NumPyError) {
    var position = start
    while position + 4 <= start + count {
      let length = try reader.integer(position + 2, 2)
      if try reader.integer(position, 2) == 1 {
        var field = position + 4
        for path in [\Entry.size, \Entry.compressedSize, \Entry.headerOffset] where entry[keyPath: path] == 0xFFFF_FFFF
        {
          entry[keyPath: path] = try reader.integer(field, 8)
          field += 8
        }
      }
      position += 4 + length
    }
  }

  /// The bytes of one file, borrowed from the archive when stored, inflated otherwise.
  private func content(of entry: Entry) throws(NumPyError) -> HostStorage {
    let reader = ByteReader(file.bytes)
    let header = entry.headerOffset
    let start = saturatingAdd(
      header,
      30 + (try reader.integer(saturatingAdd(header, 26), 2)) + (try reader.integer(saturatingAdd(header, 28), 2)))
    guard start >= 0, entry.compressedSize >= 0, entry.size >= 0, start <= file.bytes.count,
      entry.compressedSize <= file.bytes.count - start, let base = file.bytes.baseAddress
    else { throw NumPyError("APUS-N-0002", "the archive is cut off at byte \(file.bytes.count)") }
    let compressed = UnsafeRawBufferPointer(start: base + start, count: entry.compressedSize)
    let content: HostStorage
    switch entry.method {
    case 0: content = HostStorage(borrowing: base + start, byteCount: entry.compressedSize, owner: file)
    case 8: content = try Self.inflate(compressed, byteCount: entry.size)
    default:
      throw NumPyError(
        "APUS-N-0003", "compression method \(entry.method) is not supported",
        hint: "Write the archive with numpy.savez or numpy.savez_compressed.")
    }
    if Self.checksum(content) != entry.crc {
      throw NumPyError("APUS-N-0002", "the checksum differs: the archive is damaged")
    }
    return content
  }

  private static func inflate(
    _ compressed: UnsafeRawBufferPointer, byteCount: Int
  ) throws(NumPyError) -> HostStorage {
    // Deflate cannot compress beyond 1032 : 1, which bounds what a damaged size can ask for.
    guard byteCount <= saturatingMultiply(compressed.count, 1032), byteCount <= Int(UInt32.max),
      compressed.count <= Int(UInt32.max)
    else { throw NumPyError("APUS-N-0004", "a compressed entry cannot hold \(byteCount) bytes") }
    let content = HostStorage(byteCount: byteCount)
    var stream = z_stream()
    guard apus_inflate_init_raw(&stream) == Z_OK else {
      throw NumPyError("APUS-N-0002", "zlib cannot start")
    }
    defer { inflateEnd(&stream) }
    let source = compressed.baseAddress?.assumingMemoryBound(to: UInt8.self)
    stream.next_in = UnsafeMutablePointer(mutating: source)
    stream.avail_in = UInt32(compressed.count)
    stream.next_out = content.base.assumingMemoryBound(to: UInt8.self)
    stream.avail_out = UInt32(byteCount)
    guard CZlib.inflate(&stream, Z_FINISH) == Z_STREAM_END, Int(stream.total_out) == byteCount else {
      throw NumPyError("APUS-N-0002", "the compressed data is damaged")
    }
    return content
  }

  private static func checksum(_ content: HostStorage) -> UInt32 {
    let bytes = content.base.assumingMemoryBound(to: UInt8.self)
    return UInt32(truncatingIfNeeded: crc32_z(0, bytes, content.byteCount))
  }
}
