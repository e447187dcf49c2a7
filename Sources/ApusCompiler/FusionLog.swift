/// What was considered for fusion and why it was taken or refused, in order.
package struct FusionLog: Sendable {
  package struct Entry: Sendable {
    /// What would be computed inside `consumer` instead of being stored.
    package let producer: String
    package let consumer: String
    package let isTaken: Bool
    package let reason: String
  }

  package private(set) var entries: [Entry] = []

  package init() {}

  package mutating func record(_ producer: String, into consumer: String, taken: Bool, _ reason: String) {
    entries.append(Entry(producer: producer, consumer: consumer, isTaken: taken, reason: reason))
  }

  /// One line an entry: `taken`, `refused`, producer, consumer, reason.
  package var text: String {
    entries.map { entry in
      "\(entry.isTaken ? "taken  " : "refused") \(entry.producer) -> \(entry.consumer): \(entry.reason)\n"
    }.joined()
  }
}
