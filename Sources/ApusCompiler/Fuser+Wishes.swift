import ApusCore
import ApusGraph

/// Why something is not computed inside of what needs it.
struct Refusal {
  let reason: String
  /// How often each element would be computed, and operations on top, where it is refused because of what that costs.
  let repeats: Double?
  let heavyWork: Double?
  /// Whether something else that a template computes is inside in its place.
  let isRival: Bool

  init(_ reason: String, repeats: Double? = nil, heavyWork: Double? = nil, isRival: Bool = false) {
    self.isRival = isRival
    self.reason = reason
    self.repeats = repeats
    self.heavyWork = heavyWork
  }

  /// Whether it could be done at a cost.
  var isByCost: Bool { repeats != nil || heavyWork != nil }
}

/// What is asked for, and what is said of each decision.
extension Fuser {
  /// Names of the model's nodes.
  func names(_ nodes: [NodeID]) -> [String] { nodes.map { graph[$0].name } }

  /// Whether these nodes may be in one step.
  func allows(_ nodes: [NodeID]) -> Bool { control.wishes.apart.isEmpty || control.wishes.allows(names(nodes)) }

  /// Writes down whether `producer` is computed inside of a node.
  mutating func record(
    _ producer: Pending, into id: NodeID, _ value: ValueID, taken: Bool, _ reason: String, _ refusal: Refusal?
  ) {
    var entry = FusionLog.Entry(
      producer: describe(producer.nodes), consumer: describe([id]), isTaken: taken, reason: reason)
    entry.producerNodes = names(producer.nodes)
    entry.consumerNode = graph[id].name
    entry.isRival = refusal?.isRival ?? false
    if refusal?.isByCost != false { entry.microseconds = gain(of: value, producer, refusal) }
    log.record(entry)
  }

  /// Writes down that a node reads from memory what else could have been computed inside.
  mutating func recordStores(before id: NodeID, _ inputs: [ValueID], _ reason: String) {
    for input in inputs {
      guard let producer = pending[input] else { continue }
      record(producer, into: id, input, taken: false, reason, Refusal(reason))
    }
  }

  /// Microseconds that a run should save when a value is not stored, by the rates of the target.
  private func gain(of value: ValueID, _ producer: Pending, _ refusal: Refusal?) -> Double {
    let type = graph.tensorType(value)
    let rates = target.rates
    let elements = Double(type.elementCount.estimate)
    let bytes = elements * Double(type.dtype.byteCount)
    // Where others need it in memory too, only reading it is saved.
    let isAlone = isUsedOnce(value)
    let saved = bytes * (isAlone ? 2 : 1) / rates.bytes + (isAlone ? rates.launch : 0)
    let again = (refusal?.repeats ?? (isAlone ? 1 : 2)) - 1
    let work = producer.anchor == nil ? elements * Double(max(1, producer.cost.functions)) : 0
    return saved - (again * work + (refusal?.heavyWork ?? 0)) / rates.operations
  }
}
