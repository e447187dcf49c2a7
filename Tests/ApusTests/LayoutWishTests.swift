import Apus
import ApusCompiler
import ApusCore
import ApusGraph
import ApusImport
import ApusOps
import ApusPlan
import ApusRuntime
import Foundation
import TestSupport
import Testing

/// Layouts of convolutions and pools: what is asked for is done, or refused with why, and trials try the other way.
@Suite struct LayoutWishTests {
  private static func conv(_ name: String, _ from: String, _ to: String, _ kernel: Int, groups: Int = 1) -> Proto {
    ONNXModel.node(
      "Conv", [from, "w_" + name], [to], name: name,
      [ONNXModel.attribute("pads", Array(repeating: kernel / 2, count: 4)), ONNXModel.attribute("group", groups)])
  }

  private static func weights(_ name: String, _ dims: [Int]) -> Proto {
    ONNXModel.constant("w_" + name, dims, floats: (0..<dims.reduce(1, *)).map { Float($0 % 37) / 37 - 0.5 })
  }

  /// `stem`, `pool`, `point` and `depth` follow on one another; `free` has weights that are no constant; nothing else is around `lone`.
  private static func model() throws -> Model {
    let proto = ONNXModel.model(
      [
        conv("stem", "x", "a", 3), ONNXModel.node("Relu", ["a"], ["b"], name: "act"),
        ONNXModel.node(
          "MaxPool", ["b"], ["c"], name: "pool",
          [ONNXModel.attribute("kernel_shape", [2, 2]), ONNXModel.attribute("strides", [2, 2])]),
        conv("point", "c", "d", 1), ONNXModel.node("Tanh", ["d"], ["e"], name: "wave"),
        conv("depth", "e", "y", 3, groups: 16),
        ONNXModel.node("Conv", ["x", "w_free"], ["z"], name: "free"), conv("lone", "x", "v", 3, groups: 3),
      ],
      inputs: [
        ONNXModel.value("x", ONNXModel.float, [1, 3, 24, 20]),
        ONNXModel.value("w_free", ONNXModel.float, [2, 3, 1, 1]),
      ],
      outputs: [
        ONNXModel.value("y", ONNXModel.float, [1, 16, 12, 10]), ONNXModel.value("z", ONNXModel.float, [1, 2, 24, 20]),
        ONNXModel.value("v", ONNXModel.float, [1, 3, 24, 20]),
      ],
      constants: [
        weights("stem", [8, 3, 3, 3]), weights("point", [16, 8, 1, 1]), weights("depth", [16, 1, 3, 3]),
        weights("lone", [3, 1, 3, 3]),
      ])
    return try proto.bytes.withUnsafeBytes {
      try ONNXImporter().load($0, folder: nil, ImportOptions(catalogue: .standard))
    }
  }

  private static func built(_ choice: TacticChoice = TacticChoice()) throws -> BuildResult {
    try build(try model(), for: .cpu, targets: ["x86-64-v3"], options: BuildOptions(), choosing: choice).result
  }

  private static func outputs(_ plans: [Plan]) throws -> [Double] {
    let inputs = [
      "x": RandomTensor.make(.f32, [1, 3, 24, 20], seed: 7), "w_free": RandomTensor.make(.f32, [2, 3, 1, 1], seed: 8),
    ]
    let values = try Engine(plans: plans, threads: 2).makeContext().run(inputs: inputs)
    return ["y", "z", "v"].flatMap { values[$0]?.tensor?.doubles ?? [] }
  }

  private static func expectClose(_ a: [Double], _ b: [Double], _ comment: String) {
    #expect(a.count == b.count && zip(a, b).allSatisfy { abs($0 - $1) <= 1e-4 * max(1, abs($1)) }, "\(comment)")
  }

  private static func decisions(_ result: BuildResult) -> [String: FusionLog.Entry] {
    Dictionary(
      result.log.entries.filter { $0.subject == .layout }.map { ($0.consumerNode, $0) }, uniquingKeysWith: { $1 })
  }

  @Test func eachDecisionIsWrittenDown() throws {
    let result = try Self.built()
    let decisions = Self.decisions(result)
    #expect(Set(decisions.keys) == ["stem", "pool", "point", "depth", "free", "lone"], "\(result.log.text)")
    #expect(decisions.values.filter { !$0.isTaken }.map(\.consumerNode) == ["free"])
    #expect(decisions["free"]?.reason == "its weights are no constant" && decisions["free"]?.microseconds == nil)
    #expect(decisions["pool"]?.reason == "as the convolutions around it")
    #expect(["stem", "point", "depth", "lone"].allSatisfy { decisions[$0]?.microseconds != nil })
    #expect(decisions.values.filter(\.isOpen).filter(\.isTaken).map(\.consumerNode).sorted() == ["lone", "pool"])
    #expect(result.log.text.contains("taken   conv -> channels last [point]: templates compute it so (predicted "))
  }

  /// Every choice of layouts computes the same, and pools follow.
  @Test func whatIsAskedForIsDone() throws {
    let usual = try Self.outputs(try Self.built().plans)
    for wish in [["stem"], ["point"], ["depth"], ["pool"], ["stem", "point"], ["stem", "point", "depth"]] {
      let result = try Self.built(TacticChoice(channelsFirst: wish))
      Self.expectClose(try Self.outputs(result.plans), usual, "\(wish)")
      let decisions = Self.decisions(result)
      let first = Set(wish).union(Set(wish).isSuperset(of: ["stem", "point"]) ? ["pool"] : []).union(["free"])
      #expect(Set(decisions.values.filter { !$0.isTaken }.map(\.consumerNode)) == first, "\(wish): \(result.log.text)")
      #expect(result.plans[0].allSteps.contains { $0.tactic.hasPrefix("gemm") } == wish.contains("point"), "\(wish)")
    }
    let all = try Self.built(TacticChoice(channelsFirst: ["stem", "point", "depth", "lone"]))
    #expect(!all.plans[0].allSteps.contains { $0.name.contains("transpose") })
    let pool = try Self.built(TacticChoice(channelsFirst: ["stem", "point", "depth"], channelsLast: ["pool"]))
    #expect(Self.decisions(pool)["pool"]?.isTaken == true)
    Self.expectClose(try Self.outputs(pool.plans), usual, "pool alone last")
  }

  @Test func whatCannotBeIsRefusedWithWhy() throws {
    let error = #expect(throws: BuildError.self) {
      try Self.built(TacticChoice(channelsFirst: ["wave"], channelsLast: ["free"]))
    }
    let messages = (error?.problems ?? []).map(\.description)
    #expect(messages.count == 2, "\(messages)")
    #expect(messages.contains { $0.hasPrefix("APUS-B-0066: --layout wave=nchw: 'wave' is no convolution or pooling") })
    #expect(
      messages.contains {
        $0.hasPrefix(
          "APUS-B-0066: --layout free=nhwc: 'free' cannot be computed in nhwc: its weights are no constant")
      })
    let unknown = #expect(throws: BuildError.self) { try Self.built(TacticChoice(channelsFirst: ["stam"])) }
    #expect(unknown?.problems.map(\.code) == ["APUS-B-0065"] && unknown?.problems[0].hint == "Did you mean 'stem'?")
  }

  @Test func locksHoldLayouts() throws {
    let file = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString).lock")
    defer { try? FileManager.default.removeItem(at: file) }
    let first = try Self.built(TacticChoice(lockOutput: file, channelsFirst: ["point", "depth"]))
    let text = try String(contentsOf: file, encoding: .utf8)
    #expect(text.contains("\nlayout nchw \"point\" \"depth\"\n"))
    let again = try Self.built(TacticChoice(lock: file))
    #expect(try EngineFile.encode(again.plans) == EngineFile.encode(first.plans))
    let error = #expect(throws: BuildError.self) { try Self.built(TacticChoice(lock: file, channelsFirst: ["stem"])) }
    #expect(error?.problems.map(\.code) == ["APUS-B-0067"])
    for line in ["layout nchw", "layout chwn \"stem\"", "layout \"stem\""] {
      let broken = "apus-lock 1\n\(line)\n"
      let error = #expect(throws: BuildError.self) { try TacticLock(text: broken, path: "x") }
      #expect(error?.problems.map(\.code) == ["APUS-B-0062"], "\(line)")
    }
  }

  @Test func diffNamesWhatIsComputedInAnotherLayout() throws {
    let diff = EngineDiff(try Self.built().plans, try Self.built(TacticChoice(channelsFirst: ["point"])).plans)
    let tactic = try #require(diff.entries.first { $0.subject.contains("point") })
    #expect(tactic.first?.contains("conv") == true && tactic.second?.contains("gemm") == true, "\(tactic)")
  }

  /// With time left, layouts that may gain are tried the other way, and what is adopted is what its lock gives.
  @Test func layoutsAreMeasured() throws {
    let usual = try Self.outputs(try Self.built().plans)
    var reports: [TuningReport] = []
    let isTried = try holdsInOneTry {
      let folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString)")
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(at: folder) }
      let lock = folder.appendingPathComponent("m.lock")
      let (result, tuning) = try build(
        try Self.model(), for: .cpu, targets: ["x86-64-v3"], options: BuildOptions(),
        choosing: TacticChoice(
          tuning: .lasting(.seconds(12)), timingCache: folder.appendingPathComponent("t"), lockOutput: lock))
      let report = try #require(tuning)
      reports.append(report)
      #expect(report.trials.allSatisfy { $0.isAdopted == ($0.secondsAfter < $0.secondsBefore) })
      Self.expectClose(try Self.outputs(result.plans), usual, "tuned")
      let again = try Self.built(TacticChoice(lock: lock))
      #expect(try EngineFile.encode(again.plans) == EngineFile.encode(result.plans))
      let tried = report.trials.filter { $0.decisions[0].subject == .layout }
      return tried.contains { $0.decisions[0].consumerNode == "lone" }
        && Self.decisions(result)["lone"]?.measuredMicroseconds != nil
    }
    #expect(isTried, "\(reports)")
  }

  private static func decision(
    _ producer: String, _ consumer: String, _ isTaken: Bool, _ microseconds: Double?,
    _ change: (inout FusionLog.Entry) -> Void = { _ in }
  ) -> FusionLog.Entry {
    var entry = FusionLog.Entry(producer: "a", consumer: "b", isTaken: isTaken, reason: "")
    entry.producerNodes = [producer]
    entry.consumerNode = consumer
    entry.microseconds = microseconds
    change(&entry)
    return entry
  }

  /// Doubtful decisions come first, hopeless ones not at all; those that only make sense together come together.
  @Test func trialsAreInOrder() {
    var log = FusionLog()
    log.record(Self.decision("a", "b", true, 9))
    log.record(Self.decision("c", "b", false, nil) { $0.isRival = true })
    log.record(Self.decision("a", "d", true, 2))
    log.record(Self.decision("e", "f", false, -3))
    for (name, gain, isOpen) in [("g", 40.0, true), ("h", -1, true), ("i", 900, false)] {
      log.record(
        Self.decision(name, name, true, gain) {
          $0.subject = .layout
          $0.isOpen = isOpen
        })
    }
    let order = DecisionTrials.candidates(log).map { trial in
      trial.map { "\($0.producerNodes[0])\($0.consumerNode)" }
    }
    #expect(order == [["ef"], ["hh"], ["gg"], ["ab", "ad"], ["ab", "cb"], ["ad"], ["ab"]])
  }
}
