package import ApusCore
package import ApusImport

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// How a model fails; equal for models that fail in the same way.
package struct ModelFailure: Hashable, Codable, Sendable {
  package enum Kind: String, Codable, Sendable {
    /// It cannot be read, cannot be built, or its run reports an error.
    case error
    /// It gives another result than the interpreter.
    case wrong
    /// It ends the process, or never ends.
    case crash
  }

  package var kind: Kind
  /// The code of the first problem, and what tells it from others of that code; how a process ended.
  package var signature: String

  package init(kind: Kind, signature: String) {
    self.kind = kind
    self.signature = signature
  }
}

/// Cuts a model that fails to the smallest one that fails in the same way.
package struct ModelReducer {
  /// Says how a model fails, nil when it does not, with a message for people.
  package typealias Check = (ModelCut) throws(ConformanceError) -> (failure: ModelFailure, message: String)?
  /// The types of a model's outputs by name, their sizes known; what cannot be told is left out.
  package typealias Types = (ModelCut) throws(ConformanceError) -> [String: TensorType]

  private let check: Check
  private let types: Types
  private let progress: (ModelCut) -> Void
  private var known: [String: TensorType] = [:]
  private var best: ModelCut
  private let failure: ModelFailure

  /// - Parameter progress: hears of each smaller model that still fails.
  package static func reduced(
    _ model: ModelCut, failing failure: ModelFailure, check: @escaping Check, types: @escaping Types,
    progress: @escaping (ModelCut) -> Void
  ) throws(ConformanceError) -> ModelCut {
    var reducer = ModelReducer(check: check, types: types, progress: progress, best: model, failure: failure)
    try reducer.reduce()
    return reducer.best
  }

  private init(
    check: @escaping Check, types: @escaping Types, progress: @escaping (ModelCut) -> Void, best: ModelCut,
    failure: ModelFailure
  ) {
    self.check = check
    self.types = types
    self.progress = progress
    self.best = best
    self.failure = failure
  }

  private mutating func reduce() throws(ConformanceError) {
    _ = try keep(best.pruned())
    for name in best.outputNames where best.outputNames.count > 1 {
      if try keep(best.giving([name]).pruned()) { break }
    }
    known = try types(best.giving(best.computedNames))
    try removeNodes()
    while try openBody() { try removeNodes() }
    for path in best.bodyPaths.reversed() {
      try learn(path)
      try removeNodes(in: path)
    }
    for name in best.initializerNames { if let freed = best.freeing(name) { _ = try keep(freed) } }
    try removeNodes()
  }

  /// Puts what a body computes in the place of its node.
  private mutating func openBody() throws(ConformanceError) -> Bool {
    for path in best.bodyPaths where path.count == 1 {
      guard let cut = best.opened(path, type: { known[$0] })?.pruned(), try keep(cut) else { continue }
      try known.merge(types(best.giving(best.computedNames))) { old, _ in old }
      return true
    }
    return false
  }

  /// Finds the types of what a body computes.
  private mutating func learn(_ path: [ModelCut.BodyPlace]) throws(ConformanceError) {
    guard let cut = best.opened(path, type: { known[$0] }) else { return }
    try known.merge(types(cut.giving(cut.computedNames))) { old, _ in old }
  }

  /// Takes away runs of nodes, half of all at first and one at last, until none can be (delta debugging: Zeller & Hildebrandt 2002).
  ///
  /// - Parameter path: the body whose nodes are taken away; the model's own where there is none.
  private mutating func removeNodes(in path: [ModelCut.BodyPlace] = []) throws(ConformanceError) {
    var count: Int { path.isEmpty ? best.nodeCount : best.nodeCount(in: path) }
    var size = max(count / 2, 1)
    while true {
      var start = 0
      var found = false
      while start < count && (count > 1 || !path.isEmpty) {
        let places = Set(start..<min(start + size, count))
        if places.count < count || !path.isEmpty, try remove(places, in: path) {
          found = true
        } else {
          start += size
        }
      }
      if size == 1, !found { return }
      size = max(size / 2, 1)
    }
  }

  private mutating func remove(_ places: Set<Int>, in path: [ModelCut.BodyPlace]) throws(ConformanceError) -> Bool {
    // Where the whole model cannot be read, the part before a value may be.
    var unknown: String?
    while true {
      func type(_ name: String) -> TensorType? {
        if known[name] == nil { unknown = name }
        return known[name]
      }
      let cut = path.isEmpty ? best.without(places, type: type) : best.without(places, in: path, type: type)
      if let cut { return cut.wholeCount < best.wholeCount ? try keep(cut) : false }
      guard let name = unknown, let open = best.opened(path, type: { known[$0] }) else { return false }
      guard let found = try types(open.giving([name]).pruned())[name] else { return false }
      known[name] = found
      unknown = nil
    }
  }

  private mutating func keep(_ cut: ModelCut) throws(ConformanceError) -> Bool {
    guard try check(cut)?.failure == failure else { return false }
    best = cut
    progress(cut)
    return true
  }
}
