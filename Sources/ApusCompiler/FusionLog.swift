/// What was considered for fusion and for another layout, and why it was taken or refused, in order.
package struct FusionLog: Sendable {
  /// What is decided.
  package enum Subject: Sendable {
    /// Whether something is computed inside of something else.
    case fusion
    /// Whether channels are last.
    case layout
  }

  package struct Entry: Sendable {
    package var subject = Subject.fusion
    /// What would be computed inside `consumer` instead of being stored.
    package let producer: String
    package let consumer: String
    package let isTaken: Bool
    package let reason: String
    /// Names of the model's nodes.
    package var producerNodes: [String] = []
    package var consumerNode = ""
    /// What taking it should save in a run, by the cost model; less than nothing where it costs. Nil where it is no matter of cost.
    package var microseconds: Double?
    /// What taking it was measured to save in a run; 0 for what is within the noise. Nil where that was not tried.
    package var measuredMicroseconds: Double?
    /// Whether the other way may be faster, however far the estimate is off.
    package var isOpen = true
    /// Whether it is refused only because the consumer takes in something else that a template computes.
    package var isRival = false

    package init(producer: String, consumer: String, isTaken: Bool, reason: String) {
      self.producer = producer
      self.consumer = consumer
      self.isTaken = isTaken
      self.reason = reason
    }

    /// Which decision it is; nil where nothing can be wished for.
    package var key: [String]? {
      guard let producer = producerNodes.last, !producer.isEmpty, !consumerNode.isEmpty,
        subject == .layout || producer != consumerNode
      else { return nil }
      return [subject == .layout ? "layout" : "fusion", producer, consumerNode]
    }
  }

  package private(set) var entries: [Entry] = []

  package init() {}

  package mutating func record(_ producer: String, into consumer: String, taken: Bool, _ reason: String) {
    record(Entry(producer: producer, consumer: consumer, isTaken: taken, reason: reason))
  }

  package mutating func record(_ entry: Entry) { entries.append(entry) }

  /// Adds what was measured of a decision; what was measured of it first counts.
  package mutating func measure(_ decision: Entry, microseconds: Double) {
    for index in entries.indices
    where entries[index].key == decision.key && entries[index].measuredMicroseconds == nil {
      entries[index].measuredMicroseconds = microseconds
    }
  }

  /// One line an entry: `taken`, `refused`, producer, consumer, reason, what taking it should save.
  package var text: String {
    entries.map { entry in
      let gain =
        entry.microseconds.map { " (predicted \($0 < 0 ? "loss" : "gain") \(Self.text($0.magnitude)) us)" } ?? ""
      let measured =
        entry.measuredMicroseconds.map { " (measured \($0 < 0 ? "loss" : "gain") \(Self.text($0.magnitude)) us)" } ?? ""
      let nodes = entry.consumerNode.isEmpty ? "" : " [\(entry.consumerNode)]"
      return
        "\(entry.isTaken ? "taken  " : "refused") \(entry.producer) -> \(entry.consumer)\(nodes): \(entry.reason)\(gain)\(measured)\n"
    }.joined()
  }

  private static func text(_ microseconds: Double) -> String {
    let tenths = Int(min(microseconds * 10, 1e15).rounded())
    return "\(tenths / 10).\(tenths % 10)"
  }
}

/// How fast a usual machine of a target moves and computes, for estimates.
package struct MachineRates: Sendable {
  /// Bytes that are read or written, and simple operations done, in a microsecond.
  package var bytes: Double
  package var operations: Double
  /// Microseconds that a launch takes by itself.
  package var launch: Double

  package init(bytes: Double, operations: Double, launch: Double) {
    self.bytes = bytes
    self.operations = operations
    self.launch = launch
  }
}
