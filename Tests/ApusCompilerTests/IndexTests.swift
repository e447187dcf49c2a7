import ApusCore
import ApusGraph
import ApusKernel
import Testing

/// Index arithmetic over loop variables against integers.
@Suite struct IndexTests {
  private var generator = RandomTensor.Generator(seed: 17)

  private mutating func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &generator) }

  /// A size, constant or symbolic, and what the symbol stands for.
  private mutating func size(_ index: Int, _ sizes: inout [String: Int]) -> Dim {
    if number(0...2) > 0 { return Dim(number(1...6)) }
    let name = "n\(index % 3)"
    if sizes[name] == nil { sizes[name] = number(1...6) }
    return Dim(Symbol(name, Interval(1, 9)))
  }

  @Test mutating func coordinatesOfLinearIndices() {
    for _ in 0..<300 {
      var sizes: [String: Int] = [:]
      let shape = (0..<number(0...4)).map { size($0, &sizes) }
      let counts = shape.map { $0.evaluate { sizes[$0] } ?? 0 }
      let arena = ExprArena()
      let variable = arena.makeVariable(Dim.product(shape))
      let coordinates = arena.coordinates(.flat(variable.dim), in: shape)
      let back = arena.flat(.coordinates(coordinates), in: shape)
      for index in 0..<counts.reduce(1, *) {
        let value: (String) -> Int? = { $0 == variable.name ? index : sizes[$0] }
        var rest = index
        for (coordinate, count) in zip(coordinates, counts).reversed() {
          #expect(coordinate.evaluate(value) == rest % count, "\(coordinate) of \(index) in \(shape)")
          rest /= count
        }
        #expect(back.evaluate(value) == index, "\(back)")
      }
    }
  }

  @Test mutating func coordinatesThroughReshapes() {
    for _ in 0..<300 {
      var sizes: [String: Int] = [:]
      let inner = (0..<number(1...4)).map { size($0, &sizes) }
      // Neighbouring dims are joined, so that both shapes have the same elements.
      var outer: [Dim] = []
      for dim in inner {
        if let last = outer.popLast() {
          outer += number(0...1) == 0 ? [last * dim] : [last, dim]
        } else {
          outer = [dim]
        }
      }
      let arena = ExprArena()
      let variables = outer.map { arena.makeVariable($0) }
      let flat = arena.flat(.coordinates(variables.map(\.dim)), in: outer)
      let coordinates = arena.coordinates(.flat(flat), in: inner)
      for _ in 0..<20 {
        var values = sizes
        for variable in variables {
          values[variable.name] = number(0...(variable.extent.evaluate { sizes[$0] } ?? 1) - 1)
        }
        var rest = flat.evaluate { values[$0] } ?? -1
        for (coordinate, dim) in zip(coordinates, inner).reversed() {
          let count = dim.evaluate { sizes[$0] } ?? 1
          #expect(coordinate.evaluate { values[$0] } == rest % count, "\(coordinate) of \(outer) in \(inner)")
          rest /= count
        }
      }
    }
  }

  @Test mutating func quotientsAndRemaindersOfAnyIndex() {
    for _ in 0..<2000 {
      var sizes: [String: Int] = [:]
      let arena = ExprArena()
      let variables = (0..<number(1...3)).map { arena.makeVariable(size($0, &sizes)) }
      var index = Dim(number(-5...5))
      for variable in variables {
        index = index + variable.dim * Dim(number(-3...4)) * (number(0...1) == 0 ? 1 : size(number(0...5), &sizes))
      }
      if number(0...2) == 0 { index = index - size(number(0...5), &sizes) }
      let divisor = size(number(0...5), &sizes) * (number(0...1) == 0 ? 1 : size(number(0...5), &sizes))
      let quotient = arena.quotient(index, divisor)
      let remainder = arena.remainder(index, divisor)
      for _ in 0..<10 {
        var values = sizes
        for variable in variables {
          values[variable.name] = number(0...(variable.extent.evaluate { sizes[$0] } ?? 1) - 1)
        }
        let value: (String) -> Int? = { values[$0] }
        guard let x = index.evaluate(value), let y = divisor.evaluate(value) else {
          Issue.record("\(index) or \(divisor) has no value")
          continue
        }
        let expected = (x - ((x % y) + y) % y) / y
        #expect(quotient.evaluate(value) == expected, "(\(index)) / (\(divisor)) is not \(quotient) for \(values)")
        #expect(remainder.evaluate(value) == x - expected * y, "(\(index)) % (\(divisor)) is not \(remainder)")
        #expect(index.range.contains(x) && quotient.range.contains(expected), "\(index), \(quotient)")
      }
    }
  }

  /// Each transposed reshape divides and takes the remainder of all before it: written out, 40 of them would have 2⁴⁰
  /// parts.
  @Test func longChainsOfReshapesStaySmall() {
    let (n, m) = (Dim(Symbol("N", Interval(1, 64))), Dim(Symbol("M", Interval(1, 64))))
    let arena = ExprArena()
    let variable = arena.makeVariable(n * m)
    var index = variable.dim
    for _ in 0..<40 {
      let coordinates = arena.coordinates(.flat(index), in: [n, m])
      index = arena.flat(.coordinates([coordinates[1], coordinates[0]]), in: [m, n])
    }
    #expect(index.partCount(upTo: 10_000) < 500)
  }
}
