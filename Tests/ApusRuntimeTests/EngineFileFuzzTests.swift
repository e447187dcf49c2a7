import ApusCore
import ApusPlan
import Testing

@testable import ApusRuntime

@Suite struct EngineFileFuzzTests {
  /// Decodes bytes that may be anything, and binds what decodes.
  private func survive(_ bytes: [UInt8]) -> String {
    let owner = HostStorage(byteCount: bytes.count)
    bytes.withUnsafeBytes { source in
      if let base = source.baseAddress { owner.base.copyMemory(from: base, byteCount: source.count) }
    }
    do throws(EngineFileError) {
      let plans = try EngineFile.decode(UnsafeRawBufferPointer(start: owner.base, count: bytes.count), owner: owner)
      let forecast = problems { _ = try plans[0].memoryForecast(shapes: [:]) }
      return forecast.first ?? "accepted"
    } catch {
      #expect(!error.problems.isEmpty && error.problems.allSatisfy { $0.code.hasPrefix("APUS-E-") })
      return error.problems.first?.code ?? ""
    }
  }

  private func mutate(_ bytes: inout [UInt8], kinds: Range<Int> = 0..<6, _ generator: inout SeededGenerator) {
    for _ in 0..<Int.random(in: 1...4, using: &generator) where bytes.count > 8 {
      let position = Int.random(in: 0..<bytes.count, using: &generator)
      switch Int.random(in: kinds, using: &generator) {
      case 0: bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
      case 1: bytes[position] = UInt8.random(in: 0...255, using: &generator)
      case 2: for offset in position..<min(position + 8, bytes.count) { bytes[offset] = 0xFF }
      case 3: for offset in position..<min(position + 4, bytes.count) { bytes[offset] = 0 }
      case 4: bytes.removeSubrange(position..<min(position + 3, bytes.count))
      default: bytes.insert(contentsOf: bytes[position..<min(position + 5, bytes.count)], at: position)
      }
    }
  }

  /// Plans of two targets, with code and functions of their own.
  private static func engine() throws -> [UInt8] {
    var plans = [ControlFlowTests.fibonacci(), ControlFlowTests.fibonacci()]
    plans[1].fingerprint.target = "x86-64-v2"
    for index in plans.indices {
      plans[index].images = [KernelImage(target: plans[index].fingerprint.target, bytes: [1, 2, 3])]
      plans[index].functions = (0...index).map { KernelFunction(image: 0, symbol: "k\($0)") }
    }
    return try EngineFile.encode(plans)
  }

  @Test func mutatedFilesAreRefused() throws {
    let bytes = try Self.engine()
    var generator = SeededGenerator(seed: 1)
    for _ in 0..<5000 {
      var mutated = bytes
      mutate(&mutated, &generator)
      if mutated != bytes { #expect(survive(mutated) != "accepted") }
    }
  }

  /// Sections are mutated and sealed again with right checksums, so that the mutations reach the decoder.
  @Test func mutatedSectionsNeverCrash() throws {
    let bytes = try Self.engine()
    var generator = SeededGenerator(seed: 2)
    var outcomes: [String: Int] = [:]
    for round in 0..<5000 {
      var sections = SealedSections(bytes)
      let section = round % 10 == 0 ? round / 10 % 4 : 1
      mutate(&sections.contents[section], kinds: round % 2 == 0 ? 0..<2 : 0..<6, &generator)
      outcomes[survive(sections.sealed()), default: 0] += 1
    }
    #expect(outcomes["APUS-E-0005"] == nil && outcomes["APUS-E-0004"] == nil && outcomes["APUS-E-0006"] == nil)
    #expect((outcomes["APUS-E-0007"] ?? 0) > 100 && (outcomes["APUS-E-0008"] ?? 0) > 100, "\(outcomes)")
    #expect(SealedSections(bytes).sealed() == bytes)
  }
}

/// The sections of an engine file, apart, to be put together again with right offsets and checksums.
struct SealedSections {
  var contents: [[UInt8]] = []

  init(_ file: [UInt8]) {
    for index in 0..<4 {
      let entry = 24 + index * 32
      let offset = Self.number(file, entry + 8)
      contents.append(Array(file[offset..<offset + Self.number(file, entry + 16)]))
    }
  }

  private static func number(_ file: [UInt8], _ offset: Int) -> Int {
    file[offset..<offset + 8].reversed().reduce(0) { $0 << 8 | Int($1) }
  }

  func sealed() -> [UInt8] {
    var body: [UInt8] = []
    var table = ByteWriter()
    for (index, content) in contents.enumerated() {
      let alignment = index == 3 ? 256 : 8
      while (160 + body.count) % alignment != 0 { body.append(0) }
      table.append(UInt32(index + 1))
      table.append(UInt32(0))
      table.append(UInt64(160 + body.count))
      table.append(UInt64(content.count))
      table.append(content.withUnsafeBytes { Checksum.of($0) })
      body += content
    }
    var head = ByteWriter()
    head.append(bytes: Array("APUS".utf8))
    head.append(UInt32(EngineFile.format))
    head.append(UInt64(160 + body.count))
    head.append(UInt32(4))
    head.append(UInt32(0))
    head.append(bytes: table.bytes)
    head.append(head.bytes.withUnsafeBytes { Checksum.of($0) })
    return head.bytes + body
  }
}
