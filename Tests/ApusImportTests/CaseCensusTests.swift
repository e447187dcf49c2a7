import ApusCore
import ApusGraph
import ApusImport
import ApusOps
import ApusTesting
import Foundation
import Testing

/// Reads every model of a folder of test cases and computes it by the interpreter. Runs only where `APUS_ONNX_CASES` names
/// such a folder; `APUS_ONNX_FILTER` narrows it to names that contain a text.
@Suite(.enabled(if: ProcessInfo.processInfo.environment["APUS_ONNX_CASES"] != nil))
struct CaseCensusTests {
  @Test func countsImportableCases() throws {
    let environment = ProcessInfo.processInfo.environment
    let folder = try #require(environment["APUS_ONNX_CASES"])
    let filter = environment["APUS_ONNX_FILTER"] ?? ""
    var tally = Tally()
    for name in try FileManager.default.contentsOfDirectory(atPath: folder).sorted() {
      if name.contains("_expanded") || (!filter.isEmpty && !name.contains(filter)) { continue }
      guard let test = try? ConformanceCase(folder: "\(folder)/\(name)") else { continue }
      tally.total += 1
      do {
        let model = try load(test)
        tally.imported += 1
        try evaluate(test, model, &tally)
      } catch let error as ImportError {
        for problem in error.problems.prefix(3) { tally.add("import \(problem.code) \(problem.message)", name) }
      }
    }
    tally.print()
    #expect(tally.imported > 0)
  }

  struct Tally {
    var total = 0
    var imported = 0
    var passed = 0
    var failures: [String: [String]] = [:]

    mutating func add(_ message: String, _ name: String) { failures[message, default: []].append(name) }

    func print() {
      Swift.print("imported \(imported) of \(total), \(passed) right")
      for (message, cases) in failures.sorted(by: { ($1.value.count, $0.key) < ($0.value.count, $1.key) }) {
        Swift.print("\(cases.count)\t\(message.prefix(300))\t\(cases.prefix(4).joined(separator: " "))")
      }
    }
  }

  private func evaluate(_ test: ConformanceCase, _ model: (Model, fixed: Set<Int>), _ tally: inout Tally) throws {
    let graph = model.0.graph
    for data in test.dataSets {
      let types = try ONNXImporter().inputs(of: test.modelPath)
      let inputs = try zip(data.inputs, types).enumerated().filter { !model.fixed.contains($0.offset) }
        .map { try HostValue(onnxFile: $0.element.0, type: $0.element.1.type) }
      let outputs: [HostValue]
      do { outputs = try Interpreter.run(graph, inputs: inputs) } catch {
        return tally.add("run \(error.problems.first?.message ?? "")", test.name)
      }
      for (index, (id, path)) in zip(graph.outputs, data.outputs).enumerated() {
        let expected = try HostValue(onnxFile: path, type: graph.type(id))
        let comparison = Comparison.compare(outputs[index], expected, test.tolerance)
        if let difference = comparison.difference {
          return tally.add("wrong output \(index): \(difference)", test.name)
        }
      }
    }
    tally.passed += 1
  }

  /// Loads the model; where values must be known, the small inputs of the first data set are fixed.
  private func load(_ test: ConformanceCase) throws(ImportError) -> (Model, fixed: Set<Int>) {
    var options = ImportOptions(catalogue: .standard)
    do { return (try ONNXImporter().load(test.modelPath, options), []) } catch {
      guard error.problems.contains(where: { $0.code == "APUS-I-0015" }) else { throw error }
      var fixed: Set<Int> = []
      for (index, (input, path)) in zip(try ONNXImporter().inputs(of: test.modelPath), test.dataSets[0].inputs).enumerated() {
        guard let type = input.type.tensor, type.rank <= 1,
          let value = try? HostValue(onnxFile: path, type: input.type).tensor, value.elementCount <= 16
        else { continue }
        options.constants[input.name] = value
        fixed.insert(index)
      }
      return (try ONNXImporter().load(test.modelPath, options), fixed)
    }
  }
}

/// Reads every model of a folder and prints what becomes of it. Runs only where `APUS_ONNX_MODELS` names such a folder.
@Suite(.enabled(if: ProcessInfo.processInfo.environment["APUS_ONNX_MODELS"] != nil))
struct ModelCensusTests {
  @Test func readsModels() throws {
    let folder = try #require(ProcessInfo.processInfo.environment["APUS_ONNX_MODELS"])
    for name in try FileManager.default.contentsOfDirectory(atPath: folder).sorted() where name.hasSuffix(".onnx") {
      let start = ContinuousClock.now
      do {
        var options = ImportOptions(catalogue: .standard)
        if name.hasPrefix("silero"), !name.contains("openvino") {
          options.shapes = ["input": [Dim(Symbol("batch")), 576]]
        }
        let model = try ONNXImporter().load("\(folder)/\(name)", options)
        var counts: [String: Int] = [:]
        for id in model.graph.order { counts[model.graph[id].op.name, default: 0] += 1 }
        let inputs = model.graph.inputs.map { "\(model.graph[$0].name): \(model.graph.type($0))" }
        let outputs = zip(model.graph.outputNames, model.graph.outputs).map { "\($0): \(model.graph.type($1))" }
        print("\(name): \(model.graph.order.count) nodes, \(ContinuousClock.now - start)")
        print("  \(inputs.joined(separator: ", ")) -> \(outputs.joined(separator: ", "))")
        print("  \(counts.sorted { $0.value > $1.value }.map { "\($0.key) \($0.value)" }.joined(separator: ", "))")
      } catch {
        print("\(name): \(String(describing: error).prefix(3000))")
      }
    }
  }
}
