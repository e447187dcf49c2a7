import ApusCore
import ApusGraph
import ApusOps
import Testing

@Suite struct IndexingTests {
  private let grid = floats([3, 2], [0, 1, 10, 11, 20, 21])

  @Test func gatherCountsNegativeIndicesFromTheEnd() throws {
    let rows = try Gather(axis: 0).reference([grid, integers([2], [-1, 0])])[0]
    #expect(rows.shape == [2, 2] && rows.doubles == [20, 21, 0, 1])
    let columns = try Gather(axis: 1).reference([grid, integers([1, 1], [1])])[0]
    #expect(columns.shape == [3, 1, 1] && columns.doubles == [1, 11, 21])
  }

  @Test(arguments: [3, -4, Int64.max, Int64.min]) func gatherRefusesIndicesOutside(_ index: Int64) {
    #expect(throws: EvaluationError.self) { try Gather(axis: 0).reference([grid, integers([1], [index])]) }
  }

  @Test func gatherFollowsSizes() throws {
    let n = Dim(Symbol("N"))
    let types = [TensorType(.i64, [3]), TensorType(.i64, [])]
    #expect(Gather(axis: 0).dims([[n, 4, n * 2], [-1]], types) == [[n * 2]])
    #expect(Gather(axis: 0).dims([[n, 4, n * 2], [n]], types) == nil)
  }

  @Test func gatherElementsAndCoordinates() throws {
    let elements = try GatherElements(axis: 1).reference([grid, integers([2, 2], [1, 1, 0, -1])])[0]
    #expect(elements.doubles == [1, 1, 10, 11])
    let slices = try GatherND(batchDims: 0).reference([grid, integers([2, 1], [2, 0])])[0]
    #expect(slices.shape == [2, 2] && slices.doubles == [20, 21, 0, 1])
    let batched = try GatherND(batchDims: 1).reference([grid, integers([3, 1], [1, 0, 1])])[0]
    #expect(batched.shape == [3] && batched.doubles == [1, 10, 21])
  }

  @Test func scatterReducesInOrder() throws {
    let x = floats([3], [1, 2, 3])
    let indices = integers([3], [0, 0, -1])
    let updates = floats([3], [5, 7, 9])
    func run(_ reduction: ScatterReduction) throws -> [Double] {
      try ScatterElements(axis: 0, reduction: reduction).reference([x, indices, updates])[0].doubles
    }
    #expect(try run(.none) == [7, 2, 9])
    #expect(try run(.add) == [13, 2, 12])
    #expect(try run(.mul) == [35, 2, 27])
    #expect(try run(.min) == [1, 2, 3])
    #expect(try run(.max) == [7, 2, 9])
  }

  @Test func scatterWritesSlices() throws {
    let result = try ScatterND().reference([grid, integers([1, 1], [1]), floats([1, 2], [7, 8])])[0]
    #expect(result.doubles == [0, 1, 7, 8, 20, 21])
  }

  @Test func topKKeepsTheFirstOfEqualElements() throws {
    let x = floats([5], [3, 1, 3, .nan, 2])
    let largest = try TopK(axis: 0, k: 3).reference([x])
    #expect(largest[1].int64s == [3, 0, 2])
    let smallest = try TopK(axis: 0, k: 2, largest: false).reference([x])
    #expect(smallest[1].int64s == [1, 4])
    let extremes = HostTensor(.u64, [3], int64s: [1, -1, 2])
    #expect(try TopK(axis: 0, k: 1).reference([extremes])[1].int64s == [1])
    #expect(throws: EvaluationError.self) { try TopK(axis: 0, k: 6).reference([x]) }
  }

  @Test func topKOfLongLinesAgreesWithSorting() throws {
    var generator = RandomTensor.Generator(seed: 5)
    let values = (0..<1000).map { _ in Double(Int.random(in: 0..<50, using: &generator)) }
    let expected = values.indices.sorted { values[$0] > values[$1] }.prefix(20).map { Int64($0) }
    #expect(try TopK(axis: 0, k: 20).reference([floats([1000], values)])[1].int64s == expected)
  }

  @Test func selectionsCountWhatTheyFind() throws {
    let found = try NonZero(count: someCount).reference([floats([2, 2], [1, 0, 3, 4])])[0]
    #expect(found.shape == [2, 3] && found.int64s == [0, 1, 1, 0, 0, 1])
    let kept = try Compress(axis: 0, count: someCount).reference([grid, bools([0, 1, 1])])[0]
    #expect(kept.shape == [2, 2] && kept.doubles == [10, 11, 20, 21])
    let flat = try Compress(axis: nil, count: someCount).reference([grid, bools([0, 1, 0, 0, 1])])[0]
    #expect(flat.doubles == [1, 20])
    #expect(NonZero(count: someCount).boundSymbols.map(\.name) == ["count"])
  }

  @Test func uniqueSortsOrKeepsTheOrder() throws {
    let x = floats([6], [2, 1, 1, 3, 4, 3])
    let sorted = try Unique(axis: nil, sorted: true, count: someCount).reference([x])
    #expect(sorted[0].doubles == [1, 2, 3, 4])
    #expect(sorted[1].int64s == [1, 0, 3, 4])
    #expect(sorted[2].int64s == [1, 0, 0, 2, 3, 2])
    #expect(sorted[3].int64s == [2, 1, 2, 1])
    let first = try Unique(axis: nil, sorted: false, count: someCount).reference([x])
    #expect(first[0].doubles == [2, 1, 3, 4] && first[1].int64s == [0, 1, 3, 4])
    let rows = try Unique(axis: 0, sorted: true, count: someCount).reference([
      floats([3, 3], [1, 0, 0, 1, 0, 0, 2, 3, 4])
    ])
    #expect(rows[0].shape == [2, 3] && rows[2].int64s == [0, 0, 1])
  }

  @Test func suppressionDropsOverlappingBoxes() throws {
    let boxes = floats(
      [1, 6, 4],
      [0, 0, 1, 1, 0, 0.1, 1, 1.1, 0, -0.1, 1, 0.9, 0, 10, 1, 11, 0, 10.1, 1, 11.1, 0, 100, 1, 101])
    let scores = floats([1, 1, 6], [0.9, 0.75, 0.6, 0.95, 0.5, 0.3])
    let op = NonMaxSuppression(centerPointBox: false, count: someCount)
    func run(_ most: Int64, _ least: Double) throws -> [Int64] {
      try op.reference([boxes, scores, integers([1], [most]), floats([1], [0.5]), floats([1], [least])])[0].int64s
    }
    #expect(try run(3, 0) == [0, 0, 3, 0, 0, 0, 0, 0, 5])
    #expect(try run(3, 0.4) == [0, 0, 3, 0, 0, 0])
    #expect(try run(0, 0) == [])
  }

  @Test func sequencesAreReversedToTheirLength() throws {
    let x = floats([4, 2], [0, 4, 1, 5, 2, 6, 3, 7])
    let result = try ReverseSequence(batchAxis: 1, timeAxis: 0).reference([x, integers([2], [4, 2])])[0]
    #expect(result.doubles == [3, 5, 2, 4, 1, 6, 0, 7])
  }

  @Test func cachesWrapAround() throws {
    let cache = floats([1, 4], [1, 2, 3, 4])
    let update = floats([1, 2], [8, 9])
    let result = try TensorScatter(axis: 1, circular: true).reference([cache, update, integers([1], [3])])[0]
    #expect(result.doubles == [9, 2, 3, 8])
    #expect(throws: EvaluationError.self) {
      try TensorScatter(axis: 1).reference([cache, update, integers([1], [3])])
    }
  }
}
