import ApusCore
import ApusGraph
import Testing

@Suite struct SubstitutionTests {
  @Test func typesReplaceTheirSymbols() {
    let n = Symbol("N", Interval(1, 8))
    let type = ValueType.sequence(.tensor(TensorType(.f32, [Dim(n) + 1, 3])))
    #expect(type.substituting { $0 == n ? 4 : nil } == .sequence(.tensor(TensorType(.f32, [5, 3]))))
  }
}
