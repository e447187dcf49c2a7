import Apus
import ApusCore
import ApusGraph
import ApusImport
import ApusPlan

extension Model {
  /// Names and types of the inputs.
  var inputTypes: [(name: String, type: ValueType)] { graph.inputs.map { (graph[$0].name, graph.type($0)) } }

  /// Symbols of the inputs' shapes, in order of first occurrence.
  var symbols: [Symbol] {
    var symbols: [Symbol] = []
    for input in inputTypes {
      for symbol in input.type.tensor?.shape.flatMap(\.symbols) ?? [] where !symbols.contains(symbol) {
        symbols.append(symbol)
      }
    }
    return symbols
  }
}
