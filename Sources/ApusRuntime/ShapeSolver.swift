import ApusCore
import ApusPlan

/// Finds the shape symbols' values from a call's inputs and checks every size against them.
///
/// What is called the shape of an input here is followed by its elements that decide sizes, if any do.
struct ShapeSolver {
  let program: Program
  private var problems: [Diagnostic] = []
  /// Input and axis that gave each symbol its value.
  private var origins: [Int: (input: Int, axis: Int)] = [:]

  private init(program: Program) { self.program = program }

  /// Sets all nodes of `values` that do not depend on symbols set while running.
  ///
  /// - Throws: ``RunError`` with every axis that does not fit.
  static func solve(
    _ program: Program, shapes: [[Int]], into values: UnsafeMutablePointer<Int>
  ) throws(RunError) {
    var solver = ShapeSolver(program: program)
    for symbol in 0..<program.dims.symbolCount { values[symbol] = DimProgram.unknown }
    solver.bindSymbols(shapes, values)
    solver.solveLinear(shapes, values)
    if solver.problems.isEmpty { solver.checkSymbols(values) }
    program.dims.evaluate(into: values)
    if solver.problems.isEmpty { solver.checkComputed(shapes, values) }
    if !solver.problems.isEmpty { throw RunError(problems: solver.problems) }
  }

  private mutating func report(_ code: String, _ input: Int, _ axis: Int, _ message: String, _ hint: String = "") {
    problems.append(
      Diagnostic(
        code, "\(message); the type is \(program.plan.inputs[input].type)", place: place(input, axis), hint: hint))
  }

  private func rank(_ input: Int) -> Int { program.plan.inputs[input].type.tensor?.rank ?? 0 }

  private func place(_ input: Int, _ axis: Int) -> String {
    let part = axis < rank(input) ? "axis \(axis)" : "element \(axis - rank(input))"
    return "input '\(program.plan.inputs[input].name)', \(part)"
  }

  private func noun(_ input: Int, _ axis: Int) -> String { axis < rank(input) ? "size" : "value" }

  /// The expression of an axis or element.
  private func text(_ input: Int, _ axis: Int) -> String {
    let binding = program.plan.inputs[input]
    let dim = axis < rank(input) ? binding.type.tensor?.shape[axis] : binding.values?[axis - rank(input)]
    return dim?.description ?? ""
  }

  private mutating func bindSymbols(_ shapes: [[Int]], _ values: UnsafeMutablePointer<Int>) {
    for (input, rules) in program.inputAxes.enumerated() {
      for (axis, rule) in rules.enumerated() {
        let size = shapes[input][axis]
        switch rule {
        case .constant(let expected):
          if size != expected {
            report("APUS-R-0005", input, axis, "the \(noun(input, axis)) is \(size), \(expected) is expected")
          }
        case .symbol(let node): bind(node, to: size, input, axis, values)
        case .linear, .computed: break
        }
      }
    }
  }

  private mutating func bind(
    _ node: Int, to size: Int, _ input: Int, _ axis: Int, _ values: UnsafeMutablePointer<Int>
  ) {
    if values[node] == DimProgram.unknown {
      values[node] = size
      origins[node] = (input, axis)
    } else if values[node] != size, let origin = origins[node] {
      report(
        "APUS-R-0006", input, axis,
        "the \(noun(input, axis)) is \(size), but '\(program.plan.shapeSymbols[node].name)' is \(values[node]) at "
          + place(origin.input, origin.axis))
    }
  }

  /// Symbols that no axis names alone, from axes like `16*n + 1`.
  private mutating func solveLinear(_ shapes: [[Int]], _ values: UnsafeMutablePointer<Int>) {
    for (input, rules) in program.inputAxes.enumerated() {
      for (axis, rule) in rules.enumerated() {
        guard case .linear(let symbol, let coefficient, let constant, _) = rule, values[symbol] == DimProgram.unknown
        else { continue }
        let rest = saturatingAdd(shapes[input][axis], constant == .min ? .max : -constant)
        if coefficient != -1, rest % coefficient != 0 {
          report(
            "APUS-R-0005", input, axis,
            "the \(noun(input, axis)) is \(shapes[input][axis]), which is not \(text(input, axis)) for any integer")
        } else {
          bind(symbol, to: saturatingFloorDivide(rest, coefficient), input, axis, values)
        }
      }
    }
  }

  private mutating func checkSymbols(_ values: UnsafeMutablePointer<Int>) {
    for (node, symbol) in program.plan.shapeSymbols.enumerated() {
      guard values[node] != DimProgram.unknown, let origin = origins[node] else {
        problems.append(
          Diagnostic("APUS-R-0009", "the inputs' shapes do not tell the size '\(symbol.name)'", place: "inputs"))
        continue
      }
      if values[node] < 0 && origin.axis < rank(origin.input) || !symbol.range.contains(values[node]) {
        report(
          "APUS-R-0007", origin.input, origin.axis,
          "'\(symbol.name)' is \(values[node]), the range is \(symbol.range.text)",
          "Build the engine with a range that holds this size.")
      }
    }
  }

  private mutating func checkComputed(_ shapes: [[Int]], _ values: UnsafeMutablePointer<Int>) {
    for (input, rules) in program.inputAxes.enumerated() {
      for (axis, rule) in rules.enumerated() {
        let node: Int
        switch rule {
        case .linear(_, _, _, let own), .computed(let own): node = own
        case .constant, .symbol: continue
        }
        let size = shapes[input][axis]
        if values[node] != size {
          let expected = values[node] == DimProgram.unknown ? "no size" : String(values[node])
          report(
            "APUS-R-0005", input, axis,
            "the \(noun(input, axis)) is \(size), \(expected) is expected for \(text(input, axis))")
        }
      }
    }
  }
}
