import ApusCore
import ApusGraph
import ApusImport

/// What `apus inspect` says about a model that has not been built.
struct ModelReport {
  let model: Model
  let fileByteCount: Int

  private var graph: Graph { model.graph }

  private var outputs: [(name: String, type: ValueType)] {
    zip(graph.outputNames, graph.outputs).map { ($0, graph.type($1)) }
  }

  /// How often each operation occurs, the most frequent first.
  private var operations: [(name: String, count: Int)] {
    var counts: [String: Int] = [:]
    for id in graph.order { counts[graph[id].op.name, default: 0] += 1 }
    return counts.map { (name: $0.key, count: $0.value) }.sorted { ($1.count, $0.name) < ($0.count, $1.name) }
  }

  private var constantBytes: Int {
    graph.values.reduce(0) { $0 + ($1.constant?.byteCount ?? 0) }
  }

  var text: String {
    let opsets = model.opsets.sorted { $0.key < $1.key }.map { "\($0.key.isEmpty ? "ai.onnx" : $0.key) \($0.value)" }
    var text = """
      Model \(model.name) (\(Units.bytes(fileByteCount)))
        producer: \(model.producer.isEmpty ? "not stated" : model.producer)
        operator sets: \(opsets.joined(separator: ", "))

      """
    func lines(_ bindings: [(name: String, type: ValueType)]) -> String {
      bindings.map { "  \($0.name): \($0.type)\n" }.joined()
    }
    text += "Inputs\n" + lines(model.inputTypes) + "Outputs\n" + lines(outputs)
    let listed = operations.map { "\($0.name) \($0.count)" }.joined(separator: ", ")
    text += "Operations (\(graph.order.count))\n  \(listed)\n"
    text += "Constants\n  \(Units.bytes(constantBytes))\n"
    if !model.metadata.isEmpty {
      text += "Metadata\n" + model.metadata.sorted { $0.key < $1.key }.map { "  \($0.key): \($0.value)\n" }.joined()
    }
    return text
  }

  var json: JSON {
    .object([
      ("kind", .string("model")), ("name", .string(model.name)), ("file_bytes", .int(fileByteCount)),
      ("producer", .string(model.producer)),
      ("opsets", .object(model.opsets.sorted { $0.key < $1.key }.map { ($0.key, .int($0.value)) })),
      ("metadata", .object(model.metadata.sorted { $0.key < $1.key }.map { ($0.key, .string($0.value)) })),
      ("inputs", .array(model.inputTypes.map { JSON.binding($0.name, $0.type) })),
      ("outputs", .array(outputs.map { JSON.binding($0.name, $0.type) })),
      ("symbols", .array(model.symbols.map(JSON.symbol))),
      ("operations", .object(operations.map { ($0.name, .int($0.count)) })), ("constant_bytes", .int(constantBytes)),
    ])
  }
}
