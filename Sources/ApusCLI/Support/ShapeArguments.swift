import ApusCore
import ApusPlan

/// Shapes given on the command line as `NAME=1x3x224x224`; `NAME=` is a scalar.
struct ShapeArguments {
  /// Sizes by input name, in the order given.
  private(set) var shapes: [(name: String, sizes: [Int])] = []

  subscript(_ name: String) -> [Int]? { shapes.first { $0.name == name }?.sizes }

  var byName: [String: [Int]] { Dictionary(shapes.map { ($0.name, $0.sizes) }) { first, _ in first } }

  /// Reads the arguments and, where the inputs are known already, checks them against these.
  ///
  /// - Throws: ``UsageError`` with every mistake: `APUS-C-0001` form, `-0002` unknown input, `-0003` given twice,
  ///   `-0004` rank, `-0005` a size that the model fixes.
  init(_ arguments: [String], inputs: [(name: String, type: ValueType)]?) throws(UsageError) {
    var problems = UsageProblems()
    for argument in arguments {
      let place = "--shape \(argument)"
      guard let (name, sizes) = Self.parse(argument) else {
        problems.add(
          "APUS-C-0001", "a shape is written NAME=SIZExSIZE…, each size an integer of 0 or more", place: place,
          hint: "For instance --shape images=1x3x640x640.")
        continue
      }
      if let inputs {
        guard let input = inputs.first(where: { $0.name == name }) else {
          problems.add(
            "APUS-C-0002", "the model has no input '\(name)'", place: place,
            hint: Spelling.hint(for: name, in: inputs.map(\.name)))
          continue
        }
        Self.check(sizes, input.type, place, &problems)
      }
      if self[name] != nil { problems.add("APUS-C-0003", "input '\(name)' is given a shape twice", place: place) }
      shapes.append((name, sizes))
    }
    try problems.throwIfAny()
  }

  /// The name ends at the last `=`, as names may hold one.
  static func parse(_ argument: String) -> (name: String, sizes: [Int])? {
    guard let split = argument.lastIndex(of: "="), split != argument.startIndex else { return nil }
    let text = argument[argument.index(after: split)...]
    let parts = text.isEmpty ? [] : text.split(separator: "x", omittingEmptySubsequences: false)
    let sizes = parts.compactMap { Int($0) }
    guard sizes.count == parts.count, sizes.allSatisfy({ $0 >= 0 }) else { return nil }
    return (String(argument[..<split]), sizes)
  }

  private static func check(_ sizes: [Int], _ type: ValueType, _ place: String, _ problems: inout UsageProblems) {
    guard let tensor = type.tensor else {
      problems.add("APUS-C-0004", "the input is a \(type), which has no shape", place: place)
      return
    }
    if sizes.count != tensor.rank {
      problems.add("APUS-C-0004", "\(tensor) has \(tensor.rank) sizes, \(sizes.count) are given", place: place)
      return
    }
    for (axis, (size, dim)) in zip(sizes, tensor.shape).enumerated() {
      if let fixed = dim.constantValue, fixed != size {
        problems.add("APUS-C-0005", "dim \(axis) of \(tensor) is \(fixed), \(size) is given", place: place)
      } else if !dim.isConstant, !dim.range.contains(size) {
        let range = dim.range
        let upper = range.upper == .max ? "∞" : String(range.upper)
        problems.add(
          "APUS-C-0005", "dim \(axis) (\(dim)) of \(tensor) lies in \(range.lower)…\(upper), \(size) is given",
          place: place)
      }
    }
  }
}
