import ApusCore
import ApusGraph
import ApusOps
import SwiftProtobuf
import Testing

@testable import ApusImport

/// Dropout in training keeps elements by chance: tested by how many, since which ones cannot be foretold.
@Suite struct DropoutTests {
  private static func graph(_ ratio: Float, _ count: Int) throws -> Graph {
    try ONNX.load(
      ONNX.model(
        ONNX.graph(
          [ONNX.floats("x", count)], [ONNX.node("Dropout", ["x", "ratio", "training"], ["y", "mask"])], ["y", "mask"],
          constants: [
            ONNX.tensor("ratio", floats: [ratio], dims: []),
            .with {
              $0.name = "training"
              $0.dataType = 9
              $0.int32Data = [1]
            },
          ])))
  }

  @Test(arguments: [0.1, 0.5, 0.9] as [Float]) func keepsAsManyAsItShould(_ ratio: Float) throws {
    let count = 40_000
    let x = HostTensor(.f32, [count], doubles: (1...count).map(Double.init))
    let results = try Interpreter.run(Self.graph(ratio, count), inputs: [.tensor(x)])
    let y = try #require(results[0].tensor).doubles
    let mask = try #require(results[1].tensor)
    #expect(mask.dtype == .bool)
    let kept = 1 - Double(ratio)
    for (index, (value, isKept)) in zip(y, mask.int64s).enumerated() {
      #expect(abs(value - (isKept == 0 ? 0 : Double(index + 1) / kept)) <= 1e-6 * Double(index + 1) / kept)
    }
    let share = Double(mask.int64s.reduce(0, +)) / Double(count)
    #expect(abs(share - kept) < 5 * (kept * (1 - kept) / Double(count)).squareRoot())
  }

  @Test func noRatioKeepsAll() throws {
    let x = HostTensor(.f32, [3], doubles: [1, 2, 3])
    let results = try Interpreter.run(Self.graph(0, 3), inputs: [.tensor(x)])
    #expect(results[0].tensor?.doubles == [1, 2, 3] && results[1].tensor?.int64s == [1, 1, 1])
  }

  @Test func aRatioOfOneIsRefused() throws {
    let error = #expect(throws: ImportError.self) { try Self.graph(1, 3) }
    #expect(error?.problems.first?.message.contains("the ratio is [1.0]") == true)
  }
}
