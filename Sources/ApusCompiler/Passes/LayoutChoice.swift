import ApusCore
import ApusGraph
import ApusOps

/// Where the channels of each convolution and pool are to be.
///
/// They come last unless something else is asked for, and pools follow the convolutions around them. Each decision says what it
/// should gain: the transposes that it needs and spares, by what is around the node, and what computing the node takes.
struct LayoutChoice {
  /// Results of nodes whose channels are to come last, and of those that stay as they are.
  private(set) var last: Set<ValueID> = []
  private(set) var first: Set<ValueID> = []
  private var entries: [FusionLog.Entry] = []
  private let graph: Graph
  private let users: [ValueID: [NodeID]]
  private let settings: PassSettings

  /// Nodes that are looked at around another, in each direction.
  private static let reach = 64
  private static let passed = Set(Permutable.names + Layout.windowed)

  init(of graph: Graph, _ settings: PassSettings) {
    self.graph = graph
    self.settings = settings
    users = graph.uses()
    let nodes = graph.order.filter { id in
      Layout.windowed.contains(graph[id].op.name) && graph[id].op.attributes["layout"] == .string("nchw")
        && graph.type(graph[id].inputs[0]).tensor != nil
    }
    let movable = nodes.filter { Layout.refusal(graph[$0], graph) == nil }
    let convolutions = movable.filter(isConvolution)
    for id in convolutions { decide(id, settings.wishes.layout(of: graph[id].name) ?? .nhwc) }
    let hasLast = !last.isEmpty
    for id in movable where !isConvolution(id) {
      let around = ends(of: id).flatMap { $0 }.compactMap(\.convolution)
      let follows: ImageLayout =
        around.isEmpty ? (hasLast ? .nhwc : .nchw) : around.allSatisfy(first.contains) ? .nchw : .nhwc
      decide(id, settings.wishes.layout(of: graph[id].name) ?? follows)
    }
    for id in nodes { entries.append(entry(id)) }
  }

  func record(in log: inout FusionLog) {
    for entry in entries { log.record(entry) }
  }

  private func isConvolution(_ id: NodeID) -> Bool { ["conv", "conv_transpose"].contains(graph[id].op.name) }

  private mutating func decide(_ id: NodeID, _ layout: ImageLayout) {
    let result = graph[id].outputs[0]
    if layout == .nhwc { last.insert(result) } else { first.insert(result) }
  }

  private func entry(_ id: NodeID) -> FusionLog.Entry {
    let node = graph[id]
    let isLast = last.contains(node.outputs[0])
    var entry = FusionLog.Entry(
      producer: node.op.name, consumer: "channels last", isTaken: isLast,
      reason: Layout.refusal(node, graph) ?? reason(id, isLast))
    entry.subject = .layout
    entry.producerNodes = [node.name]
    entry.consumerNode = node.name
    if isConvolution(id), Layout.refusal(node, graph) == nil, let target = settings.target {
      let (transposes, computing) = gain(id, target)
      entry.microseconds = transposes + computing
      // How much longer generated loops take than a template is the less certain part.
      entry.isOpen = isLast ? transposes + computing / 8 < 0 : transposes + computing * 8 > 0
    }
    return entry
  }

  private func reason(_ id: NodeID, _ isLast: Bool) -> String {
    if settings.wishes.layout(of: graph[id].name) != nil { return "it is asked for" }
    if isConvolution(id) { return "templates compute it so" }
    return "as the convolutions around it"
  }

  // MARK: What is around

  /// Where a value comes from or goes to through nodes that do the same in any order of axes.
  private enum End {
    /// A convolution, by its result.
    case convolution(ValueID)
    /// A transposition that channels that come last take back.
    case transposition
    case other

    var convolution: ValueID? { if case .convolution(let value) = self { value } else { nil } }
  }

  /// What is before and behind a node.
  private func ends(of id: NodeID) -> [[End]] {
    var seen: Set<NodeID> = [id]
    let before = above(graph[id].inputs[0], &seen)
    return [before, below(graph[id].outputs[0], &seen)]
  }

  private func above(_ value: ValueID, _ seen: inout Set<NodeID>) -> [End] {
    guard let producer = graph.producer(value) else { return graph[value].constant == nil ? [.other] : [] }
    if seen.count > Self.reach || !seen.insert(producer).inserted { return [] }
    let node = graph[producer]
    if isConvolution(producer) { return [.convolution(value)] }
    if node.op.name == "transpose" { return [isTaken(node, back: true) ? .transposition : .other] }
    guard isPassed(node, value) else { return [.other] }
    return node.inputs.filter { isData($0, node) }.flatMap { above($0, &seen) }
  }

  private func below(_ value: ValueID, _ seen: inout Set<NodeID>) -> [End] {
    var found: [End] = graph.outputs.contains(value) ? [.other] : []
    for user in users[value] ?? [] {
      if seen.count > Self.reach || !seen.insert(user).inserted { continue }
      let node = graph[user]
      if isConvolution(user) {
        found.append(.convolution(node.outputs[0]))
      } else if node.op.name == "transpose" {
        found.append(isTaken(node, back: false) ? .transposition : .other)
      } else if isPassed(node, value) {
        found += below(node.outputs[0], &seen)
      } else {
        found.append(.other)
      }
    }
    return found
  }

  private func isPassed(_ node: Node, _ value: ValueID) -> Bool {
    node.outputs.count == 1 && Self.passed.contains(node.op.name)
      && graph.type(node.outputs[0]).tensor?.rank == graph.type(value).tensor?.rank
  }

  private func isData(_ value: ValueID, _ node: Node) -> Bool {
    graph[value].constant == nil && graph.type(value).tensor?.rank == graph.type(node.outputs[0]).tensor?.rank
  }

  /// Whether a transposition brings channels to their place from the end, or there.
  private func isTaken(_ node: Node, back: Bool) -> Bool {
    guard let perm = try? node.op.attributes.ints("perm"), perm.count > 2 else { return false }
    let toLast = [0] + Array(2..<perm.count) + [1]
    return perm == (back ? [0, perm.count - 1] + Array(1..<perm.count - 1) : toLast)
  }

  // MARK: Cost

  /// Microseconds that a run should save with channels last: by transposes, and by how the node is computed.
  private func gain(_ id: NodeID, _ target: any Target) -> (transposes: Double, computing: Double) {
    let node = graph[id]
    var transposes = 0.0
    for (ends, value) in zip(ends(of: id), [node.inputs[0], node.outputs[0]]) {
      let once = transposition(of: value, target)
      let own = node.outputs[0]
      let isAlready = ends.contains { end in
        switch end {
        case .convolution(let other): other != own && last.contains(other)
        case .transposition: true
        case .other: false
        }
      }
      let isNot = ends.contains { end in
        switch end {
        case .convolution(let other): first.contains(other)
        case .transposition: false
        case .other: true
        }
      }
      transposes += (isAlready ? once : 0) - (isNot ? once : 0)
    }
    return (transposes, slowdown(node, target))
  }

  /// What it takes to bring a value's channels to the other place.
  private func transposition(of value: ValueID, _ target: any Target) -> Double {
    let type = graph.tensorType(value)
    if type.shape[1] == 1 || type.shape[2...].allSatisfy({ $0 == 1 }) { return 0 }
    let bytes = Double(type.elementCount.estimate * type.dtype.byteCount)
    return 2 * bytes / target.rates.bytes + target.rates.launch
  }

  /// What computing a node takes longer with channels first.
  private func slowdown(_ node: Node, _ target: any Target) -> Double {
    if Layout.isOfSinglePixels(node, graph) {
      // The planes are brought into the product's order in each run, where they are its pixels else.
      return transposition(of: node.inputs[0], target)
    }
    if !isTemplates(node, target) { return 0 }
    let work = Double(node.op.work(node.inputs.map(graph.type), node.outputs.map(graph.type)).estimate)
    return work / target.rates.operations
  }

  /// Whether templates compute convolutions of this kind and type with channels last.
  private func isTemplates(_ node: Node, _ target: any Target) -> Bool {
    let type = graph.tensorType(node.inputs[0])
    let spatial = Array(repeating: 64, count: type.rank - 2)
    var probe = Graph()
    let x = probe.addInput("x", .tensor(TensorType(type.dtype, ([1] + spatial + [64]).map { Dim($0) })))
    let weights = probe.addConstant(HostTensor(type.dtype, [64] + spatial.map { _ in 1 } + [64]))
    let attributes = Attributes(
      node.op.attributes.entries.map { entry in
        switch entry.name {
        case "layout": (entry.name, .string("nhwc"))
        case "groups": (entry.name, .int(1))
        default: (entry.name, entry.value)
        }
      })
    guard let op = try? Catalogue.standard.make(node.op.name, attributes), (try? probe.add(op, [x, weights])) != nil,
      let id = probe.order.last
    else { return true }
    return target.templates.contains { $0.refusal(probe[id], in: probe) == nil }
  }
}
