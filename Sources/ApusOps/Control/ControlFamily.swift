import ApusGraph

/// Operations that run sub-graphs.
enum ControlFamily {
  static let operations: [Catalogue.Entry] = [
    (["if"], If.self), (["loop"], Loop.self), (["scan"], Scan.self),
    (["fail"], Fail.self),
  ]
}
