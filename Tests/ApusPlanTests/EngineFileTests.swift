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

  /// Plans of two targets and two profiles, constants shared.
  private static func fat() -> [Plan] {
    let plan = SamplePlan.make()
    return ["x86-64-v3", "x86-64-v4"].flatMap { target in
      ["small", "large"].map { profile in
        var copy = plan
        copy.fingerprint.target = target
        copy.profile.name = profile
        copy.images = [KernelImage(target: target, bytes: Array("code of \(target)".utf8))]
        copy.functions.append(KernelFunction(image: 0, symbol: "only \(target)"))
        return copy
      }
    }
  }

  @Test func targetsShareAFile() throws {
    let plans = Self.fat()
    let read = try decode(EngineFile.encode(plans))
    #expect(read.targets == plans.targets && read.map(\.profile.name) == ["small", "large", "small", "large"])
    #expect(read.map { $0.images.map(\.bytes) } == plans.map { $0.images.map(\.bytes) })
    #expect(read.map(\.functions) == plans.map(\.functions))
    #expect(read.allSatisfy { $0.constants.address == read[0].constants.address })
    // Code and plans of a target more, and not the constants again.
    let sizes = try [Array(plans[..<2]), plans].map { try EngineFile.encode($0).count }
    #expect(sizes[1] - sizes[0] < sizes[0])
  }

  /// In whatever order plans are given, those of a target are together.
  @Test func targetsAreKeptTogether() throws {
    let plans = Self.fat()
    #expect(try EngineFile.encode([plans[0], plans[2], plans[1], plans[3]]) == EngineFile.encode(plans))
  }

  @Test func everyCutAndFlippedBitOfSeveralTargetsIsRefused() throws {
    let bytes = try EngineFile.encode(Self.fat())
    for position in stride(from: 8, to: bytes.count, by: 5) {
      #expect(outcome(Array(bytes[..<position])).hasPrefix("APUS-E-0004"), "cut at \(position)")
      var damaged = bytes
      damaged[position] ^= 1 << (position % 8)
      #expect(outcome(damaged) != "none", "byte \(position)")
    }
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
