import ApusCore

extension GraphText {
  /// A hash of all that a graph computes, constants included. The ranges of its symbols do not count.
  package static func contentHash(of graph: Graph) -> String {
    var printer = GraphPrinter()
    printer.print(graph, indent: "", symbols: [])
    var hash = ContentHash()
    hash.add(printer.text)
    for index in 0..<printer.constants.count {
      guard let tensor = printer.constants["c\(index)"] else { continue }
      tensor.withUnsafeBytes { hash.add($0) }
      for string in tensor.strings { hash.add(string) }
    }
    return hash.hex
  }
}
