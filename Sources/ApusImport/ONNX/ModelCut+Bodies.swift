package import ApusCore
import SwiftProtobuf

extension ModelCut {
  /// Which body of which node: the node's first result, and the attribute that holds the body.
  package struct BodyPlace: Hashable, Sendable {
    package var result: String
    package var attribute: String
  }

  /// The ways to all bodies that nodes have, each before those in it.
  package var bodyPaths: [[BodyPlace]] { Self.paths(model.graph.node) }

  private static func paths(_ nodes: [Onnx_NodeProto]) -> [[BodyPlace]] {
    nodes.flatMap { node in
      node.attribute.filter(\.hasG).flatMap { attribute -> [[BodyPlace]] in
        let place = BodyPlace(result: node.output.first ?? "", attribute: attribute.name)
        return [[place]] + paths(attribute.g.node).map { [place] + $0 }
      }
    }
  }

  /// How many nodes a body has, those of its own bodies not among them; none where there is no such body.
  package func nodeCount(in path: [BodyPlace]) -> Int { body(path[...])?.node.count ?? 0 }

  private func body(_ path: ArraySlice<BodyPlace>) -> Onnx_GraphProto? {
    var nodes = model.graph.node
    var found: Onnx_GraphProto?
    for place in path {
      let node = nodes.first { $0.output.first == place.result }
      found = node?.attribute.first { $0.hasG && $0.name == place.attribute }?.g
      nodes = found?.node ?? []
    }
    return found
  }

  private static func change(
    _ nodes: inout [Onnx_NodeProto], _ path: ArraySlice<BodyPlace>, to body: Onnx_GraphProto
  ) {
    guard let place = path.first, let n = nodes.firstIndex(where: { $0.output.first == place.result }),
      let a = nodes[n].attribute.firstIndex(where: { $0.hasG && $0.name == place.attribute })
    else { return }
    if path.count == 1 {
      nodes[n].attribute[a].g = body
    } else {
      change(&nodes[n].attribute[a].g.node, path.dropFirst(), to: body)
    }
  }

  /// Without nodes of a body: what they computed becomes an input of the model, or as a result of the body what they took, where that
  /// has the same type.
  ///
  /// - Parameter type: the type of a value by name, its sizes known; nil where it is not.
  /// - Returns: nil when a value that is still needed has no known type, or a name that another value has too.
  package func without(_ places: Set<Int>, in path: [BodyPlace], type: (String) -> TensorType?) -> ModelCut? {
    guard var body = self.body(path[...]) else { return nil }
    let gone = Set(places.flatMap { body.node[$0].output }).subtracting([""])
    let taken = places.sorted().flatMap { Self.uses(body.node[$0]) }
    body.node = body.node.enumerated().filter { !places.contains($0.offset) }.map(\.element)
    let made = Set(body.node.flatMap(\.output)).subtracting(body.node.flatMap(Self.uses) + body.output.map(\.name))
    for index in body.output.indices where gone.contains(body.output[index].name) {
      guard let wanted = type(body.output[index].name) else { return nil }
      if let other = taken.first(where: { made.contains($0) && type($0) == wanted }) { body.output[index].name = other }
    }
    let needed = gone.intersection(body.node.flatMap(Self.uses) + body.output.map(\.name))
    var cut = self
    Self.change(&cut.model.graph.node, path[...], to: body)
    let others = Self.definitions(cut.model.graph)
    for name in needed.sorted() {
      guard !others.contains(name), let input = type(name).flatMap({ Self.input(name, $0) }) else { return nil }
      cut.model.graph.input.append(input)
    }
    return cut.pruned()
  }

  private static func definitions(_ graph: Onnx_GraphProto) -> Set<String> {
    var names = Set(graph.input.map(\.name) + graph.initializer.map(\.name) + graph.node.flatMap(\.output))
    for attribute in graph.node.flatMap(\.attribute) where attribute.hasG { names.formUnion(definitions(attribute.g)) }
    return names
  }

  /// With what a body computes in place of its node: the taken branch, or one round of a loop.
  ///
  /// - Parameter type: the type of a value by name; nil where it is not known.
  /// - Returns: nil when there is no such body, or a result that is used has no known type.
  package func opened(_ path: [BodyPlace], type: (String) -> TensorType?) -> ModelCut? {
    guard let place = path.first else { return self }
    guard let index = model.graph.node.firstIndex(where: { $0.output.first == place.result }),
      let body = self.body(path[..<1])
    else { return nil }
    let node = model.graph.node[index]
    let (inputs, outputs) = Self.correspondence(node, body)
    func copies(_ pairs: [(from: String, to: String)]) -> [Onnx_NodeProto] {
      pairs.filter { !$0.from.isEmpty && !$0.to.isEmpty && $0.from != $0.to }.map { pair in
        .with { ($0.opType, $0.input, $0.output) = ("Identity", [pair.from], [pair.to]) }
      }
    }
    var cut = self
    cut.model.graph.node.replaceSubrange(index...index, with: copies(inputs) + body.node + copies(outputs))
    cut.model.graph.initializer += body.initializer
    cut.model.graph.input += body.input.filter { input in !inputs.contains { $0.to == input.name } }
    let used = Set(cut.model.graph.node.flatMap(Self.uses) + outputNames)
    for name in node.output where used.contains(name) && !outputs.contains(where: { $0.to == name }) {
      guard let input = type(name).flatMap({ Self.input(name, $0) }) else { return nil }
      cut.model.graph.input.append(input)
    }
    let made = Set(cut.computedNames)
    let unseen = body.output.map(\.name).filter { !used.contains($0) && made.contains($0) }
    cut = cut.giving(outputNames.filter(made.contains) + unseen)
    if cut.outputNames.isEmpty { return nil }
    return cut.opened(Array(path.dropFirst()), type: type)
  }

  /// What a node gives to the inputs of its body, and which of the body's results are its own.
  private static func correspondence(
    _ node: Onnx_NodeProto, _ body: Onnx_GraphProto
  ) -> (inputs: [(from: String, to: String)], outputs: [(from: String, to: String)]) {
    let (inputs, outputs) = (body.input.map(\.name), body.output.map(\.name))
    func pairs(_ from: some Sequence<String>, _ to: some Sequence<String>) -> [(from: String, to: String)] {
      zip(from, to).map { (from: $0, to: $1) }
    }
    switch node.opType {
    case "If": return ([], pairs(outputs, node.output))
    case "Loop":
      let states = max(0, inputs.count - 2)
      return (
        pairs(node.input.dropFirst(2), inputs.dropFirst(2)), pairs(outputs.dropFirst().prefix(states), node.output)
      )
    case "Scan":
      let scans = node.attribute.first { $0.name == "num_scan_inputs" }.map { Int($0.i) } ?? 0
      let states = max(0, inputs.count - scans)
      return (pairs(node.input.prefix(states), inputs), pairs(outputs.prefix(states), node.output))
    default: return ([], [])
    }
  }
}
