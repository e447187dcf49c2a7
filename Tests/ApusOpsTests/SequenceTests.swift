import ApusCore
import ApusGraph
import ApusOps
import Testing

@Suite struct SequenceTests {
  private func value(_ number: Double) -> HostValue { .tensor(floats([1], [number])) }
  private func position(_ index: Int64) -> HostValue { .tensor(integers([], [index])) }

  private func numbers(_ value: HostValue) -> [Double] {
    guard case .sequence(let elements, _) = value else { return [] }
    return elements.compactMap { $0.tensor?.doubles.first }
  }

  @Test func sequencesGrowAndShrink() throws {
    let three = try SequenceConstruct().reference([value(1), value(2), value(3)])[0]
    #expect(numbers(try SequenceInsert().reference([three, value(9)])[0]) == [1, 2, 3, 9])
    #expect(numbers(try SequenceInsert().reference([three, value(9), position(-1)])[0]) == [1, 2, 9, 3])
    #expect(numbers(try SequenceInsert().reference([three, value(9), position(3)])[0]) == [1, 2, 3, 9])
    #expect(numbers(try SequenceErase().reference([three, position(0)])[0]) == [2, 3])
    #expect(try SequenceAt(shape: [1]).reference([three, position(-2)])[0].tensor?.doubles == [2])
    #expect(try SequenceLength().reference([three])[0].tensor?.int64s == [3])
    #expect(throws: EvaluationError.self) { try SequenceAt(shape: [1]).reference([three, position(3)]) }
    #expect(throws: EvaluationError.self) { try SequenceAt(shape: [2]).reference([three, position(0)]) }
  }

  @Test func differentSizesBecomeAny() throws {
    let short = ValueType.tensor(TensorType(.f32, [2, 3]))
    let long = ValueType.tensor(TensorType(.f32, [2, 4]))
    let joined = try SequenceConstruct().infer([short, long])[0]
    #expect(joined == .sequence(.tensor(TensorType(.f32, [2, ValueType.anySize]))))
    #expect(throws: ShapeError.self) {
      try SequenceConstruct().infer([short, .tensor(TensorType(.i64, [2, 3]))])
    }
  }

  @Test func tensorsSplitAndJoin() throws {
    let x = floats([2, 4], (0..<8).map(Double.init))
    let op = SplitToSequence(axis: 1, keepDims: true, part: ValueType.anySize)
    let parts = try op.reference([.tensor(x), .tensor(integers([], [3]))])[0]
    guard case .sequence(let elements, _) = parts else {
      Issue.record("no sequence")
      return
    }
    #expect(elements.compactMap { $0.tensor?.shape } == [[2, 3], [2, 1]])
    let joined = try ConcatFromSequence(axis: 1, newAxis: false, shape: [2, 4]).reference([parts])[0]
    #expect(joined.tensor?.doubles == x.doubles)
    #expect(throws: EvaluationError.self) { try op.reference([.tensor(x), .tensor(integers([2], [1, 2]))]) }
  }

  @Test func optionalsHoldOrDoNot() throws {
    let full = try OptionalWrap(dtype: .f32, shape: []).reference([value(4)])[0]
    let empty = try OptionalWrap(dtype: .f32, shape: []).reference([HostValue]())[0]
    #expect(try OptionalHasElement().reference([full])[0].tensor?.int64s == [1])
    #expect(try OptionalHasElement().reference([empty])[0].tensor?.int64s == [0])
    #expect(try OptionalGetElement(shape: [1]).reference([full])[0].tensor?.doubles == [4])
    #expect(throws: EvaluationError.self) { try OptionalGetElement(shape: [1]).reference([empty]) }
  }
}
