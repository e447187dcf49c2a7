import ApusCore
import ApusGraph
import ApusKernel

/// Operations that do the same under permuted axes, with how their attributes change.
enum Permutable {
  private static let elementwise = ScalarFunction.allCases.map(\.rawValue) + ["where", "cast"]
  private static let reductions = [
    "reduce_sum", "reduce_mean", "reduce_prod", "reduce_min", "reduce_max", "reduce_and", "reduce_or",
  ]

  static let names = elementwise + reductions + ["concat", "slice", "pad", "softmax", "resize"]

  /// Whether an operand's axes are permuted with the data.
  static func isData(_ node: Node, _ index: Int) -> Bool { node.op.name != "pad" || index == 0 }

  /// The operation on operands whose axis `i` is what axis `perm[i]`'s place becomes, and the permutation that its
  /// result then needs; nil where it cannot be said.
  static func permuted(_ node: Node, _ perm: [Int], _ graph: Graph) -> (String, Attributes, [Int])? {
    let (name, attributes) = (node.op.name, node.op.attributes)
    if reductions.contains(name) {
      guard let axes = try? attributes.ints("axes"), case .bool(true)? = attributes["keep_dims"] else { return nil }
      return (name, attributes.replacing("axes", .ints(axes.map { perm[$0] }.sorted())), perm)
    }
    switch name {
    case "concat", "softmax":
      guard let axis = try? attributes.int("axis") else { return nil }
      let position = axis < 0 ? axis + perm.count : axis
      guard perm.indices.contains(position) else { return nil }
      return (name, attributes.replacing("axis", .int(perm[position])), perm)
    case "slice":
      guard let starts = try? attributes.dims("starts"), let sizes = try? attributes.dims("sizes"),
        let steps = try? attributes.ints("steps")
      else { return nil }
      let moved = attributes.replacing("starts", .dims(scatter(starts, perm)))
        .replacing("sizes", .dims(scatter(sizes, perm))).replacing("steps", .ints(scatter(steps, perm)))
      return (name, moved, perm)
    case "pad":
      guard let before = try? attributes.dims("before"), let after = try? attributes.dims("after") else { return nil }
      let moved = attributes.replacing("before", .dims(scatter(before, perm)))
        .replacing("after", .dims(scatter(after, perm)))
      return (name, moved, perm)
    case "resize":
      guard node.inputs.count == 1, let sizes = try? attributes.dims("sizes"),
        let scales = try? attributes.floats("scales")
      else { return nil }
      let moved = attributes.replacing("sizes", .dims(scatter(sizes, perm)))
        .replacing("scales", .floats(scatter(scales, perm)))
      return (name, moved, perm)
    default: return elementwise.contains(name) ? (name, attributes, perm) : nil
    }
  }

  /// Values given per axis of the transposed data, in the order of the data's own axes.
  private static func scatter<Element>(_ values: [Element], _ perm: [Int]) -> [Element] {
    var result = values
    for (axis, source) in perm.enumerated() { result[source] = values[axis] }
    return result
  }
}

extension Attributes {
  fileprivate func replacing(_ name: String, _ value: Attribute) -> Attributes {
    Attributes(entries.map { ($0.name, $0.name == name ? value : $0.value) })
  }
}
