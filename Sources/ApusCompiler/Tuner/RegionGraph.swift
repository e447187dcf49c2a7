import ApusCore
import ApusGraph
import ApusOps
import ApusPlan

/// A region that a template computes as a graph of its own, from which it can be compiled again in other ways.
struct RegionGraph {
  /// The region with one more input, whose elements are the sizes that its symbols stand for, where it has symbols.
  let graph: Graph
  /// What each symbol is tuned for.
  let sizes: [String: Int]
  /// Name of the input that holds the sizes.
  static let sizesName = "sizes"

  /// What a step says of the other ways to compute its region; nil where the region cannot stand by itself.
  ///
  /// - Parameters:
  ///   - tactics: names, the one that the cost model prefers first.
  ///   - packs: whether constants of the anchors are kept as a tactic wants them.
  static func alternatives(to region: AnchorRegion, _ tactics: [String], packs: Bool = true) -> Alternatives? {
    guard tactics.count > 1, let graph = extract(region, packs) else { return nil }
    let text = GraphText(graph)
    let constants = (0..<text.constants.count).compactMap { text.constants["c\($0)"]?.type }
    return Alternatives(
      region: text.text, constants: constants, tactics: tactics,
      chosen: tactics[0], stepCount: 1)
  }

  /// The nodes of a region with what they read as inputs. The anchors' constants stay constants, since templates keep them in
  /// layouts of their own.
  private static func extract(_ region: AnchorRegion, _ packs: Bool) -> Graph? {
    let source = region.graph
    let stages = region.stages
    var nodes = Set(region.allNodes)
    // Parts of tensors, and values inside that are read from memory, are no inputs of a graph of these nodes.
    if stages.contains(where: { $0.views.values.contains { $0.permutation == nil } }) { return nil }
    if stages.contains(where: { $0.operands.contains { source.producer($0).map(nodes.contains) ?? false } }) {
      return nil
    }
    for input in stages.flatMap(\.views.keys) {
      if let producer = source.producer(input) { nodes.insert(producer) }
    }
    let anchorOperands = !packs ? [] : Set(stages.flatMap { stage in stage.node.inputs.map { stage.source(of: $0) } })
    var graph = Graph()
    var values: [ValueID: ValueID] = [:]
    for id in source.order where nodes.contains(id) {
      let node = source[id]
      for input in node.inputs where values[input] == nil {
        if let constant = source[input].constant, anchorOperands.contains(input) {
          values[input] = graph.addConstant(constant)
        } else {
          values[input] = graph.addInput("x\(graph.inputs.count)", source.type(input))
        }
      }
      guard let results = try? graph.add(node.op, node.inputs.compactMap { values[$0] }),
        results.map(graph.type) == node.outputs.map(source.type)
      else { return nil }
      for (output, result) in zip(node.outputs, results) { values[output] = result }
    }
    guard let result = values[region.result] else { return nil }
    graph.outputs = [result]
    graph.outputNames = ["y"]
    return graph
  }

  /// The region of some steps.
  ///
  /// - Parameter given: constants by number, borrowed as those in files are; nil for made-up ones.
  /// - Throws: ``BuildError`` `APUS-B-0055` when the text is not one.
  init(_ alternatives: Alternatives, constants given: ((Int) -> HostTensor)? = nil) throws(BuildError) {
    var constants: [String: HostTensor] = [:]
    for (index, type) in alternatives.constants.enumerated() {
      constants["c\(index)"] = given?(index) ?? Self.standIn(type, seed: UInt64(index + 1))
    }
    do {
      var graph = try GraphText.parse(alternatives.region, catalogue: .standard, constants: constants)
      let symbols = GraphText.symbols(of: graph)
      if !symbols.isEmpty {
        let sizes = graph.addInput(Self.sizesName, .tensor(TensorType(.i64, sizes: [symbols.count])))
        graph[sizes].dims = symbols.map { Dim($0) }
      }
      self.graph = graph
      sizes = Dictionary(uniqueKeysWithValues: symbols.map { ($0.name, Dim($0).estimate) })
    } catch {
      throw BuildError(
        "APUS-B-0055", "a region of the engine cannot be read: \(error)", hint: "Build the engine again.")
    }
  }

  /// A made-up constant, marked as one whose packed forms are worth keeping.
  private static func standIn(_ type: TensorType, seed: UInt64) -> HostTensor? {
    guard let shape = type.constantShape, type.dtype != .string else { return nil }
    let tensor = RandomTensor.make(type.dtype, shape, seed: seed, range: type.dtype.isFloat ? -1...1 : nil)
    let storage = HostStorage(
      borrowing: tensor.storage.base, byteCount: tensor.byteCount, owner: tensor.storage)
    return HostTensor(dtype: type.dtype, shape: shape, storage: storage)
  }
}
