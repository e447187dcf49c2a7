import ApusCore
import ApusGraph
import SwiftProtobuf
import Testing

@testable import ApusImport

struct ONNXImporterTests {
  // MARK: Shape arithmetic

  @Test func followsSizesThroughShapeArithmetic() throws {
    let graph = try ONNX.load(
      ONNX.model(
        ONNX.graph(
          [ONNX.floats("x", "batch", "seq", 12)],
          [
            ONNX.node("Shape", ["x"], ["shape"]),
            ONNX.node("Gather", ["shape", "one"], ["seq"]),
            ONNX.node("Mul", ["seq", "four"], ["scaled"]),
            ONNX.node("Concat", ["minus", "scaled", "three"], ["target"], [ONNX.attribute("axis", 0)]),
            ONNX.node("Reshape", ["x", "target"], ["y"]),
          ], ["y"],
          constants: [
            ONNX.tensor("one", [1]), ONNX.tensor("four", [4]), ONNX.tensor("minus", [-1]), ONNX.tensor("three", [3]),
          ])))
    let sequence = Dim(Symbol("seq"))
    #expect(graph.tensorType(graph.outputs[0]).shape == [Dim(Symbol("batch")), 4 * sequence, 3])
    #expect(graph.opNames == ["reshape"])
  }

  @Test func followsSizesThroughFloats() throws {
    let graph = try ONNX.load(
      ONNX.model(
        ONNX.graph(
          [ONNX.floats("x", 1, 2, "h", "w")],
          [
            ONNX.node("Shape", ["x"], ["shape"]),
            ONNX.node("Slice", ["shape", "two", "four"], ["space"]),
            ONNX.node("Cast", ["space"], ["floats"], [ONNX.attribute("to", 1)]),
            ONNX.node("Mul", ["floats", "factor"], ["larger"]),
            ONNX.node("Floor", ["larger"], ["whole"]),
            ONNX.node("Cast", ["whole"], ["sizes"], [ONNX.attribute("to", 7)]),
            ONNX.node("Concat", ["head", "sizes"], ["all"], [ONNX.attribute("axis", 0)]),
            ONNX.node("Resize", ["x", "", "", "all"], ["y"]),
          ], ["y"],
          constants: [
            ONNX.tensor("two", [2]), ONNX.tensor("four", [4]), ONNX.tensor("head", [1, 2]),
            ONNX.tensor("factor", floats: [1.5]),
          ])))
    let (height, width) = (Dim(Symbol("h")), Dim(Symbol("w")))
    let expected: Shape = [1, 2, (3 * height).floorDivided(by: 2), (3 * width).floorDivided(by: 2)]
    #expect(graph.tensorType(graph.outputs[0]).shape == expected)
  }

  @Test func dimensionNamesBecomeSymbols() throws {
    let graph = try ONNX.load(
      ONNX.model(
        ONNX.graph(
          [ONNX.floats("x", "a", -1, nil, "floor(h/2) + 1", "?"), ONNX.floats("y", "a")],
          [ONNX.node("Relu", ["x"], ["z"]), ONNX.node("Relu", ["y"], ["u"])], ["z", "u"])))
    let names = graph.tensorType(graph.inputs[0]).shape.map(\.description)
    #expect(names == ["a", "x_1", "x_2", "x_3", "x_4"])
    #expect(graph.tensorType(graph.inputs[1]).shape.map(\.description) == ["a"])
    #expect(graph.outputNames == ["z", "u"])
  }

  @Test func givenShapesBindDimensionNames() throws {
    let model = ONNX.model(
      ONNX.graph(
        [ONNX.floats("x", "n", 3), ONNX.floats("y", "n", 3)], [ONNX.node("Add", ["x", "y"], ["z"])], ["z"]))
    let graph = try ONNX.load(model, shapes: ["x": [5, 3]])
    #expect(graph.tensorType(graph.inputs[1]).shape == [5, 3])
    #expect(throws: ImportError.self) { try ONNX.load(model, shapes: ["x": [5, 4]]) }
    #expect(throws: ImportError.self) { try ONNX.load(model, shapes: ["x": [5]]) }
    #expect(throws: ImportError.self) { try ONNX.load(model, shapes: ["q": [5]]) }
  }

  @Test func fixedInputsBecomeConstants() throws {
    let model = ONNX.model(
      ONNX.graph(
        [ONNX.floats("x", 2, 3), ONNX.longs("axes", 1)], [ONNX.node("ReduceSum", ["x", "axes"], ["y"])], ["y"]))
    #expect(ONNX.codes(model) == ["APUS-I-0015"])
    let graph = try ONNX.load(model, constants: ["axes": HostTensor(.i64, [1], int64s: [1])])
    #expect(graph.inputs.count == 1)
    #expect(graph.tensorType(graph.outputs[0]).shape == [2, 1])
  }

  // MARK: Operator sets

  @Test func axesAreReadAsAttributeOrInput() throws {
    let old = ONNX.model(
      ONNX.graph(
        [ONNX.floats("x", 2, 3)], [ONNX.node("Unsqueeze", ["x"], ["y"], [ONNX.attribute("axes", [0, 3])])], ["y"]),
      opset: 11)
    let new = ONNX.model(
      ONNX.graph(
        [ONNX.floats("x", 2, 3)], [ONNX.node("Unsqueeze", ["x", "axes"], ["y"])], ["y"],
        constants: [ONNX.tensor("axes", [0, 3])]))
    for model in [old, new] {
      let graph = try ONNX.load(model)
      #expect(graph.tensorType(graph.outputs[0]).shape == [1, 2, 3, 1])
    }
  }

  @Test func softmaxBefore13FlattensFromItsAxis() throws {
    let nodes = [ONNX.node("Softmax", ["x"], ["y"], [ONNX.attribute("axis", 1)])]
    let old = try ONNX.load(ONNX.model(ONNX.graph([ONNX.floats("x", 2, 3, 4)], nodes, ["y"]), opset: 11))
    #expect(old.opNames == ["reshape", "softmax", "reshape"])
    let new = try ONNX.load(ONNX.model(ONNX.graph([ONNX.floats("x", 2, 3, 4)], nodes, ["y"]), opset: 13))
    #expect(new.opNames == ["softmax"])
  }

  @Test func clipTakesBoundsAsAttributesOrInputs() throws {
    let old = try ONNX.load(
      ONNX.model(
        ONNX.graph(
          [ONNX.floats("x", 4)],
          [
            ONNX.node(
              "Clip", ["x"], ["y"], [ONNX.attribute("min", floats: -1), ONNX.attribute("max", floats: 2)])
          ], ["y"]), opset: 9))
    let new = try ONNX.load(
      ONNX.model(
        ONNX.graph(
          [ONNX.floats("x", 4)], [ONNX.node("Clip", ["x", "low", "high"], ["y"])], ["y"],
          constants: [ONNX.tensor("low", floats: [-1], dims: []), ONNX.tensor("high", floats: [2], dims: [])])))
    let x = HostTensor(.f32, [4], elements: [Float](arrayLiteral: -3, 0.5, 1.75, 9))
    for graph in [old, new] {
      let y = try Interpreter.run(graph, inputs: [.tensor(x)])
      #expect(y[0].tensor?.doubles == [-1, 0.5, 1.75, 2])
    }
  }

  // MARK: Control flow and functions

  private func branching(_ condition: [Onnx_NodeProto], inputs: [Onnx_ValueInfoProto]) -> Onnx_ModelProto {
    let then = ONNX.graph([], [ONNX.node("Relu", ["x"], ["r"])], ["r"])
    let other = ONNX.graph([], [ONNX.node("Neg", ["x"], ["s"])], ["s"])
    let branch = ONNX.node(
      "If", ["c"], ["y"], [ONNX.attribute("then_branch", then), ONNX.attribute("else_branch", other)])
    return ONNX.model(ONNX.graph(inputs, condition + [branch], ["y"], constants: [ONNX.tensor("three", [3])]))
  }

  @Test func branchOfAKnownConditionIsInlined() throws {
    let condition = [
      ONNX.node("Shape", ["x"], ["shape"]), ONNX.node("Gather", ["shape", "three0"], ["size"]),
      ONNX.node("Equal", ["size", "three"], ["c"]),
    ]
    var model = branching(condition, inputs: [ONNX.floats("x", "n", 3)])
    model.graph.initializer.append(ONNX.tensor("three0", [1]))
    #expect(try ONNX.load(model).opNames == ["relu"])
  }

  @Test func branchOfAnUnknownConditionKeepsBodies() throws {
    let graph = try ONNX.load(branching([], inputs: [ONNX.floats("x", "n"), ONNX.bools("c")]))
    #expect(graph.opNames == ["if"])
    let x = HostTensor(.f32, [3], elements: [Float](arrayLiteral: -1, 2, -3))
    for (flag, expected) in [(1, [0.0, 2, 0]), (0, [1, -2, 3])] {
      let c = HostTensor(.bool, [], int64s: [Int64(flag)])
      #expect(try Interpreter.run(graph, inputs: [.tensor(x), .tensor(c)])[0].tensor?.doubles == expected)
    }
  }

  private func scaling(_ name: String, _ nodes: [Onnx_NodeProto]) -> Onnx_FunctionProto {
    .with {
      $0.name = name
      $0.domain = "local"
      $0.input = ["a"]
      $0.output = ["b"]
      $0.attribute = ["slope"]
      $0.node = nodes
      $0.opsetImport = [.with { $0.version = 17 }]
    }
  }

  @Test func functionsAreInlinedWithTheirAttributes() throws {
    var reference = ONNX.attribute("alpha", floats: 0)
    reference.refAttrName = "slope"
    let inner = scaling("Leaky", [ONNX.node("LeakyRelu", ["a"], ["b"], [reference])])
    var passed = ONNX.attribute("slope", floats: 0)
    passed.refAttrName = "slope"
    let outer = scaling(
      "Twice",
      [
        ONNX.node("Leaky", ["a"], ["t"], [passed], domain: "local"),
        ONNX.node("Leaky", ["t"], ["b"], [passed], domain: "local"),
      ])
    let call = ONNX.node("Twice", ["x"], ["y"], [ONNX.attribute("slope", floats: 0.5)], domain: "local")
    let graph = try ONNX.load(
      ONNX.model(ONNX.graph([ONNX.floats("x", 2)], [call], ["y"]), functions: [inner, outer]))
    let x = HostTensor(.f32, [2], elements: [Float](arrayLiteral: -8, 4))
    #expect(try Interpreter.run(graph, inputs: [.tensor(x)])[0].tensor?.doubles == [-2, 4])
  }

  @Test func recursiveFunctionsAreRefused() {
    let function = scaling("Again", [ONNX.node("Again", ["a"], ["b"], domain: "local")])
    let call = ONNX.node("Again", ["x"], ["y"], domain: "local")
    let model = ONNX.model(ONNX.graph([ONNX.floats("x", 2)], [call], ["y"]), functions: [function])
    #expect(ONNX.codes(model) == ["APUS-I-0033"])
  }
}
