import ApusCore
import ApusGraph
import ApusOps
import Foundation
import Testing

/// Random operations draw from the distributions that they name: tested with seeds by which the bounds hold, since no
/// expected values can be given.
@Suite struct RandomTests {
  private static let count = 40_000
  private static let seeds: [Int?] = [0, 1, 0x3F80_0000, nil]

  /// The largest distance between the share of values below some bound and a distribution (Kolmogorov and Smirnov).
  private func distance(_ values: [Double], _ share: (Double) -> Double) -> Double {
    let sorted = values.sorted()
    return sorted.indices.map { index in
      let expected = share(sorted[index])
      return max(
        abs(Double(index + 1) / Double(sorted.count) - expected), abs(expected - Double(index) / Double(sorted.count)))
    }.max() ?? 1
  }

  /// Passed by 999,999 of a million sets of draws: with a seed of the system's too.
  private var bound: Double { 2.7 / Double(Self.count).squareRoot() }

  private func fill(_ distribution: RandomFill.Distribution, _ dtype: DType, _ seed: Int?) throws -> [Double] {
    let op = RandomFill(distribution, shape: [Dim(Self.count)], dtype: dtype, a: -1, b: 2, seed: seed)
    return try op.reference([])[0].doubles
  }

  @Test(arguments: seeds, [DType.f32, .f64]) func uniformNumbersAre(_ seed: Int?, _ dtype: DType) throws {
    let values = try fill(.uniform, dtype, seed)
    #expect(values.allSatisfy { -1 <= $0 && $0 <= 2 })
    #expect(distance(values) { ($0 + 1) / 3 } < bound)
  }

  @Test(arguments: seeds, [DType.f32, .f64]) func normalNumbersAre(_ seed: Int?, _ dtype: DType) throws {
    let values = try fill(.normal, dtype, seed)
    #expect(distance(values) { 0.5 * erfc(-($0 + 1) / 2 / 2.0.squareRoot()) } < bound)
    // Neighbours know nothing of each other.
    let products = zip(values, values.dropFirst()).map { ($0 + 1) / 2 * ($1 + 1) / 2 }
    #expect(abs(products.reduce(0, +) / Double(products.count)) < 2 * bound)
  }

  @Test(arguments: seeds, [0, 0.1, 0.5, 0.93, 1]) func chancesAreKept(_ seed: Int?, _ chance: Double) throws {
    let chances = HostTensor(.f32, [Self.count], doubles: [Double](repeating: chance, count: Self.count))
    let share =
      try Bernoulli(dtype: .bool, seed: seed).reference([chances])[0].doubles.reduce(0, +) / Double(Self.count)
    #expect(abs(share - chance) <= 5 * (chance * (1 - chance) / Double(Self.count)).squareRoot() + 1e-7)
  }

  @Test(arguments: seeds) func classesAreDrawnByTheirWeights(_ seed: Int?) throws {
    let weights = [[1, 2, 3, 4], [7, 0, 0, 1]].map { $0.map(Double.init) }
    let logarithms = HostTensor(.f64, [2, 4], doubles: weights.flatMap { $0.map { log($0) } })
    let drawn = try Multinomial(count: Self.count, dtype: .i32, seed: seed).reference([logarithms])[0].ints
    for (row, line) in weights.enumerated() {
      let own = drawn[(row * Self.count)..<((row + 1) * Self.count)]
      for (number, weight) in line.enumerated() {
        let chance = weight / line.reduce(0, +)
        let share = Double(own.count { $0 == number }) / Double(Self.count)
        #expect(abs(share - chance) <= 5 * (chance * (1 - chance) / Double(Self.count)).squareRoot())
      }
    }
  }

  @Test func seedsDecide() throws {
    #expect(try fill(.uniform, .f32, 5) == fill(.uniform, .f32, 5))
    #expect(try fill(.uniform, .f32, 5) != fill(.uniform, .f32, 6))
    #expect(try fill(.uniform, .f32, nil) != fill(.uniform, .f32, nil))
  }
}
