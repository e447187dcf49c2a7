import Apus
import ApusCompiler
import ApusCore
import ApusImport
import ApusOps
import ApusPlan
import ApusRuntime
import Foundation
import TestSupport
import Testing

/// Locks pin engines to the byte.
@Suite struct LockTests {
  private final class Folder {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("apus-lock-\(UUID().uuidString)")
    init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(at: url) }
    func file(_ name: String) -> URL { url.appendingPathComponent(name) }
  }

  private static let profiles = [
    Profile("decode", ["n": .fixed(1)]), Profile("prefill", ["n": .range(min: 1, opt: 64, max: 128)]),
  ]

  private static func model(_ hidden: Int = 320) throws -> Model {
    let proto = ONNXModel.model(
      [
        ONNXModel.node("MatMul", ["x", "w"], ["h"], name: "up"), ONNXModel.node("Relu", ["h"], ["a"], name: "act"),
        ONNXModel.node("MatMul", ["a", "v"], ["b"], name: "down"),
        ONNXModel.node("Softmax", ["b"], ["y"], name: "softmax"),
      ],
      inputs: [ONNXModel.value("x", ONNXModel.float, ["n", 128])],
      outputs: [ONNXModel.value("y", ONNXModel.float, ["n", 64])],
      constants: [
        ONNXModel.constant("w", [128, hidden], floats: (0..<128 * hidden).map { Float($0 % 97) / 97 - 0.5 }),
        ONNXModel.constant("v", [hidden, 64], floats: (0..<hidden * 64).map { Float($0 % 89) / 89 - 0.5 }),
      ])
    return try proto.bytes.withUnsafeBytes {
      try ONNXImporter().load($0, folder: nil, ImportOptions(catalogue: .standard))
    }
  }

  private static func bytes(
    _ choice: TacticChoice, _ model: Model? = nil, _ profiles: [Profile] = profiles
  ) throws -> [UInt8] {
    let (result, _) = try build(
      try model ?? Self.model(), for: .cpu, targets: ["x86-64-v3"], options: BuildOptions(profiles: profiles),
      choosing: choice)
    return try EngineFile.encode(result.plans)
  }

  /// Tuned once with a lock written, then built twice by it, with other figures at hand: all three are equal.
  @Test func buildsByALockAreEqual() throws {
    let folder = try Folder()
    let first = folder.file("first.timings")
    let tuned = try Self.bytes(
      TacticChoice(tuning: .lasting(.seconds(20)), timingCache: first, lockOutput: folder.file("m.lock")))
    let lock = try TacticLock(path: folder.file("m.lock").path)
    #expect(lock.sections.map(\.profile) == ["decode", "prefill"])
    #expect(lock.sections.allSatisfy { $0.lines.contains { $0.nodes == ["up", "act"] && $0.seconds != nil } })
    #expect(lock.sections.allSatisfy { !$0.timings.isEmpty })
    // Figures that say the opposite change nothing.
    var other = TimingCacheFile.empty(folder.file("other.timings").path)
    try other.add(
      try TimingCacheFile(path: first.path).cache.sorted.map { entry in
        var copy = entry
        copy.seconds = 1 / entry.seconds
        return copy
      })
    let locked = folder.file("m.lock")
    let second = try Self.bytes(TacticChoice(timingCache: folder.file("other.timings"), lock: locked))
    let third = try Self.bytes(TacticChoice(lock: locked, lockOutput: folder.file("again.lock")))
    #expect(second == third && tuned == second)
    let again = try TacticLock(path: folder.file("again.lock").path)
    #expect(again.sections.map(\.lines).map { $0.map(\.tactic) } == lock.sections.map(\.lines).map { $0.map(\.tactic) })
  }

  /// A lock that somebody wrote decides.
  @Test func aLockDecides() throws {
    let folder = try Folder()
    let file = folder.file("m.lock")
    _ = try Self.bytes(TacticChoice(lockOutput: file))
    let text = try String(contentsOf: file, encoding: .utf8)
    let (tactic, other) = ("\"gemm 6x16\" f32 - \"up\"", "\"gemm 6x16 fine\" f32 - \"up\"")
    #expect(text.contains(tactic))
    try text.replacingOccurrences(of: tactic, with: other).write(to: file, atomically: true, encoding: .utf8)
    let result = try build(
      try Self.model(), for: .cpu, targets: ["x86-64-v3"], options: BuildOptions(profiles: Self.profiles),
      choosing: TacticChoice(lock: file)
    ).result
    #expect(result.plans[1].steps.contains { $0.tactic == "gemm 6x16 fine" && $0.sources == ["up", "act"] })
  }

  @Test func everythingThatDoesNotFitIsNamed() throws {
    let folder = try Folder()
    let file = folder.file("m.lock")
    _ = try Self.bytes(TacticChoice(lockOutput: file))
    let text = try String(contentsOf: file, encoding: .utf8)
    let changed = text.replacingOccurrences(of: "\"gemm 6x16\" f32 - \"up\"", with: "\"gemm 7x7\" f16 - \"up\"")
      .replacingOccurrences(of: "f32 - \"softmax\"", with: "f32 - \"softmaxx\"")
    try changed.write(to: file, atomically: true, encoding: .utf8)
    let error = #expect(throws: BuildError.self) { try Self.bytes(TacticChoice(lock: file)) }
    let messages = (error?.problems ?? []).map(\.description).joined(separator: "\n")
    #expect(error?.problems.allSatisfy { $0.code == "APUS-B-0063" } == true)
    for part in [
      "'up' with 'act' cannot be computed by 'gemm 7x7'; there is 'gemm 6x16'",
      "is locked in f16, it is computed in f32",
      "no step computes 'softmaxx'; the model has no 'softmaxx'", "there is no line for the step 'loops' of 'softmax'",
      "line ",
    ] { #expect(messages.contains(part), "\(messages)") }
    // Another profile.
    try text.write(to: file, atomically: true, encoding: .utf8)
    let other = #expect(throws: BuildError.self) {
      try Self.bytes(TacticChoice(lock: file), nil, [Profile("decode", ["n": .fixed(1)])])
    }
    #expect(other?.problems.map(\.message).first?.contains("profile 'prefill' is locked") == true)
  }
}
