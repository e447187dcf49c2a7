import ApusCore
import ApusGraph
import ApusOps
import Foundation
import Testing

@Suite struct RecurrentTests {
  private func sigmoid(_ x: Double) -> Double { 1 / (1 + exp(-x)) }

  @Test func anLSTMCellOfOneUnit() throws {
    let operands = [
      floats([1, 1, 1], [0.5]), floats([1, 4, 1], [0.1, 0.2, 0.3, 0.4]), floats([1, 4, 1], [0.5, 0.6, 0.7, 0.8]),
      floats([1, 8], [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08]), floats([1, 1, 1], [0.3]),
      floats([1, 1, 1], [-0.2]), floats([1, 3], [0.1, 0.2, 0.3]),
    ]
    let results = try RecurrentLayer(.lstm, hiddenSize: 1).reference(operands)
    let i = sigmoid(0.05 + 0.15 + 0.06 - 0.02)
    let f = sigmoid(0.15 + 0.21 + 0.10 - 0.06)
    let c = f * -0.2 + i * tanh(0.2 + 0.24 + 0.12)
    let h = sigmoid(0.1 + 0.18 + 0.08 + 0.2 * c) * tanh(c)
    #expect(isClose(results[0].doubles, [h]) && isClose(results[1].doubles, [h]) && isClose(results[2].doubles, [c]))
  }

  @Test func aGRUCellOfOneUnitResetsBeforeOrAfter() throws {
    let operands = [
      floats([1, 1, 1], [0.5]), floats([1, 3, 1], [0.1, 0.2, 0.3]), floats([1, 3, 1], [0.4, 0.5, 0.6]),
      floats([1, 6], [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]), floats([1, 1, 1], [0.7]),
    ]
    let z = sigmoid(0.05 + 0.28 + 0.05)
    let r = sigmoid(0.1 + 0.35 + 0.07)
    var layer = RecurrentLayer(.gru, hiddenSize: 1)
    let before = (1 - z) * tanh(0.15 + 0.03 + r * 0.42 + 0.06) + z * 0.7
    #expect(isClose(try layer.reference(operands)[0].doubles, [before]))
    layer.linearBeforeReset = true
    let after = (1 - z) * tanh(0.15 + 0.03 + r * (0.42 + 0.06)) + z * 0.7
    #expect(isClose(try layer.reference(operands)[0].doubles, [after]))
  }

  @Test func lengthsEndSequences() throws {
    // h = x + h without weights to learn: sums from both ends.
    var layer = RecurrentLayer(.rnn, hiddenSize: 1, direction: .bidirectional)
    layer.activations = [GateActivation(.affine, alpha: 1, beta: 0), GateActivation(.affine, alpha: 1, beta: 0)]
    layer.hasSequenceLengths = true
    let ones = floats([2, 1, 1], [1, 1])
    let results = try layer.reference([
      floats([3, 2, 1], [1, 10, 2, 20, 3, 30]), ones, ones, floats([2, 2], [0, 0, 0, 0]),
      floats([2, 2, 1], [0, 0, 0, 0]), integers([2], [3, 2]),
    ])
    // y is [step][direction][row].
    #expect(results[0].doubles == [1, 10, 6, 30, 3, 30, 5, 20, 6, 0, 3, 0])
    #expect(results[1].doubles == [6, 30, 6, 30])
  }

  @Test func clipBoundsTheSums() throws {
    var layer = RecurrentLayer(.rnn, hiddenSize: 1)
    layer.activations = [GateActivation(.affine, alpha: 1, beta: 0)]
    layer.clip = 2
    let one = floats([1, 1, 1], [1])
    let results = try layer.reference([
      floats([1, 1, 1], [50]), one, one, floats([1, 2], [0, 0]), floats([1, 1, 1], [0]),
    ])
    #expect(results[0].doubles == [2])
  }
}
