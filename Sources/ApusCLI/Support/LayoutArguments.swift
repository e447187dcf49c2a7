import ApusCore
import ApusOps

/// Layouts given on the command line as `NODE,…=nchw|nhwc`.
struct LayoutArguments {
  private var layouts: [(name: String, layout: ImageLayout)] = []

  init() {}

  /// - Throws: ``UsageError`` with every mistake: `APUS-C-0035` no node, `-0039` form, `-0040` a node named for both.
  init(_ arguments: [String]) throws(UsageError) {
    var problems = UsageProblems()
    for argument in arguments {
      let place = "--layout \(argument)"
      // Names may hold a `=`.
      guard let split = argument.lastIndex(of: "="),
        let layout = ImageLayout(rawValue: String(argument[argument.index(after: split)...]))
      else {
        problems.add(
          "APUS-C-0039", "a layout is written NODE,…=nchw or NODE,…=nhwc", place: place,
          hint: "For instance --layout stem/conv=nchw.")
        continue
      }
      let names = argument[..<split].split(separator: ",").map(String.init)
      if names.isEmpty { problems.add("APUS-C-0035", "a node is needed", place: place, hint: "Name it as A=nchw.") }
      for name in names {
        if layouts.contains(where: { $0.name == name && $0.layout != layout }) {
          problems.add("APUS-C-0040", "'\(name)' is to be in both layouts", place: place)
        }
        layouts.append((name, layout))
      }
    }
    try problems.throwIfAny()
  }

  func names(_ layout: ImageLayout) -> [String] { layouts.filter { $0.layout == layout }.map(\.name) }
}
