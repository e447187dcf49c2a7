import Testing

@testable import ApusCompiler

/// How well a cost model orders what is measured.
@Suite struct RankingTests {
  @Test func ordersAreCompared() {
    #expect(Ranking([1, 2, 3, 4]).correlation == 1 && Ranking([4, 3, 2, 1]).correlation == -1)
    #expect(Ranking([1, 2]).correlation == nil && Ranking([2, 2, 2]).correlation == nil)
    let mixed = Ranking([2, 1, 3, 4])
    #expect(abs((mixed.correlation ?? 0) - 0.8) < 1e-12)
    #expect(mixed.regret(ofFirst: 1) == 1 && mixed.regret(ofFirst: 5) == 0)
    let summary = [Ranking([1, 2, 3]), mixed, Ranking([5])].summary
    #expect(summary?.count == 2 && summary?.first == 0.5 && summary?.firstFive == 0)
    #expect([Ranking([1])].summary == nil)
  }
}
