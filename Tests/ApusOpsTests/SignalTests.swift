import ApusCore
import ApusGraph
import ApusOps
import Foundation
import Testing

@Suite struct SignalTests {
  /// The transform by its definition.
  private func definition(_ x: [Double]) -> [Double] {
    x.indices.flatMap { k -> [Double] in
      var (re, im) = (0.0, 0.0)
      for (n, value) in x.enumerated() {
        let angle = -2 * Double.pi * Double(k * n % x.count) / Double(x.count)
        re += value * cos(angle)
        im += value * sin(angle)
      }
      return [re, im]
    }
  }

  @Test(arguments: [1, 2, 3, 7, 16, 65, 100, 127, 128]) func transformsAgreeWithTheDefinition(_ length: Int) throws {
    let x = RandomTensor.make(.f64, [1, length, 1], seed: UInt64(length))
    let forward = try DFT(axis: 1, length: Dim(length)).reference([x])[0]
    #expect(isClose(forward.doubles, definition(x.doubles), 1e-9))
    let back = try DFT(axis: 1, length: Dim(length), inverse: true).reference([forward])[0]
    #expect(isClose(stride(from: 0, to: 2 * length, by: 2).map { back.doubles[$0] }, x.doubles, 1e-9))
    let half = try DFT(axis: 1, length: Dim(length), onesided: true).reference([x])[0]
    #expect(half.shape == [1, length / 2 + 1, 2])
    let real = try DFT(axis: 1, length: Dim(length), inverse: true, onesided: true).reference([half])[0]
    #expect(isClose(real.doubles, x.doubles, 1e-9))
  }

  @Test func framesAreWindowed() throws {
    let x = RandomTensor.make(.f64, [1, 12, 1], seed: 9)
    let window = RandomTensor.make(.f64, [5], seed: 10)
    let result = try STFT(step: 3, onesided: false).reference([x, window])[0]
    #expect(result.shape == [1, 3, 5, 2])
    let frame = (0..<5).map { x.doubles[6 + $0] * window.doubles[$0] }
    #expect(isClose(Array(result.doubles[20...]), definition(frame), 1e-9))
  }

  @Test func seedsRepeat() throws {
    let uniform = RandomFill(.uniform, shape: [1000], dtype: .f32, a: 2, b: 3, seed: 4)
    let first = try uniform.reference([HostTensor]())[0].doubles
    #expect(try uniform.reference([HostTensor]())[0].doubles == first)
    #expect(first.allSatisfy { $0 >= 2 && $0 <= 3 } && Set(first).count > 900)
    let normal = try RandomFill(.normal, shape: [4000], dtype: .f64, a: 5, b: 2, seed: 4).reference([HostTensor]())[0]
    let mean = normal.doubles.reduce(0, +) / 4000
    let variance = normal.doubles.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 4000
    #expect((mean - 5).magnitude < 0.15 && (variance - 4).magnitude < 0.4)
    let other = RandomFill(.uniform, shape: [1000], dtype: .f32, a: 2, b: 3, seed: 5)
    #expect(try other.reference([HostTensor]())[0].doubles != first)
  }

  @Test func drawsFollowTheirProbabilities() throws {
    let coins = try Bernoulli(dtype: .i64, seed: 1).reference([floats([2000], [Double](repeating: 0.25, count: 2000))])[
      0]
    let share = Double(coins.int64s.reduce(0, +)) / 2000
    #expect((share - 0.25).magnitude < 0.05)
    let logits = floats([1, 3], [log(0.7), log(0.3), -1e30])
    let classes = try Multinomial(count: 2000, dtype: .i64, seed: 1).reference([logits])[0].int64s
    #expect((Double(classes.filter { $0 == 0 }.count) / 2000 - 0.7).magnitude < 0.05 && !classes.contains(2))
  }
}
