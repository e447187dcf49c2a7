package import ApusCore

/// The sizes that vary from call to call, and the values that they had: what profiles have to cover.
package struct ShapeSpace: Sendable {
  /// A size: a symbol of the model, or axes of inputs that were equal in every call.
  package struct Variable: Sendable, Hashable {
    package var name: String
    package var axes: [Axis]
  }

  package struct Axis: Sendable, Hashable {
    package var input: String
    package var axis: Int
  }

  /// A value of each variable, and in how many calls it occurred; where too many differ, neighbours are one point.
  package struct Point: Sendable, Hashable {
    /// The values, of neighbours those that occurred most often.
    package var sizes: [Int]
    /// Least and greatest values.
    package var low: [Int]
    package var high: [Int]
    package var count: Int
    /// Shapes of the inputs of such a call.
    package var shapes: [String: [Int]]

    init(_ sizes: [Int], count: Int, shapes: [String: [Int]]) {
      self.sizes = sizes
      low = sizes
      high = sizes
      self.count = count
      self.shapes = shapes
    }

    /// Whether it is one set of sizes, which a profile can fix.
    package var isSingle: Bool { low == high }
  }

  /// The most points that are told apart.
  package static let pointLimit = 256

  package var variables: [Variable] = []
  /// Symbols that profiles fix beside the variables, with their sizes.
  package let fixedSymbols: [String: Int]
  package var points: [Point] = []
  /// Whether variables are symbols, by which profiles can be declared.
  package let hasSymbols: Bool
  package let observations: ShapeObservations

  /// Variables that are not the same in every call.
  package var varying: [Int] {
    variables.indices.filter { index in points.contains { $0.sizes[index] != points[0].sizes[index] } }
  }

  /// Axes that are equal in every call are one variable; those that never change are none.
  package init(_ observations: ShapeObservations) {
    self.observations = observations
    hasSymbols = false
    fixedSymbols = [:]
    var columns: [[Int]: Int] = [:]
    for input in observations.inputs {
      for axis in (observations.observations[0].shapes[input] ?? []).indices {
        let column = observations.observations.map { $0.shapes[input]?[axis] ?? 0 }
        if column.allSatisfy({ $0 == column[0] }) { continue }
        let place = Axis(input: input, axis: axis)
        if let index = columns[column] {
          variables[index].axes.append(place)
        } else {
          columns[column] = variables.count
          variables.append(Variable(name: "\(input)[\(axis)]", axes: [place]))
        }
      }
    }
    points = observations.observations.map { observation in
      let sizes = variables.map { observation.shapes[$0.axes[0].input]?[$0.axes[0].axis] ?? 0 }
      return Point(sizes, count: observation.count, shapes: observation.shapes)
    }
    groupNeighbours()
  }

  /// The symbols of a model's inputs.
  ///
  /// - Parameter fixed: symbols that do not show in the inputs because they have one size.
  /// - Throws: ``AdviceError`` `APUS-A-0004` with every input that the calls and the model do not have in common, and every
  ///   size that does not fit.
  package init(
    _ observations: ShapeObservations, inputs: [(name: String, type: ValueType)], fixed: [String: Int] = [:]
  ) throws(AdviceError) {
    self.observations = observations
    hasSymbols = true
    fixedSymbols = fixed
    var problems: [Diagnostic] = []
    for name in observations.inputs where !inputs.contains(where: { $0.name == name }) {
      problems.append(
        Diagnostic(
          "APUS-A-0004", "the model has no such input", place: "input '\(name)'",
          hint: Spelling.hint(for: name, in: inputs.map(\.name))))
    }
    let tensors = inputs.compactMap { input in input.type.tensor.map { (name: input.name, type: $0) } }
    for (name, type) in tensors {
      let rank = observations.observations[0].shapes[name]?.count
      if rank != type.rank {
        let found = rank.map { "\($0) axes are recorded" } ?? "no shape is recorded"
        problems.append(Diagnostic("APUS-A-0004", "\(found), the model has \(type)", place: "input '\(name)'"))
      }
      for (axis, dim) in type.shape.enumerated() {
        for symbol in dim.symbols {
          let place = Axis(input: name, axis: axis)
          let index = variables.firstIndex { $0.name == symbol.name } ?? variables.count
          if index == variables.count { variables.append(Variable(name: symbol.name, axes: [])) }
          if !variables[index].axes.contains(place) { variables[index].axes.append(place) }
        }
      }
    }
    if !problems.isEmpty { throw AdviceError(problems: problems) }
    var counts: [[Int]: Point] = [:]
    for observation in observations.observations {
      do throws(AdviceError) {
        let sizes = try Self.sizes(of: variables, observation.shapes, tensors)
        let earlier = counts[sizes]?.count ?? 0
        counts[sizes] = Point(sizes, count: saturatingAdd(earlier, observation.count), shapes: observation.shapes)
      } catch { problems += error.problems }
    }
    if !problems.isEmpty { throw AdviceError(problems: Array(problems.prefix(32))) }
    points = counts.values.sorted { $0.sizes.lexicographicallyPrecedes($1.sizes) }
    groupNeighbours()
  }

  /// Makes one point of those whose sizes differ by less than a fraction of a doubling, the smallest fraction that leaves few
  /// enough. Points that are more than 1/64 of all calls stay alone.
  private mutating func groupNeighbours() {
    if points.count <= Self.pointLimit { return }
    let total = points.reduce(0) { saturatingAdd($0, $1.count) }
    for cellsPerDoubling in [32.0, 16, 8, 4, 2, 1, 0.5, 0.25, 0.125, 0.01] {
      var cells: [[Int]: Int] = [:]
      var groups: [Point] = []
      for point in points {
        let cell = point.sizes.map { Int((binaryLogarithm($0) * cellsPerDoubling).rounded(.down)) }
        if point.count <= total / 64, let group = cells[cell] {
          groups[group].add(point)
        } else {
          if point.count <= total / 64 { cells[cell] = groups.count }
          groups.append(point)
        }
      }
      if groups.count <= Self.pointLimit {
        points = groups
        return
      }
    }
  }

  /// The value of each symbol in a call.
  private static func sizes(
    of variables: [Variable], _ shapes: [String: [Int]], _ inputs: [(name: String, type: TensorType)]
  ) throws(AdviceError) -> [Int] {
    var values: [String: Int] = [:]
    for input in inputs {
      for (dim, size) in zip(input.type.shape, shapes[input.name] ?? []) {
        if let (symbol, value) = dim.solved(for: size), values[symbol] == nil { values[symbol] = value }
      }
    }
    var problems: [Diagnostic] = []
    for input in inputs {
      for (axis, (dim, size)) in zip(input.type.shape, shapes[input.name] ?? []).enumerated() {
        let expected = dim.evaluate { values[$0] }
        if expected != size {
          problems.append(
            Diagnostic(
              "APUS-A-0004",
              "a size of \(size) is recorded, \(input.type) has \(expected.map(String.init) ?? "no such size")",
              place: "input '\(input.name)', axis \(axis)"))
        }
      }
    }
    if !problems.isEmpty { throw AdviceError(problems: problems) }
    return variables.map { values[$0.name] ?? 0 }
  }
}

extension ShapeSpace.Point {
  /// Takes a neighbour in.
  fileprivate mutating func add(_ other: ShapeSpace.Point) {
    low = zip(low, other.low).map(min)
    high = zip(high, other.high).map(max)
    if other.count > count {
      sizes = other.sizes
      shapes = other.shapes
    }
    count = saturatingAdd(count, other.count)
  }
}

extension Dim {
  /// The symbol and its value when the expression is `coefficient·symbol + constant` and has this size.
  fileprivate func solved(for size: Int) -> (symbol: String, value: Int)? {
    guard summands.count == 1, summands[0].factors.count == 1, case .symbol(let symbol) = summands[0].factors[0] else {
      return nil
    }
    let (rest, overflow) = size.subtractingReportingOverflow(constantTerm)
    let coefficient = summands[0].coefficient
    if overflow || coefficient == 0 || coefficient == -1 || rest % coefficient != 0 {
      return coefficient == -1 && !overflow && rest != .min ? (symbol.name, -rest) : nil
    }
    return (symbol.name, rest / coefficient)
  }
}
