import Testing

@testable import ApusRuntime

@Suite struct ArenaPlannerTests {
  @Test(arguments: 0..<60) func liveBuffersNeverOverlap(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    let steps = Int.random(in: 1...60, using: &generator)
    let requests = (0..<Int.random(in: 1...150, using: &generator)).map { _ in
      let first = Int.random(in: 0..<steps, using: &generator)
      let last = min(steps - 1, first + Int.random(in: 0...8, using: &generator))
      let size = Bool.random(using: &generator) ? Int.random(in: 0...100_000, using: &generator) : 64
      return ArenaRequest(byteCount: size, firstStep: first, lastStep: last)
    }
    let plan = ArenaPlanner.plan(requests)
    for (a, left) in requests.enumerated() where left.byteCount > 0 {
      #expect(plan.offsets[a] % 64 == 0)
      #expect(plan.offsets[a] + left.byteCount <= plan.byteCount)
      for (b, right) in requests.enumerated().dropFirst(a + 1) where right.byteCount > 0 && left.overlaps(right) {
        #expect(
          plan.offsets[a] + left.byteCount <= plan.offsets[b] || plan.offsets[b] + right.byteCount <= plan.offsets[a])
      }
    }
    #expect(plan.lowerBound <= plan.byteCount && plan.byteCount <= plan.sum)
    #expect(plan.lowerBound == bruteForceBound(requests, steps))
  }

  private func bruteForceBound(_ requests: [ArenaRequest], _ steps: Int) -> Int {
    (0..<steps).map { step in
      requests.filter { $0.firstStep <= step && step <= $0.lastStep }
        .reduce(0) { $0 + ($1.byteCount + 63) / 64 * 64 }
    }.max() ?? 0
  }

  @Test func aChainNeedsTwoBuffers() {
    let chain = (0..<20).map { ArenaRequest(byteCount: 1000, firstStep: $0, lastStep: $0 + 1) }
    let plan = ArenaPlanner.plan(chain)
    #expect(plan.byteCount == 2 * 1024)
    #expect(plan.lowerBound == 2 * 1024)
    #expect(plan.sum == 20 * 1024)
  }
}
