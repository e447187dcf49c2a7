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

/// Profiles added to an engine that is there.
@Suite struct ProfileAddingTests {
  private static let decode = Profile("decode", ["n": .fixed(1)])
  private static let prefill = Profile("prefill", ["n": .range(min: 1, opt: 8, max: 16)])
  private static let long = Profile("long", ["n": .range(min: 16, opt: 64, max: 128)])

  private static func model(_ proto: Proto) throws -> Model {
    try proto.bytes.withUnsafeBytes {
      try ONNXImporter().load($0, folder: nil, ImportOptions(catalogue: .standard))
    }
  }

  private static func plans(
    _ profiles: [Profile], of proto: Proto = ONNXModel.product, to earlier: [Plan] = [],
    target: String = Backend.ownTarget
  ) throws -> [Plan] {
    try build(
      try model(proto), for: .underTest, targets: [target], options: BuildOptions(profiles: profiles, earlier: earlier)
    ).plans
  }

  /// The plans as after a file.
  private static func reloaded(_ plans: [Plan]) throws -> [Plan] {
    let bytes = try EngineFile.encode(plans)
    let storage = HostStorage(byteCount: bytes.count)
    storage.base.copyMemory(from: bytes, byteCount: bytes.count)
    let buffer = UnsafeRawBufferPointer(start: storage.base, count: bytes.count)
    return try EngineFile.decode(buffer, owner: storage)
  }

  private func problems(_ body: () throws -> Void) -> [Diagnostic] {
    do {
      try body()
      return []
    } catch { return (error as? any RoomError)?.problems ?? [] }
  }

  /// With what it shares taken back to what it was, the engine is what it was, byte for byte.
  @Test(arguments: ONNXModel.all.map(\.name)) func earlierPlansStay(name: String) throws {
    let proto = try #require(ONNXModel.all.first { $0.name == name }).model
    let old = try Self.reloaded(try Self.plans([Self.decode, Self.prefill], of: proto))
    let new = try Self.reloaded(try Self.plans([Self.long], of: proto, to: old))
    #expect(new.map(\.profile.name) == ["decode", "prefill", "long"])
    var kept = Array(new.prefix(2))
    for index in kept.indices {
      kept[index].share(functions: old[0].functions, images: old[0].images, constants: old[0].constants)
    }
    #expect(try EngineFile.encode(kept) == EngineFile.encode(old))
    #expect(new[0].functions.starts(with: old[0].functions))
    #expect(zip(new[0].images, old[0].images).allSatisfy { $0.bytes == $1.bytes && $0.target == $1.target })
    #expect(new[0].constants.bytes.starts(with: old[0].constants.bytes))
  }

  @Test func newCodeIsInImagesOfItsOwn() throws {
    let old = try Self.plans([Self.decode])
    let new = try Self.plans([Self.prefill], to: old)
    #expect(new[0].images.count > old[0].images.count)
    let added = new[0].functions.dropFirst(old[0].functions.count)
    #expect(added.allSatisfy { $0.image >= old[0].images.count })
    #expect(new[0].functions.count > old[0].functions.count)
  }

  @Test(arguments: [ONNXModel.product, ONNXModel.image]) func whatIsEqualIsStoredOnce(proto: Proto) throws {
    let old = try Self.reloaded(try Self.plans([Self.prefill], of: proto))
    var twin = Self.prefill
    twin.name = "twin"
    let new = try Self.plans([twin], of: proto, to: old)
    #expect(new[1].functions == old[0].functions && new[0].images.count == old[0].images.count)
    #expect(new[1].constants.byteCount == old[0].constants.byteCount)
  }

  /// What an engine that is cut into pieces holds in them is found, too.
  @Test func piecesShare() throws {
    func plans(_ profile: Profile, to earlier: [Plan]) throws -> [Plan] {
      let options = BuildOptions(profiles: [profile], earlier: earlier, breaks: ["mlp/product"])
      return try build(
        try Self.model(ONNXModel.product), for: .underTest, targets: [Backend.ownTarget], options: options
      ).plans
    }
    let old = try Self.reloaded(try plans(Self.prefill, to: []))
    var twin = Self.prefill
    twin.name = "twin"
    let new = try plans(twin, to: old)
    #expect(old[0].pieces.count == 2 && new[1].pieces.count == 2 && new[0].images.count == old[0].images.count)
    #expect(new[1].constants.byteCount == old[0].constants.byteCount && old[0].constants.byteCount > 0)
  }

  @Test func addedProfilesRun() throws {
    let old = try Self.plans([Self.decode])
    let engine = try Engine(plans: try Self.reloaded(try Self.plans([Self.prefill, Self.long], to: old)), threads: 2)
    let whole = try Engine(plans: try Self.plans([]), threads: 2)
    let context = try engine.makeContext()
    let expected = try whole.makeContext()
    for (rows, profile) in [(1, 0), (7, 1), (100, 2), (1, 0)] {
      let x = RandomTensor.make(.f32, [rows, 4], seed: UInt64(rows))
      let found = try context.run(inputs: ["x": x], profile: .automatic)["y"]?.tensor?.doubles
      let right = try expected.run(inputs: ["x": x])["y"]?.tensor?.doubles
      #expect(context.activeProfile == profile && found?.count == 3 * rows)
      #expect(zip(found ?? [], right ?? []).allSatisfy { abs($0 - $1) < 1e-5 })
    }
    #expect(engine.plans.allSatisfy { !$0.timings.isEmpty })
  }

  @Test func anotherModelIsRefused() throws {
    let old = try Self.plans([Self.decode])
    let other = ONNXModel.model(
      [ONNXModel.node("MatMul", ["x", "w"], ["h"], name: "mlp/product"), ONNXModel.node("Relu", ["h"], ["y"])],
      inputs: [ONNXModel.value("x", ONNXModel.float, ["n", 4])],
      outputs: [ONNXModel.value("y", ONNXModel.float, ["n", 3])],
      constants: [ONNXModel.constant("w", [4, 3], floats: (0..<12).map { Float($0) - 5.25 })])
    let found = problems { _ = try Self.plans([Self.prefill], of: other, to: old) }
    #expect(found.map(\.code) == ["APUS-B-0040"])
    #expect(found.first?.message.contains(old[0].modelHash) == true && old[0].modelHash.count == 32)
  }

  @Test func everyMistakeIsNamed() throws {
    var old = try Self.plans([Self.decode, Self.prefill])
    for index in old.indices { old[index].modelHash = "0" }
    let found = problems { _ = try Self.plans([Self.decode], to: old, target: Backend.otherTarget) }
    #expect(found.map(\.code) == ["APUS-B-0040", "APUS-B-0041", "APUS-B-0042"])
    #expect([Backend.ownTarget, Backend.otherTarget].allSatisfy(found[1].message.contains))
  }

  @Test func fromSwift() throws {
    let file = FileManager.default.temporaryDirectory.appendingPathComponent("apus-adding-\(UUID().uuidString).onnx")
    try Data(ONNXModel.product.bytes).write(to: file)
    defer { try? FileManager.default.removeItem(at: file) }
    let old = try buildPlans(contentsOf: file, profiles: [Self.decode], backend: Backend.underTest.name)
    let new = try buildPlans(contentsOf: file, adding: [Self.long], to: old, backend: Backend.underTest.name)
    #expect(new.map(\.profile.name) == ["decode", "long"])
    #expect(try buildPlans(contentsOf: file, adding: [], to: old).count == 1)
  }
}
