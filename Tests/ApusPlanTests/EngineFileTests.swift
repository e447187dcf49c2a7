import ApusCore
import ApusPlan
import Testing

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Bytes that a decoded plan may borrow.
final class OwnedBytes {
  let bytes: UnsafeMutableRawBufferPointer

  init(_ content: [UInt8]) {
    bytes = .allocate(byteCount: max(content.count, 1), alignment: 256)
    bytes.copyBytes(from: content)
    count = content.count
  }

  private let count: Int
  deinit { bytes.deallocate() }

  func decode() throws(EngineFileError) -> [Plan] {
    try EngineFile.decode(UnsafeRawBufferPointer(rebasing: bytes[..<count]), owner: self)
  }
}

func decode(_ bytes: [UInt8]) throws(EngineFileError) -> [Plan] { try OwnedBytes(bytes).decode() }

/// The code and place of the error that decoding gives, or "none".
func outcome(_ bytes: [UInt8]) -> String {
  do throws(EngineFileError) {
    _ = try decode(bytes)
    return "none"
  } catch {
    return "\(error.problems[0].code) \(error.problems[0].place)"
  }
}

@Suite struct EngineFileTests {
  @Test func everythingSurvivesTheFile() throws {
    let plan = SamplePlan.make()
    let path = "\(temporaryFolder())/apus-engine-\(getpid()).apus"
    defer { unlink(path) }
    try EngineFile.write([plan], to: path)
    let read = try EngineFile.read(path)[0]
    #expect(String(describing: read.slots) == String(describing: plan.slots))
    #expect(String(describing: read.steps) == String(describing: plan.steps))
    #expect(read.fingerprint == plan.fingerprint)
    #expect(read.metadata == plan.metadata)
    #expect(read.shapeSymbols == plan.shapeSymbols && read.runSymbols == plan.runSymbols)
    #expect(read.profile == plan.profile && read.timings == plan.timings && read.functions == plan.functions)
    #expect(read.images.map(\.bytes) == plan.images.map(\.bytes))
    #expect(read.constants.bytes.elementsEqual(plan.constants.bytes))
    #expect(Int(bitPattern: read.constants.address) % 256 == 0)
    #expect(try EngineFile.encode([read]) == EngineFile.encode([plan]))
  }

  @Test func bytesAreAFunctionOfThePlan() throws {
    #expect(try EngineFile.encode([SamplePlan.make()]) == EngineFile.encode([SamplePlan.make()]))
  }

  @Test func everyCutIsRefused() throws {
    let bytes = try EngineFile.encode([SamplePlan.make()])
    #expect(outcome([]).hasPrefix("APUS-E-0002"))
    #expect(outcome(Array(bytes[..<5])).hasPrefix("APUS-E-0002"))
    for count in stride(from: 8, to: bytes.count, by: 7) {
      #expect(outcome(Array(bytes[..<count])).hasPrefix("APUS-E-0004"), "cut at \(count)")
    }
    #expect(outcome(bytes + [0]).hasPrefix("APUS-E-0004"))
  }

  @Test func everyFlippedBitIsRefused() throws {
    let bytes = try EngineFile.encode([SamplePlan.make()])
    for position in bytes.indices {
      var damaged = bytes
      damaged[position] ^= 1 << (position % 8)
      #expect(outcome(damaged) != "none", "byte \(position)")
    }
  }

  @Test func foreignFilesAreNamed() throws {
    #expect(outcome(Array("GGUF............................".utf8)) == "APUS-E-0002 byte 0")
    var future = try EngineFile.encode([SamplePlan.make()])
    future[4] = 99
    #expect(outcome(future) == "APUS-E-0003 byte 4")
    #expect(throws: EngineFileError.self) { try EngineFile.read("/nonexistent/engine.apus") }
    #expect(throws: EngineFileError.self) { try EngineFile.write([SamplePlan.make()], to: "/nonexistent/engine.apus") }
  }

  @Test func damagedConstantsAreFoundInTheirSection() throws {
    var bytes = try EngineFile.encode([SamplePlan.make()])
    bytes[bytes.count - 3] ^= 0x10
    #expect(outcome(bytes).hasPrefix("APUS-E-0005 section 'constants', byte "))
  }

  @Test func otherCompilersAreNamed() throws {
    var plan = SamplePlan.make()
    plan.fingerprint.compiler = "9.9.9"
    let error = #expect(throws: EngineFileError.self) { try plan.fingerprint.checkVersion() }
    #expect(error?.problems[0].code == "APUS-E-0010")
    #expect(error?.description.contains("9.9.9") == true)
  }
}

func temporaryFolder() -> String { getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp" }
