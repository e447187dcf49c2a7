import Apus
import ApusCompiler
import ApusCore
import ApusGraph
import ApusImport
import ApusOps
import ApusPlan
import ApusTesting
import Foundation
import TestSupport
import Testing

/// Tuning on the processor: measured, kept, taken over.
@Suite struct TuningTests {
  private static let decode = Profile("decode", ["n": .fixed(1)])
  private static let prefill = Profile("prefill", ["n": .range(min: 1, opt: 64, max: 128)])

  private static func plans() throws -> [Plan] {
    let (depth, columns) = (256, 512)
    let proto = ONNXModel.model(
      [
        ONNXModel.node("MatMul", ["x", "w"], ["h"], name: "mlp/product"),
        ONNXModel.node("Relu", ["h"], ["y"], name: "mlp/act"),
      ],
      inputs: [ONNXModel.value("x", ONNXModel.float, ["n", depth])],
      outputs: [ONNXModel.value("y", ONNXModel.float, ["n", columns])],
      constants: [
        ONNXModel.constant("w", [depth, columns], floats: (0..<depth * columns).map { Float($0 % 97) / 97 - 0.5 })
      ])
    let model = try proto.bytes.withUnsafeBytes {
      try ONNXImporter().load($0, folder: nil, ImportOptions(catalogue: .standard))
    }
    return try build(model, targets: ["x86-64-v3"], options: BuildOptions(profiles: [decode, prefill])).plans
  }

  private final class Folder {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("apus-tuning-\(UUID().uuidString)")
    init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true) }
    deinit { try? FileManager.default.removeItem(at: url) }
    func cache() throws -> TimingCacheFile { try TimingCacheFile(path: url.appendingPathComponent("timings").path) }
  }

  private static func result(_ plans: [Plan], _ device: (any Device)? = nil) throws -> [Double] {
    let engine = try device.map { try Engine(plans: plans, device: $0) } ?? Engine(plans: plans, threads: 2)
    let x = RandomTensor.make(.f32, [70, 256], seed: 5)
    return try engine.makeContext().run(inputs: ["x": x], profile: "prefill")["y"]?.tensor?.doubles ?? []
  }

  /// What was measured is known the next time, also on a device whose memory is elsewhere.
  @Test(arguments: [false, true]) func figuresAreKept(isElsewhere: Bool) throws {
    let folder = try Folder()
    let plans = try Self.plans()
    let device = try Backend.cpu.makeDevice(2)
    let own: any Device = isElsewhere ? RemoteDevice(device) : device
    var cache = try folder.cache()
    let (tuned, report) = try tune(plans, for: .lasting(.seconds(20)), cache: &cache, device: own)
    #expect(report.regionCount == 2 && report.judgedCount == 2 && report.measuredCount > 2 && report.knownCount == 0)
    #expect(report.warnings.isEmpty, "\(report.warnings)")
    #expect(try Self.result(tuned, own) == Self.result(plans))
    var again = try folder.cache()
    #expect(
      again.cache.text == cache.cache.text
        && again.cache.sorted.count(where: { $0.tactic != "run" && !$0.tactic.hasPrefix("placed") })
          == report.measuredCount
    )
    let second = try tune(plans, for: .lasting(.seconds(20)), cache: &again, device: own).report
    #expect(second.measuredCount == 0 && second.knownCount == report.measuredCount && second.judgedCount == 2)
  }

  @Test func noTimeMeasuresNothing() throws {
    let folder = try Folder()
    let plans = try Self.plans()
    var cache = try folder.cache()
    let (tuned, report) = try tune(plans, for: .lasting(.zero), cache: &cache)
    #expect(report.measuredCount == 0 && report.judgedCount == 0 && report.changes.isEmpty)
    #expect(try EngineFile.encode(tuned) == EngineFile.encode(plans))
  }

  /// A cache that another machine filled decides without a device, for each profile by itself.
  @Test func aCacheDecidesWithoutADevice() throws {
    let folder = try Folder()
    let plans = try Self.plans()
    var cache = try folder.cache()
    _ = try tune(plans, for: .lasting(.seconds(20)), cache: &cache)
    var other = TimingCacheFile.empty(folder.url.appendingPathComponent("other").path)
    try other.add(
      cache.cache.sorted.map { entry in
        var copy = entry
        copy.seconds = entry.tactic.hasSuffix(" fine") ? 1e-6 : 2e-6
        copy.place.device = "another"
        return copy
      })
    let (tuned, report) = try tune(plans, for: nil, cache: &other)
    #expect(report.measuredCount == 0 && report.device == nil)
    let change = try #require(report.changes.first { $0.profile == "prefill" })
    #expect(change.after.hasSuffix(" fine") && change.sources == ["mlp/product", "mlp/act"] && change.count == 1)
    let step = try #require(tuned[1].steps.first { $0.alternatives != nil })
    #expect(step.tactic == change.after && step.sources == change.sources)
    #expect(try Self.result(tuned) == Self.result(plans))
    // The file holds what was chosen.
    let path = folder.url.appendingPathComponent("tuned.apus")
    try tuned.write(to: path)
    let read = try EngineFile.read(path.path)
    #expect(read[1].steps.compactMap(\.alternatives) == tuned[1].steps.compactMap(\.alternatives))
    #expect(try Self.result(read) == Self.result(plans))
  }

  private static let productCount = 48

  /// Products of different sizes, for more regions than there is time for.
  private static func manyProducts() throws -> [Plan] {
    var nodes: [Proto] = []
    var constants: [Proto] = []
    var width = 320
    for index in 0..<productCount {
      let next = 320 + 16 * (index + 1)
      nodes.append(ONNXModel.node("MatMul", ["h\(index)", "w\(index)"], ["h\(index + 1)"], name: "product\(index)"))
      constants.append(
        ONNXModel.constant(
          "w\(index)", [width, next], floats: (0..<width * next).map { Float(($0 + index) % 89) / 890 - 0.05 }))
      width = next
    }
    let proto = ONNXModel.model(
      nodes, inputs: [ONNXModel.value("h0", ONNXModel.float, [64, 320])],
      outputs: [ONNXModel.value("h\(productCount)", ONNXModel.float, [64, width])], constants: constants)
    let model = try proto.bytes.withUnsafeBytes {
      try ONNXImporter().load($0, folder: nil, ImportOptions(catalogue: .standard))
    }
    return try build(model, targets: ["x86-64-v3"]).plans
  }

  /// Time that is too short for all regions is kept to, and what there is by then is an engine.
  @Test func deadlinesAreKept() throws {
    let folder = try Folder()
    let plans = try Self.manyProducts()
    let device = SlowDevice(try Backend.cpu.makeDevice(2), delay: .milliseconds(5))
    var tuned: [Plan] = []
    var durations: [Duration] = []
    let isKept = try holdsInOneTry {
      var cache = TimingCacheFile.empty(folder.url.appendingPathComponent(UUID().uuidString).path)
      let (plans, report) = try tune(plans, for: .lasting(.seconds(2)), cache: &cache, device: device)
      #expect(
        report.regionCount == Self.productCount && (1..<Self.productCount).contains(report.judgedCount),
        "\(report.judgedCount)")
      tuned = plans
      durations.append(report.duration)
      return report.duration > .seconds(1.2) && report.duration <= .seconds(2.2)
    }
    #expect(isKept, "\(durations)")
    let x = RandomTensor.make(.f32, [64, 320], seed: 3)
    func result(_ plans: [Plan]) throws -> [Double] {
      try Engine(plans: plans, threads: 2).makeContext().run(inputs: ["h0": x])["h\(Self.productCount)"]?.tensor?
        .doubles ?? []
    }
    #expect(try result(tuned) == result(plans))
  }

  /// A 3x3 convolution, which can be summed in several blocks or computed by transforms.
  private static func convolution() throws -> Model {
    let (channels, outputs) = (32, 48)
    let proto = ONNXModel.model(
      [
        ONNXModel.node("Conv", ["x", "k"], ["c"], name: "conv", [ONNXModel.attribute("pads", [1, 1, 1, 1])]),
        ONNXModel.node("Relu", ["c"], ["y"], name: "act"),
      ],
      inputs: [ONNXModel.value("x", ONNXModel.float, [1, channels, 12, 12])],
      outputs: [ONNXModel.value("y", ONNXModel.float, [1, outputs, 12, 12])],
      constants: [
        ONNXModel.constant(
          "k", [outputs, channels, 3, 3], floats: (0..<outputs * channels * 9).map { Float($0 % 61) / 610 - 0.05 })
      ])
    return try proto.bytes.withUnsafeBytes {
      try ONNXImporter().load($0, folder: nil, ImportOptions(catalogue: .standard))
    }
  }

  /// All ways to compute a region agree, and one that keeps weights in another layout is built by. In an engine weights are brought
  /// into another order, and what is in the way then is left out; from transformed ones nothing leads back.
  @Test func layoutsAreChosenToo() throws {
    let folder = try Folder()
    let file = folder.url.appendingPathComponent("timings")
    let model = try Self.convolution()
    func built(_ choice: TacticChoice) throws -> (result: BuildResult, tuning: TuningReport?) {
      try build(model, for: .cpu, targets: ["x86-64-v3"], options: BuildOptions(), choosing: choice)
    }
    let report = try #require(try built(TacticChoice(tuning: .lasting(.seconds(30)), timingCache: file)).tuning)
    #expect(report.warnings.isEmpty, "\(report.warnings)")
    let known = try TimingCacheFile(path: file.path).cache.sorted
    for tactic in ["conv 6x16", "conv 6x8", "winograd 2x2", "winograd 4x4"] {
      #expect(known.contains { $0.tactic == tactic }, "\(known.map(\.tactic))")
    }
    #expect(report.rankings.summary?.count == 1)
    let other = folder.url.appendingPathComponent("other")
    var figures = TimingCacheFile.empty(other.path)
    try figures.add(
      known.map { entry in
        var copy = entry
        copy.seconds = entry.tactic == "winograd 2x2" ? 1e-6 : 2e-6
        return copy
      })
    let usual = try built(TacticChoice()).result.plans
    let (chosen, tuning) = try built(TacticChoice(timingCache: other))
    #expect(chosen.plans[0].steps.contains { $0.tactic == "winograd 2x2" && $0.sources == ["conv", "act"] })
    #expect(tuning?.changes.first?.after == "winograd 2x2" && tuning?.changes.first?.sources == ["conv", "act"])
    #expect(try Self.tactic(usual).hasPrefix("winograd 4x4"))
    let kept = try tune(usual, for: nil, cache: &figures)
    #expect(try Self.tactic(kept.plans) == Self.tactic(usual))
    let x = RandomTensor.make(.f32, [1, 32, 12, 12], seed: 9)
    func result(_ plans: [Plan]) throws -> [Double] {
      try Engine(plans: plans, threads: 2).makeContext().run(inputs: ["x": x])["y"]?.tensor?.doubles ?? []
    }
    for (a, b) in zip(try result(chosen.plans), try result(usual)) { #expect(abs(a - b) < 1e-4) }
    // Directly summed as the engine has it, its weights go into other panels, and through transforms.
    var direct = try built(TacticChoice(timingCache: try Self.figures(known, fastest: "conv 6x16", folder))).result
      .plans
    let first = direct
    #expect(try Self.tactic(direct) == "conv 6x16")
    for tactic in ["conv 6x8", "winograd 2x2"] {
      var cache = try TimingCacheFile(path: try Self.figures(known, fastest: tactic, folder).path)
      direct = try tune(direct, for: nil, cache: &cache).plans
      #expect(try Self.tactic(direct) == tactic)
      #expect(direct[0].constants.byteCount < 2 * chosen.plans[0].constants.byteCount)
      let file = folder.url.appendingPathComponent("relaid.apus")
      try direct.write(to: file)
      for (a, b) in zip(try result(EngineFile.read(file.path)), try result(first)) { #expect(abs(a - b) < 1e-4) }
    }
  }

  /// A product, a filter and a product, whose results are large enough to be computed by strips of rows.
  private static func residual() throws -> Model {
    func weights(_ name: String, _ shape: [Int]) -> Proto {
      ONNXModel.constant(name, shape, floats: (0..<shape.reduce(1, *)).map { Float($0 % 61) / 61 - 0.4 })
    }
    let proto = ONNXModel.model(
      [
        ONNXModel.node("Conv", ["x", "e"], ["a"], name: "widen"), ONNXModel.node("Relu", ["a"], ["b"], name: "act"),
        ONNXModel.node(
          "Conv", ["b", "d"], ["c"], name: "filter",
          [ONNXModel.attribute("pads", [1, 1, 1, 1]), ONNXModel.attribute("group", 72)]),
        ONNXModel.node("Conv", ["c", "p"], ["s"], name: "project"),
        ONNXModel.node("Relu", ["s"], ["y"], name: "last"),
      ],
      inputs: [ONNXModel.value("x", ONNXModel.float, [1, 8, 60, 64])],
      outputs: [ONNXModel.value("y", ONNXModel.float, [1, 20, 60, 64])],
      constants: [weights("e", [72, 8, 1, 1]), weights("d", [72, 1, 3, 3]), weights("p", [20, 72, 1, 1])])
    return try proto.bytes.withUnsafeBytes {
      try ONNXImporter().load($0, folder: nil, ImportOptions(catalogue: .standard))
    }
  }

  /// Convolutions that are computed by strips are computed one by one where that is faster, also by a lock and in an engine.
  @Test func stripsAreTakenApart() throws {
    let folder = try Folder()
    let file = folder.url.appendingPathComponent("timings")
    let lock = folder.url.appendingPathComponent("lock")
    let model = try Self.residual()
    func built(_ choice: TacticChoice) throws -> [Plan] {
      try build(model, for: .cpu, targets: ["x86-64-v3"], options: BuildOptions(), choosing: choice).result.plans
    }
    func ways(_ plans: [Plan]) -> Alternatives? {
      plans[0].steps.compactMap(\.alternatives).first { $0.tactics.contains("apart") }
    }
    let usual = try built(TacticChoice())
    #expect(ways(usual)?.chosen.hasPrefix("rows ") == true && ways(usual)?.stepCount == 1)
    _ = try built(TacticChoice(tuning: .lasting(.seconds(20)), timingCache: file))
    let known = try TimingCacheFile(path: file.path).cache.sorted
    let figures = try Self.figures(known, fastest: "apart", folder)
    let apart = try built(TacticChoice(timingCache: figures, lockOutput: lock))
    #expect(ways(apart)?.chosen == "apart" && ways(apart)?.stepCount == 3)
    #expect(apart[0].steps.filter { $0.tactic.hasPrefix("depthwise") }.map(\.sources) == [["filter"]])
    #expect(try EngineFile.encode(built(TacticChoice(lock: lock))) == EngineFile.encode(apart))
    var cache = try TimingCacheFile(path: figures.path)
    let spliced = try tune(usual, for: nil, cache: &cache).plans
    #expect(ways(spliced)?.chosen == "apart" && ways(spliced)?.stepCount == 3)
    let x = RandomTensor.make(.f32, [1, 8, 60, 64], seed: 9)
    func result(_ plans: [Plan]) throws -> [Double] {
      try Engine(plans: plans, threads: 2).makeContext().run(inputs: ["x": x])["y"]?.tensor?.doubles ?? []
    }
    let expected = try result(usual)
    for plans in [apart, spliced] {
      for (a, b) in zip(try result(plans), expected) { #expect(abs(a - b) < 1e-3) }
    }
  }

  private static func tactic(_ plans: [Plan]) throws -> String {
    try #require(plans[0].steps.compactMap(\.alternatives).first).chosen
  }

  /// A cache in which one tactic is the fastest of those that another knows.
  private static func figures(_ known: [TimingCache.Entry], fastest: String, _ folder: Folder) throws -> URL {
    let url = folder.url.appendingPathComponent("fastest \(fastest)")
    var cache = TimingCacheFile.empty(url.path)
    try cache.add(
      known.map { entry in
        var copy = entry
        copy.seconds = entry.tactic == fastest ? 1e-6 : 2e-6
        return copy
      })
    return url
  }
}
