import ApusCore
import ApusGraph
import ApusPlan

/// What a profile asks of a graph: symbols that the graph has, ranges that it allows, and sizes that it can be computed
/// for.
///
/// At opt everything must hold. What does not hold in a corner of the ranges is a warning, since calls seldom have all
/// sizes at their ends together.
struct ProfileCheck {
  let profile: Profile
  private(set) var problems: [Diagnostic] = []
  private(set) var warnings: [Diagnostic] = []
  private var reported: Set<Dim> = []
  private let ranges: [String: Profile.Range]

  /// Warnings of one profile that are kept.
  private static let warningLimit = 8

  /// A point of the ranges.
  private typealias Sizes = [String: Int]

  init(_ profile: Profile) {
    self.profile = profile
    ranges = Dictionary(profile.ranges.map { ($0.symbol, $0) }, uniquingKeysWith: { first, _ in first })
  }

  private var place: String { "profile '\(profile.name)'" }

  // MARK: Ranges

  /// Checks that the graph has every symbol and allows its range: `APUS-B-0018`, `APUS-B-0019`.
  mutating func checkRanges(against symbols: [Symbol]) {
    for range in profile.ranges {
      guard let symbol = symbols.first(where: { $0.name == range.symbol }) else {
        problems.append(
          Diagnostic(
            "APUS-B-0018", "no input has a size called '\(range.symbol)'", place: place,
            hint: Spelling.hint(for: range.symbol, in: symbols.map(\.name))))
        continue
      }
      if range.min > range.opt || range.opt > range.max {
        problems.append(
          Diagnostic(
            "APUS-B-0019", "'\(range.symbol)' needs min ≤ opt ≤ max, found \(range.min), \(range.opt), \(range.max)",
            place: place))
      } else if let last = range.steps.last,
        range.min != 1 || last != range.max || range.steps[0] < 1 || range.steps != Set(range.steps).sorted()
      {
        problems.append(
          Diagnostic(
            "APUS-B-0019", "'\(range.symbol)' is filled up to \(range.sizesText), which are no increasing sizes",
            place: place, hint: "For instance \(range.symbol)=1/2/4/8."))
      } else if !symbol.range.contains(range.min) || !symbol.range.contains(range.max) {
        problems.append(
          Diagnostic(
            "APUS-B-0019", "'\(range.symbol)' is \(range.sizesText), the model allows \(symbol.range.text)",
            place: place, hint: "Declare a range within the model's."))
      }
    }
  }

  // MARK: Filling up

  /// Checks that rows may be added where sizes are filled up: `APUS-B-0060`.
  mutating func checkFilling(of graph: Graph) {
    for range in profile.ranges where !range.steps.isEmpty && range.min < range.max {
      if let problem = RowIndependence.refusal(graph, symbol: range.symbol) {
        problems += BuildError(problem).at(place).problems
      }
    }
  }

  // MARK: Sizes

  /// Checks what the graph of this profile computes: `APUS-B-0014` at opt, and warnings `APUS-B-0016` for sizes that are
  /// negative and `APUS-B-0017` for operations that cannot be computed somewhere else in the ranges.
  mutating func checkSizes(of graph: Graph) {
    let opt = ranges.mapValues(\.opt)
    if let found = negativeSize(graph, opt) ?? refusal(graph, opt, except: []) {
      problems.append(
        Diagnostic(
          "APUS-B-0014", "'\(graph[found.node].name)' \(found.text) at opt", place: place,
          hint: "Choose an opt for which the model can be computed."))
      return
    }
    var negative: Set<NodeID> = []
    for id in graph.order where warnAboutSizes(of: id, graph) { negative.insert(id) }
    for (name, sizes) in [("min", ranges.mapValues(\.min)), ("max", ranges.mapValues(\.max))] where sizes != opt {
      guard warnings.count < Self.warningLimit, let found = refusal(graph, sizes, except: negative) else { continue }
      warnings.append(
        Diagnostic(
          "APUS-B-0017", "'\(graph[found.node].name)' \(found.text) at \(name)", place: place,
          hint: "Calls with such sizes will fail."))
    }
  }

  private func negativeSize(_ graph: Graph, _ sizes: Sizes) -> (node: NodeID, text: String)? {
    for id in graph.order {
      for output in graph[id].outputs {
        for dim in graph.type(output).tensor?.shape ?? [] {
          guard let size = dim.evaluate({ sizes[$0] }), size < 0 else { continue }
          return (id, "has the size \(dim) = \(size)")
        }
      }
    }
    return nil
  }

  /// The first node that its operation refuses at a point.
  private func refusal(_ graph: Graph, _ sizes: Sizes, except: Set<NodeID>) -> (node: NodeID, text: String)? {
    if sizes.isEmpty { return nil }
    func value(_ symbol: Symbol) -> Dim? { sizes[symbol.name].map { Dim($0) } }
    for id in graph.order where !except.contains(id) {
      let node = graph[id]
      let types = node.inputs.map { graph.type($0).substituting(value) }
      let hasNegative = types.contains { $0.tensor?.shape.contains { ($0.constantValue ?? 0) < 0 } ?? false }
      if hasNegative { continue }
      var reason: Diagnostic?
      do {
        let op = try node.op.substituting(value)
        do { _ = try op.infer(types) } catch { reason = error.problems.first }
      } catch { reason = error.problems.first }
      if let reason { return (id, "cannot be computed (\(reason.message))") }
    }
    return nil
  }

  /// Warns about each size of a node that is negative in some corner of the ranges.
  private mutating func warnAboutSizes(of id: NodeID, _ graph: Graph) -> Bool {
    var isNegative = false
    for output in graph[id].outputs {
      for dim in graph.type(output).tensor?.shape ?? [] where dim.range.lower < 0 {
        guard let corner = negativeCorner(of: dim) else { continue }
        isNegative = true
        guard reported.insert(dim).inserted, warnings.count < Self.warningLimit else { continue }
        warnings.append(
          Diagnostic(
            "APUS-B-0016",
            "'\(graph[id].name)' has the size \(dim), which lies in \(dim.range.text): it is negative at \(corner)",
            place: place, hint: "Calls with such sizes will fail."))
      }
    }
    return isNegative
  }

  /// A corner of the ranges, or an opt among corners, where a size is negative; nil when there is none, or when the profile
  /// leaves a symbol open.
  private func negativeCorner(of dim: Dim) -> String? {
    let own = dim.symbols.compactMap { ranges[$0.name] }
    guard own.count == dim.symbols.count, own.count <= 6 else { return nil }
    var corners: [Sizes] = [[:]]
    for range in own {
      let choices = Set([range.min, range.opt, range.max]).sorted()
      corners = corners.flatMap { corner in choices.map { corner.merging([range.symbol: $0]) { first, _ in first } } }
    }
    let found = corners.first { corner in (dim.evaluate { corner[$0] } ?? 0) < 0 }
    return found.map { corner in own.map { "\($0.symbol)=\(corner[$0.symbol] ?? 0)" }.joined(separator: ", ") }
  }
}
