import ApusCore
import ApusGraph
import ApusOps
import Testing

/// Sizes that grow out of hand are refused where they appear.
@Suite struct SizeLimitTests {
  @Test func sizesThatDoubleAreRefused() throws {
    var graph = Graph()
    var (n, m) = (Dim(Symbol("N", Interval(1, 64))), Dim(Symbol("M", Interval(1, 64))))
    let error = #expect(throws: ShapeError.self) {
      for step in 0..<64 {
        // Neither is larger for all sizes, so both stay in the expression.
        (n, m) = (Dim.maximum(n, m * 2).floorDivided(by: 3), Dim.minimum(n, m))
        let x = graph.addInput("x\(step)", .tensor(TensorType(.f32, [n, m])))
        try graph.add(Transpose([1, 0]), [x], name: "turn")
      }
    }
    let problem = try #require(error?.problems.first)
    #expect(problem.code == "APUS-S-0003" && problem.place.contains("turn"), "\(problem)")
  }

  @Test func partsAreCountedWhereTheyOccur() {
    let (n, m) = (Dim(Symbol("N")), Dim(Symbol("M")))
    #expect(Dim(7).partCount(upTo: 10) == 0)
    #expect((n * m + 3 * n).partCount(upTo: 10) == 3)
    #expect((n.floorDivided(by: m) + 1).partCount(upTo: 10) == 3)
    #expect((n.floorDivided(by: m) + 1).partCount(upTo: 1) == 2)
  }
}
