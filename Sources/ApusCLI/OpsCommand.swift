import ApusGraph
import ApusImport
import ApusOps
import ArgumentParser

/// Lists the operations and which operators of model formats become them.
struct OpsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ops",
    abstract: "List the operations, and the ONNX operators that are supported.",
    discussion: """
        apus ops
        apus ops --json | jq '.onnx | length'
      """)

  @Flag(help: "Print JSON.")
  var json = false

  func run() {
    let operations = Catalogue.standard.names
    let operators = OperatorTable.names
    if json {
      return print(JSON.object([("operations", .strings(operations)), ("onnx", .strings(operators))]))
    }
    print("Operations (\(operations.count))")
    print(Self.wrapped(operations))
    print("\nONNX operators (\(operators.count))")
    print(Self.wrapped(operators))
  }

  /// Words in lines of at most 100 characters, indented.
  static func wrapped(_ words: [String]) -> String {
    var lines: [String] = []
    var line = ""
    for (index, word) in words.enumerated() {
      let piece = index + 1 < words.count ? word + "," : word
      if !line.isEmpty, line.count + 1 + piece.count > 98 {
        lines.append("  " + line)
        line = ""
      }
      line += (line.isEmpty ? "" : " ") + piece
    }
    return (lines + ["  " + line]).joined(separator: "\n")
  }
}
