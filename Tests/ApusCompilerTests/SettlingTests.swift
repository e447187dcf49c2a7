import Testing

@testable import ApusCompiler

/// When it is settled which candidate is the fastest.
@Suite struct SettlingTests {
  @Test func boundsHoldTheMedianOfFewAndOfMany() {
    let few = Settling.Estimate([3, 1, 2])
    #expect(few == Settling.Estimate([2, 3, 1]) && few.time == 2 && few.lower == 1 && few.upper == 3)
    let many = Settling.Estimate((1...100).map(Double.init))
    #expect(many.time == 51 && (38...45).contains(many.lower) && (56...63).contains(many.upper))
  }

  /// Work that several threads share is disturbed by others more often than what one thread does.
  @Test func whatIsDisturbedInMostRunsIsStillSeenToBeFaster() {
    var (shared, alone): ([Double], [Double]) = ([], [])
    for run in 0..<30 {
      let drift = 0.001 * Double(run)
      shared.append(run % 3 == 0 ? 1 + drift : 1.8 + 30 * drift)
      alone.append(1.6 + drift)
    }
    let estimates = [shared, alone].map { Settling.Estimate($0, share: Settling.share) }
    #expect(estimates[0].time < 1.1 && estimates[1].time > 1.6)
    #expect(Settling.remaining([0, 1], [shared, alone]) != [1])
  }

  @Test func fewRunsSettleNothing() {
    #expect(Settling.remaining([0, 1], [[1, 1], [9, 9]]) == [0, 1])
  }

  @Test func whatIsFarBehindIsLeftAlone() {
    let times = [[1.0, 1.2, 1.05, 1.1, 1.02], [1.1, 1.0, 1.3, 1.2, 1.05], [5, 5.1, 5.2, 5, 5]]
    #expect(Settling.remaining([0, 1, 2], times) == [0, 1])
  }

  @Test func whatIsAlikeOrAheadIsSettled() {
    #expect(Settling.remaining([0, 1], [[1, 1.001, 1.002, 1, 1.001], [1.003, 1.004, 1.001, 1.002, 1.003]]) == [])
    #expect(Settling.remaining([0, 1], [[1, 1.01, 1.02, 1, 1.01], [2, 2.2, 2.1, 2, 2.1]]) == [])
    let noisy = (0..<60).map { Double($0 % 7) + 1 }
    #expect(Settling.remaining([0, 1], [noisy, noisy.map { $0 * 1.01 }]) == [])
  }
}
