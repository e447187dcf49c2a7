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

/// `--fuse` and `--no-fuse`: what is asked for is done, or refused with why.
@Suite struct FusionWishTests {
  /// `wave` has two users; `mean` is a reduction that `shift` broadcasts; `first` and `second` are products.
  private static func model() throws -> Model {
    let width = 48
    let weights = (0..<width * width).map { Float($0 % 37) / 37 - 0.5 }
    let proto = ONNXModel.model(
      [
        ONNXModel.node("MatMul", ["x", "w"], ["p"], name: "first"), ONNXModel.node("Relu", ["p"], ["a"], name: "act"),
        ONNXModel.node("Tanh", ["a"], ["t"], name: "wave"), ONNXModel.node("Neg", ["t"], ["n"], name: "minus"),
        ONNXModel.node("MatMul", ["n", "v"], ["q"], name: "second"), ONNXModel.node("Abs", ["t"], ["b"], name: "size"),
        ONNXModel.node("MatMul", ["b", "w"], ["z"], name: "third"),
      ],
      inputs: [ONNXModel.value("x", ONNXModel.float, [64, width])],
      outputs: [
        ONNXModel.value("q", ONNXModel.float, [64, width]), ONNXModel.value("z", ONNXModel.float, [64, width]),
      ],
      constants: [
        ONNXModel.constant("w", [width, width], floats: weights),
        ONNXModel.constant("v", [width, width], floats: weights.reversed()),
      ])
    return try proto.bytes.withUnsafeBytes {
      try ONNXImporter().load($0, folder: nil, ImportOptions(catalogue: .standard))
    }
  }

  private static func built(_ choice: TacticChoice = TacticChoice()) throws -> BuildResult {
    try build(try model(), for: .cpu, targets: ["x86-64-v3"], options: BuildOptions(), choosing: choice).result
  }

  private static func outputs(_ plans: [Plan]) throws -> [[Double]] {
    let x = RandomTensor.make(.f32, [64, 48], seed: 7)
    let values = try Engine(plans: plans, threads: 2).makeContext().run(inputs: ["x": x])
    return ["q", "z"].map { values[$0]?.tensor?.doubles ?? [] }
  }

  private static func sources(_ result: BuildResult) -> [Set<String>] {
    result.plans[0].allSteps.map { Set($0.sources) }
  }

  @Test func whatIsForbiddenStaysApart() throws {
    let usual = try Self.built()
    #expect(Self.sources(usual).contains { $0.isSuperset(of: ["first", "act"]) })
    for wish in [["act"], ["first", "act"]] {
      let apart = try Self.built(TacticChoice(keepingApart: [wish]))
      #expect(!Self.sources(apart).contains { $0.isSuperset(of: ["first", "act"]) })
      #expect(wish.count > 1 || Self.sources(apart).contains(["act"]))
      #expect(try Self.outputs(apart.plans) == Self.outputs(usual.plans))
    }
  }

  @Test func whatIsForcedIsDone() throws {
    let alone = TacticChoice(keepingApart: [["act", "wave"]])
    let usual = try Self.built(alone)
    let entry = usual.log.entries.first { $0.producerNodes == ["wave"] && $0.consumerNode == "minus" }
    #expect(entry?.isTaken == false && entry?.reason == "2 nodes use it", "\(usual.log.text)")
    var wish = alone
    wish.fusing = [["wave", "minus"]]
    let forced = try Self.built(wish)
    #expect(!Self.sources(usual).contains { $0.isSuperset(of: ["wave", "minus"]) })
    #expect(Self.sources(forced).contains { $0.isSuperset(of: ["wave", "minus"]) })
    #expect(try Self.outputs(forced.plans) == Self.outputs(usual.plans))
  }

  @Test func whatCannotBeIsRefusedWithWhy() throws {
    let error = #expect(throws: BuildError.self) {
      try Self.built(TacticChoice(fusing: [["minus", "second"], ["first", "third"], ["wave", "minus"]]))
    }
    let messages = (error?.problems ?? []).map(\.description)
    #expect(messages.count == 3 && messages.allSatisfy { $0.hasPrefix("APUS-B-0066: --fuse ") }, "\(messages)")
    #expect(messages.first?.contains("'minus' into 'second': matmul reads its operands from memory") == true)
    #expect(messages.last?.contains("2 nodes use it, and what a template computes is computed once") == true)
    let unknown = #expect(throws: BuildError.self) { try Self.built(TacticChoice(keepingApart: [["frst"], ["act"]])) }
    #expect(unknown?.problems.map(\.code) == ["APUS-B-0065"] && unknown?.problems[0].hint == "Did you mean 'first'?")
  }

  /// What was asked for is in the lock, and another wish beside it is refused.
  @Test func locksHoldWishes() throws {
    let file = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString).lock")
    defer { try? FileManager.default.removeItem(at: file) }
    let apart = try Self.built(TacticChoice(lockOutput: file, fusing: [["first", "act"]], keepingApart: [["wave"]]))
    let text = try String(contentsOf: file, encoding: .utf8)
    #expect(text.contains("\nfuse \"first\" \"act\"\nno-fuse \"wave\"\n"))
    let again = try Self.built(TacticChoice(lock: file))
    #expect(try EngineFile.encode(again.plans) == EngineFile.encode(apart.plans))
    let error = #expect(throws: BuildError.self) { try Self.built(TacticChoice(lock: file, keepingApart: [["act"]])) }
    #expect(error?.problems.map(\.code) == ["APUS-B-0067"])
  }

  /// Each decision that is a matter of cost says what it should gain.
  @Test func decisionsSayWhatTheyGain() throws {
    let log = try Self.built().log
    let taken = try #require(log.entries.first { $0.isTaken && $0.consumerNode == "act" })
    #expect((taken.microseconds ?? 0) > 0)
    #expect(log.text.contains("[act]: saves storing") && log.text.contains("(predicted gain "))
    let read = try #require(log.entries.first { $0.consumerNode == "second" })
    #expect(!read.isTaken && read.microseconds == nil)
  }

  @Test func diffNamesWhatIsComputedElsewhere() throws {
    let diff = EngineDiff(try Self.built().plans, try Self.built(TacticChoice(keepingApart: [["act"]])).plans)
    let fusion = try #require(diff.entries.first { $0.topic == .fusion })
    #expect(fusion.subject.contains("act") && fusion.second?.contains("act by 'loops'") == true, "\(fusion)")
  }

  /// A sum of two products goes along with either; the trial asks for the one that it is not in.
  @Test func aSumGoesAlongWithEitherProduct() throws {
    let width = 48
    let weights = (0..<width * width).map { Float($0 % 37) / 37 - 0.5 }
    let proto = ONNXModel.model(
      [
        ONNXModel.node("MatMul", ["x", "w"], ["p"], name: "left"),
        ONNXModel.node("Relu", ["x"], ["r"], name: "act"), ONNXModel.node("MatMul", ["r", "v"], ["q"], name: "right"),
        ONNXModel.node("Add", ["p", "q"], ["y"], name: "sum"),
      ],
      inputs: [ONNXModel.value("x", ONNXModel.float, [64, width])],
      outputs: [ONNXModel.value("y", ONNXModel.float, [64, width])],
      constants: [
        ONNXModel.constant("w", [width, width], floats: weights),
        ONNXModel.constant("v", [width, width], floats: weights.reversed()),
      ])
    let model = try proto.bytes.withUnsafeBytes {
      try ONNXImporter().load($0, folder: nil, ImportOptions(catalogue: .standard))
    }
    func built(_ choice: TacticChoice) throws -> BuildResult {
      try build(model, for: .cpu, targets: ["x86-64-v3"], options: BuildOptions(), choosing: choice).result
    }
    let usual = try built(TacticChoice())
    #expect(Self.sources(usual).contains(["left", "sum"]), "\(usual.log.text)")
    let rival = try #require(DecisionTrials.candidates(usual.log).first { $0.count == 2 })
    #expect(rival.map(\.producerNodes.last) == ["left", "right"] && rival.map(\.isTaken) == [true, false])
    let other = try built(TacticChoice(fusing: [["right", "sum"]], keepingApart: [["left", "sum"]]))
    #expect(Self.sources(other).contains(["right", "sum"]) || Self.sources(other).contains(["act", "right", "sum"]))
    let x = RandomTensor.make(.f32, [64, width], seed: 7)
    let results = try [usual, other].map { result in
      try Engine(plans: result.plans, threads: 2).makeContext().run(inputs: ["x": x])["y"]?.tensor?.doubles ?? []
    }
    #expect(zip(results[0], results[1]).allSatisfy { abs($0 - $1) <= 1e-4 * max(1, abs($1)) })
  }

  /// With time left, decisions that cost alone decided are tried the other way.
  @Test func decisionsAreMeasured() throws {
    let usual = try Self.outputs(try Self.built().plans)
    var reports: [TuningReport] = []
    let isKept = try holdsInOneTry {
      let file = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString).timings")
      defer { try? FileManager.default.removeItem(at: file) }
      let choice = TacticChoice(tuning: .lasting(.seconds(8)), timingCache: file)
      let (result, tuning) = try build(
        try Self.model(), for: .cpu, targets: ["x86-64-v3"], options: BuildOptions(), choosing: choice)
      let report = try #require(tuning)
      reports.append(report)
      #expect(report.trials.allSatisfy { $0.isAdopted == ($0.secondsAfter < $0.secondsBefore) })
      let isMeasured = result.log.entries.contains { $0.measuredMicroseconds != nil }
      #expect(isMeasured == !report.trials.isEmpty && isMeasured == result.log.text.contains("(measured "))
      for (a, b) in zip(try Self.outputs(result.plans), usual) {
        #expect(zip(a, b).allSatisfy { abs($0 - $1) <= 1e-4 * max(1, abs($1)) })
      }
      return isMeasured && report.duration <= .seconds(8.8)
    }
    #expect(isKept, "\(reports)")
  }
}
