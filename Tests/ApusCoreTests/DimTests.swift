import ApusCore
import Testing

@Suite struct DimTests {
  let n = Dim(Symbol("n", Interval(1, 512)))
  let m = Dim(Symbol("m", Interval(2, 64)))

  @Test func canonicalFormMakesEqualExpressionsEqual() {
    #expect((n + m) * (n - m) == n * n - m * m)
    #expect(16 * n + 0 == n * 16)
    #expect((8 * n + 3).remainder(by: 8) == 3)
    #expect((8 * n).floorDivided(by: 8) == n)
    #expect((n * m * 4).floorDivided(by: n * 2) == 2 * m)
    #expect(((n * m + 3 * m)).dividedExactly(by: m) == n + 3)
  }

  @Test func rangesDecideMinimumAndMaximum() {
    #expect(Dim.minimum(n, 1000) == n)
    #expect(Dim.maximum(n, 1) == n)
    #expect((m - 1).isPositiveIndicator == 1)
    #expect((64 - m).range == Interval(0, 62))
  }

  @Test func textRoundTrips() throws {
    let symbols = ["n": Symbol("n", Interval(1, 512)), "m": Symbol("m", Interval(2, 64))]
    let samples = [n * 3 - 1, (n + 1).floorDivided(by: 2) * m, Dim.maximum(n, m) + 4, -(n * n), 7]
    for dim in samples { #expect(try Dim(parsing: dim.description, symbols: symbols) == dim) }
  }

  @Test func evaluationAgreesWithIntegersOnRandomExpressions() {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<500 {
      let a = Int.random(in: 1...512, using: &generator), b = Int.random(in: 2...64, using: &generator)
      let k = Int.random(in: 1...9, using: &generator)
      let value: (String) -> Int? = { $0 == "n" ? a : $0 == "m" ? b : nil }
      let dim = Dim.minimum((n * 3 + m).floorDivided(by: Dim(k)), n * m) - (n - m).remainder(by: Dim(k))
      let remainder = ((a - b) % k + k) % k
      #expect(dim.evaluate(value) == min((a * 3 + b) / k, a * b) - remainder)
      #expect(dim.range.contains(dim.evaluate(value) ?? .min))
    }
  }

  @Test func hugeValuesSaturateInsteadOfTrapping() {
    let huge = Dim(Int.max / 2)
    #expect((huge * huge).constantValue == Int.max)
    #expect((huge * huge * n).evaluate { _ in 3 } == Int.max)
  }
}
