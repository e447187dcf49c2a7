import Apus

extension ProfileSelection {
  /// Reads `--profile`: `auto`, `fastest`, a number, or a name.
  init?(argument: String?) {
    guard let argument else { return nil }
    switch argument {
    case "auto": self = .automatic
    case "fastest": self = .fastest
    default: self = Int(argument).map { .index($0) } ?? .named(argument)
    }
  }
}

extension Engine {
  /// The plan of a profile; where the shapes decide the first that takes the shapes given.
  func plan(for selection: ProfileSelection?, shapes: [String: [Int]]) throws(RunError) -> Plan {
    guard let selection else { return plans[0] }
    if selection.dependsOnShapes {
      guard let plan = plans.first(where: { $0.takes(shapes) }) else { throw RunError.noProfileFits(shapes, plans) }
      return plan
    }
    return plans[try index(of: selection)]
  }
}

extension Plan {
  fileprivate func takes(_ shapes: [String: [Int]]) -> Bool {
    inputs.allSatisfy { input in
      guard let sizes = shapes[input.name], let shape = input.type.tensor?.shape else { return true }
      return sizes.count == shape.count && zip(shape, sizes).allSatisfy { $0.range.contains($1) }
    }
  }
}
