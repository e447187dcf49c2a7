import ApusCore
import Testing

@testable import ApusRuntime

@Suite struct DimProgramTests {
  static let symbols = [Symbol("a", Interval(0, 100)), Symbol("b", Interval(1, 100))]
  static let late = [Symbol("c", Interval(0, 100))]

  static func random(_ depth: Int, _ generator: inout SeededGenerator) -> Dim {
    if depth == 0 {
      let leaf = Int.random(in: 0..<4, using: &generator)
      return leaf == 3 ? Dim(Int.random(in: -3...9, using: &generator)) : Dim((symbols + late)[leaf])
    }
    let a = random(depth - 1, &generator)
    let b = random(depth - 1, &generator)
    switch Int.random(in: 0..<6, using: &generator) {
    case 0: return a + b
    case 1: return a - b
    case 2: return a * b
    case 3: return a.floorDivided(by: b)
    case 4: return .minimum(a, b)
    default: return .maximum(a, b)
    }
  }

  @Test func allSizesAgreeWithTheirOwnEvaluation() {
    var generator = SeededGenerator(seed: 7)
    for _ in 0..<300 {
      var program = DimProgram(shapeSymbols: Self.symbols, runSymbols: Self.late)
      let dims = (0..<8).map { _ in Self.random(3, &generator) }
      let nodes = dims.map { program.add($0) }
      let values = UnsafeMutablePointer<Int>.allocate(capacity: program.count)
      defer { values.deallocate() }
      var sizes: [String: Int] = [:]
      for (node, symbol) in (Self.symbols + Self.late).enumerated() {
        sizes[symbol.name] = Int.random(in: 1...100, using: &generator)
        values[node] = symbol.name == "c" ? DimProgram.unknown : sizes[symbol.name] ?? 0
      }
      program.evaluate(into: values)
      for (dim, node) in zip(dims, nodes) where program.isLate[node] {
        #expect(dim.symbols.contains { $0.name == "c" })
        #expect(values[node] == DimProgram.unknown)
      }
      values[2] = sizes["c"] ?? 0
      program.evaluateLate(into: values)
      for (dim, node) in zip(dims, nodes) {
        #expect(values[node] == dim.evaluate { sizes[$0] } ?? DimProgram.unknown, "\(dim) with \(sizes)")
      }
    }
  }
}
