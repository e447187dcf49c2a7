package import ApusCore

extension GraphText {
  /// What distinguishes an operation from others of its name, as a node's text spells it: attributes and bodies, with all
  /// constants spelled out.
  package static func details(of op: any Operation) -> String {
    var printer = GraphPrinter()
    printer.largestInline = .max
    printer.print(op, indent: "")
    return printer.text
  }

  /// The operation of a name with the details that ``details(of:)`` wrote.
  ///
  /// - Throws: ``GraphError`` `APUS-G-0040` with line and column of what does not fit, or what the operation refuses.
  package static func parse(
    operation name: String, details: String, catalogue: Catalogue
  ) throws(GraphError) -> any Operation {
    var parser = GraphParser(details, catalogue: catalogue, constants: [:])
    return try parser.parseOperation(name)
  }
}
