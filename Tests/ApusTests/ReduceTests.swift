import ApusCore
import ApusImport
import ApusTesting
import Foundation
import TestSupport
import Testing

/// `apus reduce` cuts models that fail.
@Suite struct ReduceTests {
  private static func file(_ model: Proto) throws -> String {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("reduce-\(UUID().uuidString).onnx").path
    try Data(model.bytes).write(to: URL(fileURLWithPath: path))
    return path
  }

  /// A chain of activations with a branch, some nodes of which have other types.
  private static func chain(_ types: [String]) -> Proto {
    var nodes: [Proto] = []
    for (index, type) in types.enumerated() {
      nodes.append(ONNXModel.node(type, ["v\(index)"], ["v\(index + 1)"], name: "n\(index)"))
      nodes.append(ONNXModel.node("Add", ["v\(index)", "w"], ["side\(index)"], name: "s\(index)"))
    }
    let outputs = ["v\(types.count)"] + types.indices.map { "side\($0)" }
    return ONNXModel.model(
      nodes, inputs: [ONNXModel.value("v0", ONNXModel.float, [2, 3])],
      outputs: outputs.map { ONNXModel.value($0, ONNXModel.float, [2, 3]) },
      constants: [ONNXModel.constant("w", [3], floats: [1, 2, 3])])
  }

  @Test func errorsAreCutToTheNodeThatCausesThem() throws {
    let model = try Self.file(Self.chain(["Relu", "Tanh", "Sigmoid", "Wobble", "Neg", "Exp"]))
    let small = model + ".small.onnx"
    let result = try Binary.run(["reduce", model, "-o", small])
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.output.contains("12 nodes") && result.output.contains("1 node, after"))
    #expect(result.output.contains("Wobble 'n3'") && result.output.contains("APUS-I-0010"))
    let build = try Binary.run(["build", small])
    #expect(build.status == 2 && build.errors.contains("operator Wobble is not supported"))
  }

  @Test func commandsDecideToo() throws {
    let model = try Self.file(Self.chain(["Relu", "Tanh", "Sigmoid", "Neg", "Exp"]))
    let result = try Binary.run([
      "reduce", model, "--quiet", "--test", "grep -q Tanh \"$MODEL\" && grep -q Sigmoid \"$MODEL\"",
    ])
    #expect(result.status == 0 && result.output.contains("2 nodes"), "\(result.output)\(result.errors)")
    #expect(result.output.contains("Tanh 'n1'") && result.output.contains("Sigmoid 'n2'"))
  }

  /// A loop of three rounds over a body of these activations.
  private static func loop(_ types: [String]) -> Proto {
    let scalar: [any CustomStringConvertible] = []
    var nodes = types.enumerated().map { index, type in
      ONNXModel.node(type, ["v\(index)"], ["v\(index + 1)"], name: "n\(index)")
    }
    nodes.append(ONNXModel.node("Identity", ["going"], ["still"], name: "still"))
    nodes.append(ONNXModel.node("Add", ["v\(types.count)", "w"], ["row"], name: "row"))
    let body = ONNXModel.graph(
      nodes,
      inputs: [
        ONNXModel.value("round", ONNXModel.int64, scalar), ONNXModel.value("going", ONNXModel.bool, scalar),
        ONNXModel.value("v0", ONNXModel.float, [2, 3]),
      ],
      outputs: [
        ONNXModel.value("still", ONNXModel.bool, scalar), ONNXModel.value("v\(types.count)", ONNXModel.float, [2, 3]),
        ONNXModel.value("row", ONNXModel.float, [2, 3]),
      ])
    return ONNXModel.model(
      [
        ONNXModel.node("Exp", ["x"], ["start"], name: "before"),
        ONNXModel.node(
          "Loop", ["trips", "", "start"], ["end", "rows"], name: "loop", [ONNXModel.attribute("body", graph: body)]),
        ONNXModel.node("Neg", ["rows"], ["y"], name: "after"),
      ], inputs: [ONNXModel.value("x", ONNXModel.float, [2, 3])],
      outputs: [ONNXModel.value("end", ONNXModel.float, [2, 3]), ONNXModel.value("y", ONNXModel.float, [3, 2, 3])],
      constants: [ONNXModel.constant("w", [3], floats: [1, 2, 3]), ONNXModel.constant("trips", [], ints: [3])])
  }

  @Test func bodiesAreCutToo() throws {
    let broken = try Binary.run(["reduce", try Self.file(Self.loop(["Relu", "Wobble", "Tanh"])), "--quiet"])
    #expect(broken.status == 0 && broken.output.contains("1 node, after"), "\(broken.output)\(broken.errors)")
    #expect(broken.output.contains("Wobble 'n1'"))
    // What shows in the loop alone stays in one.
    let model = try Self.file(Self.loop(["Relu", "Sigmoid", "Tanh", "Abs", "Sqrt"]))
    let small = model + ".small.onnx"
    let kept = try Binary.run([
      "reduce", model, "--quiet", "-o", small, "--test", "grep -q Loop \"$MODEL\" && grep -q Tanh \"$MODEL\"",
    ])
    #expect(kept.status == 0 && kept.output.contains("2 nodes, after"), "\(kept.output)\(kept.errors)")
    #expect(kept.output.contains("Loop 'loop'") && kept.output.contains("  Tanh 'n2'"))
    #expect(try Binary.run(["build", small, "-o", small + ".apus"]).status == 0)
  }

  @Test func branchesAreOpened() throws {
    let branch = ONNXModel.graph(
      [ONNXModel.node("Neg", ["x"], ["p0"], name: "p0"), ONNXModel.node("Wobble", ["p0"], ["p"], name: "p")],
      inputs: [],
      outputs: [ONNXModel.value("p", ONNXModel.float, [2, 3])])
    let other = ONNXModel.graph(
      [ONNXModel.node("Abs", ["x"], ["q"], name: "q")], inputs: [],
      outputs: [ONNXModel.value("q", ONNXModel.float, [2, 3])])
    let model = ONNXModel.model(
      [
        ONNXModel.node(
          "If", ["is"], ["y"], name: "if",
          [ONNXModel.attribute("then_branch", graph: branch), ONNXModel.attribute("else_branch", graph: other)])
      ], inputs: [ONNXModel.value("x", ONNXModel.float, [2, 3]), ONNXModel.value("is", ONNXModel.bool, [])],
      outputs: [ONNXModel.value("y", ONNXModel.float, [2, 3])])
    let result = try Binary.run(["reduce", try Self.file(model), "--quiet"])
    #expect(result.status == 0 && result.output.contains("1 node, after"), "\(result.output)\(result.errors)")
    #expect(result.output.contains("Wobble 'p'"))
  }

  @Test func modelsThatDoNotFailAreNotCut() throws {
    let result = try Binary.run(["reduce", try Self.file(Self.chain(["Relu", "Neg"]))])
    #expect(result.status == 2 && result.errors.contains("APUS-C-0038") && result.errors.contains("--tolerance"))
  }

  @Test func mistakesAreReportedTogether() throws {
    let model = try Self.file(Self.chain(["Relu"]))
    let result = try Binary.run([
      "reduce", model, "--timeout", "0", "--shape", "y=1x2", "--backend", "gpu", "--tolerance=-1",
    ])
    #expect(result.status == 2)
    for expected in ["--timeout", "no input 'y'", "there is no backend 'gpu'", "--tolerance"] {
      #expect(result.errors.contains(expected), "\(result.errors)")
    }
  }

  /// What is wrong stays wrong in the same way, and what a node that is gone gave is an input of its type.
  @Test func cutsKeepTheFailureAndTheTypes() throws {
    let whole = try ModelCut(path: Self.file(Self.chain(["Relu", "Tanh", "Sigmoid", "Neg"])))
    let failure = ModelFailure(kind: .wrong, signature: "value")
    var tried = 0
    let small = try ModelReducer.reduced(
      whole, failing: failure,
      check: { cut throws(ConformanceError) in
        tried += 1
        let isWrong = cut.nodeTexts.contains("Sigmoid 'n2'")
        return isWrong ? (failure, "") : (ModelFailure(kind: .crash, signature: "Illegal instruction"), "")
      },
      types: { cut throws(ConformanceError) in
        Dictionary(uniqueKeysWithValues: cut.outputNames.map { ($0, TensorType(.f32, [2, 3])) })
      }, progress: { _ in })
    #expect(small.nodeTexts == ["Sigmoid 'n2'"] && small.inputNames == ["v2"] && small.initializerNames.isEmpty)
    #expect(tried < 40)
  }

  @Test func processesThatCrashAreStartedAgain() throws {
    let script =
      "while read line; do case $line in crash) echo why >&2; kill -SEGV $$;; sleep) sleep 9;; *) echo $line; echo;; esac; done"
    let worker = ModelWorker(executable: "/bin/sh", arguments: ["-c", script], timeout: .seconds(1))
    #expect(try worker.ask("one") == .lines(["one"]))
    guard case .ended(let how, let errors) = try worker.ask("crash") else {
      Issue.record("no crash")
      return
    }
    #expect(how == "Segmentation fault" && errors.contains("why"))
    #expect(try worker.ask("two") == .lines(["two"]))
    guard case .ended(let late, _) = try worker.ask("sleep") else {
      Issue.record("no end")
      return
    }
    #expect(late.hasPrefix("took longer"))
    #expect(try worker.ask("three") == .lines(["three"]))
  }
}
