import Apus
import ApusCPUTarget
import ApusCUDATarget
import ApusCompiler
import ApusCore
import ApusGraph
import ApusImport
import ApusKernel
import ApusOps
import Testing

/// The pages of `docs/generated`, made from what the program itself knows.
enum GeneratedDocs {
  static var pages: [(name: String, text: () throws -> String)] {
    [
      ("ops.md", operations), ("onnx.md", onnx), ("knobs.md", knobs), ("tactics.md", tactics),
    ]
  }

  private static func page(_ title: String, _ introduction: String, _ rows: [String]) -> String {
    "# \(title)\n\n\(introduction)\n\nMade by `make docs`; do not edit.\n\n" + rows.joined(separator: "\n") + "\n"
  }

  private static func samples(_ name: String) -> [Sample] {
    Catalogue.standard.type(name)?.samples.filter { $0.op.name == name } ?? []
  }

  // MARK: Operations

  private static func operations() throws -> String {
    let names = Catalogue.standard.names
    var rows = ["| operation | attributes | operands it is tested on | kernel |", "|---|---|---|---|"]
    for name in names {
      var attributes: [String] = []
      var operands: [String] = []
      for sample in samples(name) {
        attributes += sample.op.attributes.entries.map(\.name).filter { !attributes.contains($0) }
        let types = sample.operands.joined(separator: ", ")
        if !types.isEmpty, !operands.contains(types) { operands.append(types) }
      }
      let form = try samples(name).contains(where: hasElementForm) ? "loops" : ""
      let shown = operands.prefix(3).map { "`\($0)`" }.joined(separator: " or ") + (operands.count > 3 ? ", …" : "")
      rows.append("| `\(name)` | \(attributes.joined(separator: ", ")) | \(shown) | \(form) |")
    }
    return page(
      "Operations",
      """
      The \(names.count) operations that graphs are made of. `loops` in the last column: the operation has a form as a \
      function of its operands' elements, so that it is fused with its neighbours into generated loops. The others are \
      computed by a kernel template where [one accepts them](tactics.md), or decomposed, else on the host by their \
      reference.
      """, rows)
  }

  private static func hasElementForm(_ sample: Sample) throws -> Bool {
    let symbols = symbols(of: sample)
    let types = try sample.operands.map { try ValueType(parsing: $0, symbols: symbols) }
    let op = try sample.op.substituting { symbol in symbols[symbol.name].map { Dim($0) } }
    let results = try op.infer(types).compactMap(\.tensor)
    let arena = ExprArena()
    let operands = types.compactMap(\.tensor).map { Operand(argument: arena.addBuffer($0.dtype), $0) }
    guard operands.count == types.count, !results.isEmpty else { return false }
    return op.lower(operands, results) != nil
  }

  private static func symbols(of sample: Sample) -> [String: Symbol] {
    Dictionary(
      uniqueKeysWithValues: sample.symbols.map {
        ($0.key, Symbol($0.key, Interval($0.value.lowerBound, $0.value.upperBound)))
      })
  }

  // MARK: ONNX

  private static func onnx() throws -> String {
    let uses = try OperatorUse.all()
    #expect(
      uses.map(\.name) == OperatorTable.names, "Cases/operators.txt has one line for each operator, in their order")
    let bodies = uses.filter(\.isBodies).map { "`\($0.name)`" }
    let support = try OperatorSupport()
    let head = "| operator | " + DType.allCases.map(\.rawValue).joined(separator: " | ") + " |"
    let rows = try uses.filter { !$0.isBodies }.map { use in
      try "| \(use.name) | " + DType.allCases.map { try support.cell(use, $0) }.joined(separator: " | ") + " |"
    }
    let others = uses.count { $0.name.contains("::") }
    return page(
      "ONNX operators",
      """
      The \(uses.count) ONNX operators that are read: \(uses.count - others) of the default domain, in operator sets 7 to 28, and \
      \(others) of others. A model with an operator that is missing here, and that has no function body in the \
      model, is refused with the names of all its nodes that are not supported.

      The table says who computes an operator for each type of the elements that vary in a use of it (`Cases/operators.txt`): the \
      first letter is for the CPU, the second for CUDA. `k`: kernels, `h`: the host does some part of it, nothing: the type is \
      refused. \(bodies.joined(separator: ", ")) are not in it: what they do depends on their bodies.
      """, [head, "|---" + String(repeating: "|---", count: DType.allCases.count) + "|"] + rows)
  }

  // MARK: Knobs

  private static func knobs() -> String {
    let rows = Knobs.all.sorted { $0.name < $1.name }.map {
      "| `\($0.name)` | \($0.values.replacing("|", with: " or ")) | `\($0.defaultValue)` | \($0.summary) |"
    }
    return page(
      "Knobs", "Environment settings that help to find faults; `apus knobs` shows the values in force.",
      ["| name | accepted | default | what |", "|---|---|---|---|"] + rows)
  }

  // MARK: Tactics

  private static func tactics() throws -> String {
    let cpu = try templates(of: try CPUCodeTarget(name: "x86-64-v3", machineFeatures: [], jobs: 1))
    let loops = CPUCodeTarget.loopTactics.map { "`\($0)`" }.joined(separator: ", ")
    let ways = "Generated loops that take long enough have these tactics, where they give other code: \(loops)."
    let cuda = try templates(of: try CUDACodeTarget(name: "sm_90a", native: nil, jobs: 1))
    return page(
      "Tactics",
      """
      How a region of the graph is computed. Templates are asked in this order; what none accepts becomes generated loops \
      (`loops`) where its operations have an element form, and a call of the reference on the host (`host`) where not. \
      Listed are the operations that each template takes in the form they have after the passes, layout included.
      """, ["## The CPU", ""] + cpu + ["", ways, "", "## CUDA", ""] + cuda)
  }

  /// A table of a target's templates.
  private static func templates(of target: any Target) throws -> [String] {
    var accepted: [String: Set<String>] = [:]
    for name in Catalogue.standard.names {
      for sample in samples(name) {
        guard let graph = try? optimised(sample) else { continue }
        for id in graph.order {
          for template in target.templates where template.refusal(graph[id], in: graph) == nil {
            accepted[template.name, default: []].insert(graph[id].op.name)
          }
        }
      }
    }
    let rows = target.templates.map { template in
      "| \(template.name) | \((accepted[template.name] ?? []).sorted().map { "`\($0)`" }.joined(separator: ", ")) |"
    }
    return ["| template | operations |", "|---|---|"] + rows
  }

  /// A graph of the sample's operation on an input and constants, as the passes leave it.
  private static func optimised(_ sample: Sample) throws -> Graph {
    let sizes = sample.symbols.mapValues(\.upperBound)
    let types = try sample.operands.map {
      try ValueType(parsing: $0, symbols: symbols(of: sample)).substituting { symbol in
        sizes[symbol.name].map { Dim($0) }
      }
    }
    var graph = Graph()
    var operands: [ValueID] = []
    for (index, type) in types.enumerated() {
      if index > 0, let tensor = type.tensor, let shape = tensor.constantShape {
        let constant = sample.constants[index] ?? RandomTensor.make(tensor.dtype, shape, seed: UInt64(index))
        operands.append(graph.addConstant(constant))
      } else {
        operands.append(graph.addInput("x\(index)", type))
      }
    }
    let op = try sample.op.substituting { symbol in sizes[symbol.name].map { Dim($0) } }
    graph.outputs = try graph.add(op, operands)
    graph.outputNames = graph.outputs.indices.map { "y\($0)" }
    var log = FusionLog()
    for pass in Pass.standard { try pass.apply(&graph, &log) }
    return graph
  }
}
