import ApusCore
import ApusPlan

/// Sizes of a model's symbols, as far as the shapes given and a profile say.
struct SymbolValues {
  private var values: [String: Int] = [:]

  /// Sizes from input shapes and from elements that decide sizes come first, then those that the profile is tuned for.
  init(plan: Plan, shapes: [String: [Int]], elements: [String: [Int]] = [:]) {
    for input in plan.inputs {
      for (dim, element) in zip(input.values ?? [], elements[input.name] ?? []) {
        if let symbol = dim.asSymbol, values[symbol.name] == nil { values[symbol.name] = element }
      }
      guard let sizes = shapes[input.name], let shape = input.type.tensor?.shape, shape.count == sizes.count else {
        continue
      }
      for (dim, size) in zip(shape, sizes) {
        if let symbol = dim.asSymbol, values[symbol.name] == nil { values[symbol.name] = size }
      }
    }
    for range in plan.profile.ranges where values[range.symbol] == nil { values[range.symbol] = range.opt }
  }

  func evaluate(_ dim: Dim) -> Int? { dim.evaluate { values[$0] } }

  /// The elements of an input that decide sizes, when all are known.
  func elements(of input: Binding) -> [Int]? {
    guard let dims = input.values else { return nil }
    let elements = dims.compactMap(evaluate)
    return elements.count == dims.count ? elements : nil
  }

  /// The sizes of a shape when all are known.
  func sizes(of type: TensorType) -> [Int]? {
    let sizes = type.shape.compactMap(evaluate)
    return sizes.count == type.rank ? sizes : nil
  }

  /// Shapes of all tensor inputs.
  ///
  /// - Throws: ``UsageError`` `APUS-C-0007` for each input whose shape is not known.
  func shapes(of inputs: [(name: String, type: ValueType)]) throws(UsageError) -> [String: [Int]] {
    var problems = UsageProblems()
    var shapes: [String: [Int]] = [:]
    for input in inputs {
      guard let type = input.type.tensor else { continue }
      if let sizes = sizes(of: type) {
        shapes[input.name] = sizes
      } else {
        problems.add(Self.unknownShape(input.name, type))
      }
    }
    try problems.throwIfAny()
    return shapes
  }

  static func unknownShape(_ name: String, _ type: TensorType) -> Diagnostic {
    let example = type.shape.map { $0.constantValue.map(String.init) ?? "1" }.joined(separator: "x")
    return Diagnostic(
      "APUS-C-0007", "the shape \(type) depends on the call and is not given", place: "input '\(name)'",
      hint: "Give it, for instance --shape \(name)=\(example).")
  }
}
