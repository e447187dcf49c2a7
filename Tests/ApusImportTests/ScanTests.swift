import ApusCore
import ApusGraph
import ApusOps
import Testing

@testable import ApusImport

@Suite struct ScanTests {
  /// Up to operator set 8 every value has a batch as its first axis, and each entry is scanned by itself.
  @Test func scansOfABatchAreScansOfItsEntries() throws {
    let body = ONNX.graph(
      [ONNX.floats("sum", 2), ONNX.floats("next", 2)],
      [ONNX.node("Add", ["sum", "next"], ["total"]), ONNX.node("Identity", ["total"], ["each"])], ["total", "each"])
    let graph = try ONNX.load(
      ONNX.model(
        ONNX.graph(
          [ONNX.floats("start", "batch", 2), ONNX.floats("x", "batch", "steps", 2)],
          [
            ONNX.node(
              "Scan", ["", "start", "x"], ["y", "z"],
              [ONNX.attribute("num_scan_inputs", 1), ONNX.attribute("directions", [1]), ONNX.attribute("body", body)])
          ], ["y", "z"]), opset: 8))
    let start = HostTensor(.f32, [2, 2], doubles: [0, 0, 100, 200])
    let x = HostTensor(.f32, [2, 3, 2], doubles: (1...12).map(Double.init))
    let results = try Interpreter.run(graph, inputs: [.tensor(start), .tensor(x)])
    #expect(results[0].tensor?.doubles == [9, 12, 127, 230])
    // Backwards: the last step comes first.
    #expect(results[1].tensor?.doubles == [5, 6, 8, 10, 9, 12, 111, 212, 120, 222, 127, 230])
  }
}
