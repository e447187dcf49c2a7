import Apus
import ApusCompiler
import ApusCore
import ApusGraph
import ApusImport
import ApusOps
import ApusPlan
import Foundation
import TestSupport
import Testing

/// Engines for several targets.
@Suite struct TargetBuildTests {
  private static let targets = ["x86-64-v2", "x86-64-v3"]
  private static let decode = Profile("decode", ["n": .fixed(1)])
  private static let prefill = Profile("prefill", ["n": .range(min: 1, opt: 8, max: 16)])

  private static func plans(
    _ targets: [String], _ profiles: [Profile] = [], of proto: Proto = ONNXModel.product, to earlier: [Plan] = []
  ) throws -> [Plan] {
    let model = try proto.bytes.withUnsafeBytes {
      try ONNXImporter().load($0, folder: nil, ImportOptions(catalogue: .standard))
    }
    return try build(model, targets: targets, options: BuildOptions(profiles: profiles, earlier: earlier)).plans
  }

  private static func result(_ plans: [Plan], rows: Int, _ profile: ProfileSelection? = nil) throws -> [Double] {
    let context = try Engine(plans: plans, threads: 2).makeContext()
    let x = RandomTensor.make(.f32, [rows, 4], seed: UInt64(rows))
    return try context.run(inputs: ["x": x], profile: profile)["y"]?.tensor?.doubles ?? []
  }

  @Test func everyTargetHasEveryProfile() throws {
    let plans = try Self.plans(Self.targets, [Self.decode, Self.prefill])
    #expect(plans.targets.map(\.target) == Self.targets)
    #expect(plans.map(\.profile.name) == ["decode", "prefill", "decode", "prefill"])
    #expect(plans.allSatisfy { plan in plan.images.allSatisfy { $0.target == plan.fingerprint.target } })
    // This machine runs the newer, and has timed it.
    let engine = try Engine(plans: plans, threads: 2)
    #expect(engine.plans.allSatisfy { $0.fingerprint.target == "x86-64-v3" && !$0.timings.isEmpty })
    #expect(plans[..<2].allSatisfy { $0.timings.isEmpty })
  }

  @Test func targetsGiveTheSameResults() throws {
    let plans = try Self.plans(Self.targets, [Self.decode, Self.prefill])
    for (rows, profile) in [(1, 0), (7, 1)] {
      let results = try plans.byTarget.map { try Self.result($0, rows: rows, .index(profile)) }
      #expect(results[0].count == 3 * rows)
      #expect(zip(results[0], results[1]).allSatisfy { abs($0 - $1) < 1e-5 })
      #expect(try Self.result(plans, rows: rows, .index(profile)) == results[1])
    }
  }

  /// The image's weights are packed alike by targets of equal vectors; those of others are there beside.
  @Test(arguments: [ONNXModel.product, ONNXModel.image]) func equalConstantsAreStoredOnce(proto: Proto) throws {
    let single = try Self.plans(["x86-64-v3"], of: proto)
    let both = try Self.plans(Self.targets, of: proto)
    let other = try Self.plans(["x86-64-v2"], of: proto)
    #expect(both[0].constants.address == both[1].constants.address)
    let apart = single[0].constants.byteCount + other[0].constants.byteCount
    #expect(both[0].constants.byteCount <= apart && single[0].constants.byteCount > 0)
    #expect(both[0].constants.byteCount < apart || proto.bytes == ONNXModel.product.bytes)
  }

  @Test func aTargetCountsOnce() throws {
    #expect(try Self.plans(["x86-64-v3", "x86-64-v3"]).count == 1)
  }

  @Test func profilesAreAddedForEveryTarget() throws {
    let old = try Self.plans(Self.targets, [Self.decode])
    let new = try Self.plans(Self.targets.reversed(), [Self.prefill], to: old)
    #expect(new.map(\.profile.name) == ["decode", "prefill", "decode", "prefill"])
    #expect(Set(new.targets) == Set(old.targets))
    #expect(try Self.result(new, rows: 5, "prefill").count == 15)
    let error = #expect(throws: BuildError.self) { try Self.plans(["x86-64-v3"], [Self.prefill], to: old) }
    #expect(error?.problems.map(\.code) == ["APUS-B-0041"])
    #expect(error?.description.contains("--target x86-64-v2,x86-64-v3") == true)
  }

  @Test func bytesAreAFunctionOfModelAndTargets() throws {
    let files = try (0..<2).map { _ in try EngineFile.encode(try Self.plans(Self.targets)) }
    // Bytes in a message would be thousands of lines.
    let areEqual = files[0] == files[1]
    #expect(areEqual)
  }
}
