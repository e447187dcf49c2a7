import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import Testing

/// Following shape arithmetic through operations with symbolic elements.
@Suite struct SymbolicSizesTests {
  let n = Dim(Symbol("N", Interval(1, 64)))
  let vector = TensorType(.i64, sizes: [2])
  let scalar = TensorType(.i64, sizes: [])

  private func apply(_ function: ScalarFunction, _ a: [Dim], _ b: [Dim]) -> [Dim]? {
    Elementwise(function).dims([a, b], [vector, vector])?[0]
  }

  @Test func arithmeticStaysSymbolic() {
    #expect(apply(.add, [n, 2], [1, n]) == [n + 1, n + 2])
    #expect(apply(.div, [n, 9], [2, 2]) == [n.floorDivided(by: 2), 4])
    #expect(apply(.mul, [n, n], [n, 0]) == [n * n, 0])
    #expect(apply(.floor_mod, [n * 4, n], [4, 8]) == [0, n.remainder(by: 8)])
    #expect(apply(.div, [n - 32, 1], [2, 2]) == nil)
  }

  @Test func comparisonsAreDecidedByRanges() {
    #expect(apply(.equal, [n, 3], [-1, 3]) == [0, 1])
    #expect(apply(.less, [n, n], [65, n + 1]) == [1, 1])
    #expect(apply(.greater, [n, 1], [8, 1]) == nil)
  }

  @Test func choicesNeedOnlyTheChosenElements() {
    let where_ = Where()
    let types = [TensorType(.bool, sizes: [2]), vector, scalar]
    #expect(where_.dims([[1, 0], [n, 7], [-1]], types)?[0] == [n, -1])
    #expect(where_.dims([[n, 0], [n, 7], [-1]], types) == nil)
  }

  @Test func movementCarriesElements() {
    let shape = TensorType(.i64, sizes: [3])
    let slice = Slice(starts: [2], sizes: [2], steps: [-1])
    #expect(slice.dims([[n, 5, 7]], [shape])?[0] == [7, 5])
    #expect(Concat(axis: 0).dims([[n], [4, 5]], [TensorType(.i64, sizes: [1]), vector])?[0] == [n, 4, 5])
    #expect(Reduce(.prod, axes: [0], keepDims: false).dims([[n, 3, n]], [shape])?[0] == [n * n * 3])
    #expect(Cumulative(axis: 0).dims([[n, 3, n]], [shape])?[0] == [n, n + 3, n * 2 + 3])
    #expect(Cast(to: .i32).dims([[n, 3, n]], [shape])?[0] == [n, 3, n])
    #expect(Sizes([n, 2]).dims([], [])?[0] == [n, 2])
  }

  @Test func broadcastingPrefersTheSizeThatMustWin() throws {
    let m = Dim(Symbol("M", Interval(1, 8)))
    let large = Dim(Symbol("L", Interval(2, 8)))
    func shape(_ a: Dim, _ b: Dim) throws -> Dim {
      try Elementwise(.add).infer([TensorType(.f32, [a]), TensorType(.f32, [b])])[0].shape[0]
    }
    #expect(try shape(n, 1) == n)
    #expect(try shape(n, 4) == 4)
    #expect(try shape(n, large) == large)
    #expect(try shape(n, m) == Dim.maximum(n, m))
    #expect(throws: ShapeError.self) { try shape(3, 4) }
    #expect(throws: ShapeError.self) { try shape(n + 100, large) }
  }
}
