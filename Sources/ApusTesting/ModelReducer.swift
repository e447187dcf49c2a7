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
    for name in best.initializerNames { if let freed = best.freeing(name) { _ = try keep(freed) } }
    try removeNodes()
  }

  /// Takes away runs of nodes, half of all at first and one at last, until none can be (delta debugging: Zeller & Hildebrandt 2002).
  private mutating func removeNodes() throws(ConformanceError) {
    var size = max(best.nodeCount / 2, 1)
    while true {
      var start = 0
      var found = false
      while start < best.nodeCount, best.nodeCount > 1 {
        let places = Set(start..<min(start + size, best.nodeCount))
        if places.count < best.nodeCount, try remove(places) {
          found = true
        } else {
          start += size
        }
      }
      if size == 1, !found { return }
      size = max(size / 2, 1)
    }
  }

  private mutating func remove(_ places: Set<Int>) throws(ConformanceError) -> Bool {
    // Where the whole model cannot be read, the part before a value may be.
    var unknown: String?
    while true {
      let cut = best.without(places) { name in
        if known[name] == nil { unknown = name }
        return known[name]
      }
      if let cut { return cut.nodeCount < best.nodeCount ? try keep(cut) : false }
      guard let name = unknown else { return false }
      guard let type = try types(best.giving([name]).pruned())[name] else { return false }
      known[name] = type
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
