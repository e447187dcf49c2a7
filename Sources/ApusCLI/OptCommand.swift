import Apus
import ApusCompiler
import ApusCore
import ApusGraph
import ApusImport
import ApusOps
import ArgumentParser

/// Shows what optimisation does to a model.
struct OptCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "opt",
    abstract: "Print a model's graph before and after passes.",
    discussion: """
      The model is an ONNX file, or a graph as text that starts with `graph` or `//`. Passes run in the order given; `all` stands for those of a build.

        apus opt model.onnx --passes fold,simplify
        apus opt graph.txt --passes all --after-only

      Passes:
      \(passList)
      """)

  @Argument(help: "The model (.onnx) or graph text.", completion: .file())
  var model: String

  @Option(help: ArgumentHelp("Passes to run, or 'all'.", valueName: "a,b,…"))
  var passes = "all"

  @Option(help: ArgumentHelp("Fix the shape of an input of an ONNX model.", valueName: "NAME=1x3x640x640"))
  var shape: [String] = []

  @Flag(help: "Print the graph after the passes only.")
  var afterOnly = false

  @Flag(help: "Print which rewrites and fusions were taken and refused.")
  var log = false

  /// The passes there are, each once, by name.
  private static var known: [Pass] {
    Pass.standard.reduce(into: []) { known, pass in
      if !known.contains(where: { $0.name == pass.name }) { known.append(pass) }
    }
  }

  private static var passList: String {
    known.map { "  \($0.name): \($0.summary)" }.joined(separator: "\n")
  }

  func run() throws {
    let selected = try Self.select(passes)
    var graph = try load()
    if !afterOnly { print("// before\n" + GraphText(graph).text) }
    var record = FusionLog()
    for pass in selected { try pass.apply(&graph, &record) }
    if !afterOnly { print("// after \(selected.map(\.name).joined(separator: ", "))") }
    print(GraphText(graph).text, terminator: "")
    if log { print("\n" + record.text, terminator: "") }
  }

  /// - Throws: ``UsageError`` `APUS-C-0017` for each name that is not known.
  static func select(_ list: String) throws(UsageError) -> [Pass] {
    if list == "all" { return Pass.standard }
    var problems = UsageProblems()
    var selected: [Pass] = []
    for name in list.split(separator: ",").map(String.init) {
      if let pass = known.first(where: { $0.name == name }) {
        selected.append(pass)
      } else {
        problems.add(
          "APUS-C-0017", "there is no pass '\(name)'", place: "--passes",
          hint: Spelling.hint(for: name, in: known.map(\.name)))
      }
    }
    try problems.throwIfAny()
    return selected
  }

  private func load() throws -> Graph {
    let shapes = try ShapeArguments(shape, inputs: nil).byName
    let file: MappedFile
    do { file = try MappedFile(path: model) } catch { throw UsageError("APUS-C-0022", error.description) }
    let isText = withExtendedLifetime(file) {
      ["graph", "//"].contains { file.bytes.starts(with: Array($0.utf8)) }
    }
    if !isText { return try importModel(model, shapes: shapes).graph }
    let text = withExtendedLifetime(file) { String(decoding: file.bytes, as: UTF8.self) }
    do { return try GraphText.parse(text, catalogue: .standard) } catch { throw error.at(model) }
  }
}
