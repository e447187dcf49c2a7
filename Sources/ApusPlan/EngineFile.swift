package import ApusCore

/// The engine file: a header with a table of sections, then the sections, each with a checksum.
///
/// The sections are the fingerprints of the targets, the plans of each target, the images of each target, and the constants
/// of all.
///
/// Numbers are little-endian. Header: `APUS`, format (u32), file size (u64), number of sections (u32), 0 (u32); one table
/// entry per section: kind (u32), 0 (u32), offset, size, checksum (u64 each); checksum of all before it. The sections
/// follow in the order of their kinds, zero bytes between them, the constants last and 256-byte aligned.
public enum EngineFile {
  /// Version of the format that this program writes and the only one it reads.
  public static let format = 11

  enum Kind: UInt32, CaseIterable {
    case targets = 1
    case plans, images, constants

    var name: String {
      switch self {
      case .targets: "targets"
      case .plans: "plans"
      case .images: "images"
      case .constants: "constants"
      }
    }

    var alignment: Int { self == .constants ? 256 : 8 }
  }

  static let magic: [UInt8] = Array("APUS".utf8)
  static let headerSize = 24
  static let entrySize = 32
  static var tableEnd: Int { headerSize + Kind.allCases.count * entrySize }
  static var prefixSize: Int { tableEnd + 8 }

  struct Section {
    var kind: Kind
    var offset: Int
    var byteCount: Int
    var checksum: UInt64
  }
}

// MARK: Writing

extension EngineFile {
  /// Writes the plans of an engine, one for each target and profile, to a file, whole or not at all.
  ///
  /// - Throws: ``EngineFileError`` `APUS-E-0013` when the file cannot be written, or the problems of inconsistent plans.
  package static func write(_ plans: [Plan], to path: String) throws(EngineFileError) {
    try Plan.validate(plans)
    let head = head(of: plans)
    let result = head.withUnsafeBytes { bytes -> Result<Void, FileError> in
      Result { () throws(FileError) in try AtomicFile.write([bytes, plans[0].constants.bytes], to: path) }
    }
    if case .failure(let error) = result {
      throw EngineFileError(
        "APUS-E-0013", error.description, hint: "Choose a path on a disk with space that you may write to.")
    }
  }

  /// The bytes that ``write(_:to:)`` puts into the file.
  package static func encode(_ plans: [Plan]) throws(EngineFileError) -> [UInt8] {
    try Plan.validate(plans)
    return head(of: plans) + plans[0].constants.bytes
  }

  /// All bytes before the constants.
  private static func head(of plans: [Plan]) -> [UInt8] {
    let targets = plans.byTarget
    let sections: [(kind: Kind, bytes: [UInt8])] = [
      (.targets, PlanEncoder.encode(plans.targets)), (.plans, PlanEncoder.encode(targets)),
      (.images, encode(targets.map { $0[0].images })),
    ]
    var entries: [Section] = []
    var content = ByteWriter()
    func pad(to alignment: Int) {
      let end = prefixSize + content.bytes.count
      content.append(bytes: repeatElement(0, count: (alignment - end % alignment) % alignment))
    }
    for section in sections {
      pad(to: section.kind.alignment)
      entries.append(
        Section(
          kind: section.kind, offset: prefixSize + content.bytes.count, byteCount: section.bytes.count,
          checksum: section.bytes.withUnsafeBytes { Checksum.of($0) }))
      content.append(bytes: section.bytes)
    }
    pad(to: Kind.constants.alignment)
    let constants = plans[0].constants.bytes
    entries.append(
      Section(
        kind: .constants, offset: prefixSize + content.bytes.count, byteCount: constants.count,
        checksum: Checksum.of(constants)))
    return prefix(entries, fileSize: prefixSize + content.bytes.count + constants.count) + content.bytes
  }

  private static func prefix(_ sections: [Section], fileSize: Int) -> [UInt8] {
    var writer = ByteWriter()
    writer.append(bytes: magic)
    writer.append(UInt32(format))
    writer.append(UInt64(fileSize))
    writer.append(count: sections.count)
    writer.append(UInt32(0))
    for section in sections {
      writer.append(section.kind.rawValue)
      writer.append(UInt32(0))
      writer.append(UInt64(section.offset))
      writer.append(UInt64(section.byteCount))
      writer.append(section.checksum)
    }
    writer.append(writer.bytes.withUnsafeBytes { Checksum.of($0) })
    return writer.bytes
  }

  private static func encode(_ targets: [[KernelImage]]) -> [UInt8] {
    var writer = ByteWriter()
    writer.append(count: targets.count)
    for images in targets {
      writer.append(count: images.count)
      for image in images {
        writer.append(image.target)
        writer.append(UInt64(image.bytes.count))
        writer.append(bytes: image.bytes)
      }
    }
    return writer.bytes
  }
}

// MARK: Reading

extension EngineFile {
  /// Maps a file and reads its plans, one for each target and profile, those of a target together; the constants stay in the
  /// mapping.
  ///
  /// Fingerprints are read, not judged: whether this machine can run the plans is for the engine to say.
  ///
  /// - Throws: ``EngineFileError`` `APUS-E-0001` … `0008`, with section and byte offset.
  package static func read(_ path: String) throws(EngineFileError) -> [Plan] {
    let file: MappedFile
    do { file = try MappedFile(path: path) } catch { throw EngineFileError("APUS-E-0001", error.description) }
    do { return try decode(file.bytes, owner: file) } catch { throw error.at(path) }
  }

  /// Reads plans from bytes that `owner` keeps valid and unchanged.
  package static func decode(_ bytes: UnsafeRawBufferPointer, owner: AnyObject) throws(EngineFileError) -> [Plan] {
    defer { withExtendedLifetime(owner) {} }
    let sections = try sectionTable(bytes)
    try verifyGaps(bytes, sections)
    for section in sections where Checksum.of(content(section, bytes)) != section.checksum {
      throw EngineFileError(
        "APUS-E-0005", "the checksum does not match the bytes",
        place: "section '\(section.kind.name)', byte \(section.offset)",
        hint: "The file was damaged after it was written: copy it or build it again.")
    }
    let fingerprints = try PlanDecoder.fingerprints(reader(sections[0], bytes))
    let targets = try PlanDecoder.plans(reader(sections[1], bytes), fingerprints)
    let images = try images(reader(sections[2], bytes), targetCount: targets.count)
    let content = content(sections[3], bytes)
    var constants = ConstantSection()
    if let base = content.baseAddress, !content.isEmpty {
      let storage = HostStorage(borrowing: base, byteCount: content.count, owner: owner)
      constants = ConstantSection(storage: storage, byteCount: content.count)
    }
    var plans: [Plan] = []
    for (target, images) in zip(targets, images) {
      for var plan in target {
        plan.share(functions: plan.functions, images: images, constants: constants)
        plans.append(plan)
      }
    }
    try Plan.validate(plans)
    return plans
  }

  private static func content(_ section: Section, _ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: bytes[section.offset..<section.offset + section.byteCount])
  }

  private static func reader(_ section: Section, _ bytes: UnsafeRawBufferPointer) -> ByteReader {
    ByteReader(content(section, bytes), section: section.kind.name, fileOffset: section.offset)
  }

  private static func sectionTable(_ bytes: UnsafeRawBufferPointer) throws(EngineFileError) -> [Section] {
    var reader = ByteReader(bytes, section: "header", fileOffset: 0)
    if bytes.count < 8 || !bytes.prefix(magic.count).elementsEqual(magic) {
      throw EngineFileError(
        "APUS-E-0002", bytes.isEmpty ? "the file is empty" : "this is not an Apus engine", place: "byte 0",
        hint: "`apus build MODEL.onnx -o MODEL.apus` makes one.")
    }
    _ = try reader.bytes(magic.count)
    let found = Int(try reader.read(UInt32.self))
    if found != format {
      throw EngineFileError(
        "APUS-E-0003", "the file has format \(found), this program reads format \(format)", place: "byte 4",
        hint: "Build the engine again with this version of apus.")
    }
    if bytes.count < prefixSize {
      throw truncated(found: bytes.count, expected: UInt64(prefixSize))
    }
    let fileSize = try reader.read(UInt64.self)
    let count = try reader.read(UInt32.self)
    _ = try reader.read(UInt32.self)
    let stored = bytes.loadUnaligned(fromByteOffset: tableEnd, as: UInt64.self)
    if UInt64(littleEndian: stored) != Checksum.of(UnsafeRawBufferPointer(rebasing: bytes[..<tableEnd])) {
      throw EngineFileError(
        "APUS-E-0005", "the checksum does not match the bytes", place: "section table, byte \(headerSize)",
        hint: "The file was damaged after it was written: copy it or build it again.")
    }
    if fileSize != UInt64(bytes.count) { throw truncated(found: bytes.count, expected: fileSize) }
    if count != UInt32(Kind.allCases.count) {
      throw badTable("\(Kind.allCases.count) sections are expected, \(count) are listed")
    }
    var sections: [Section] = []
    for kind in Kind.allCases { sections.append(try section(kind, &reader, fileSize: bytes.count)) }
    return sections
  }

  private static func section(
    _ kind: Kind, _ reader: inout ByteReader, fileSize: Int
  ) throws(EngineFileError) -> Section {
    let found = try reader.read(UInt32.self)
    if found != kind.rawValue { throw badTable("section '\(kind.name)' is expected, kind \(found) is listed") }
    _ = try reader.read(UInt32.self)
    let offset = try reader.read(UInt64.self)
    let byteCount = try reader.read(UInt64.self)
    let checksum = try reader.read(UInt64.self)
    let limit = UInt64(fileSize)
    if offset > limit || byteCount > limit - offset || offset % UInt64(kind.alignment) != 0 {
      throw badTable("section '\(kind.name)' (offset \(offset), \(byteCount) bytes) is outside the file or not aligned")
    }
    return Section(kind: kind, offset: Int(offset), byteCount: Int(byteCount), checksum: checksum)
  }

  /// Between the sections there are only the zero bytes that alignment needs.
  private static func verifyGaps(
    _ bytes: UnsafeRawBufferPointer, _ sections: [Section]
  ) throws(EngineFileError) {
    var end = prefixSize
    for section in sections {
      let gap = section.offset - end
      if gap < 0 || gap >= section.kind.alignment || bytes[end..<section.offset].contains(where: { $0 != 0 }) {
        throw badTable("section '\(section.kind.name)' does not follow the one before it")
      }
      end = section.offset + section.byteCount
    }
    if end != bytes.count { throw badTable("\(bytes.count - end) bytes follow the last section") }
  }

  /// The images of each target.
  private static func images(
    _ reader: consuming ByteReader, targetCount: Int
  ) throws(EngineFileError) -> [[KernelImage]] {
    let targets = try reader.list(minimumSize: 4) { reader throws(EngineFileError) in
      try reader.list(minimumSize: 12) { reader throws(EngineFileError) in
        let target = try reader.text()
        let byteCount = Int(clamping: try reader.read(UInt64.self))
        return KernelImage(target: target, bytes: Array(try reader.bytes(byteCount)))
      }
    }
    if targets.count != targetCount {
      throw reader.malformed("images of \(targetCount) targets are expected, those of \(targets.count) are given")
    }
    try reader.finish()
    return targets
  }

  private static func truncated(found: Int, expected: UInt64) -> EngineFileError {
    EngineFileError(
      "APUS-E-0004", "the file has \(found) bytes, \(expected) are expected", place: "byte \(found)",
      hint: "The file was cut or extended: copy it or build it again.")
  }

  private static func badTable(_ message: String) -> EngineFileError {
    EngineFileError(
      "APUS-E-0006", message, place: "section table, byte \(headerSize)",
      hint: "The file is damaged: build the engine again.")
  }
}
