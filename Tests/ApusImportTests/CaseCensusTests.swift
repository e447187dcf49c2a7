import ApusCore
import ApusGraph
import ApusImport
import ApusOps
import Foundation
import Testing

/// Counts how many models of a folder of test cases can be read. Runs only where `APUS_ONNX_CASES` names such a folder.
@Suite(.enabled(if: ProcessInfo.processInfo.environment["APUS_ONNX_CASES"] != nil))
struct CaseCensusTests {
  @Test func countsImportableCases() throws {
    let folder = try #require(ProcessInfo.processInfo.environment["APUS_ONNX_CASES"])
    let names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
    var imported = 0
    var total = 0
    var failures: [String: [String]] = [:]
    for name in names where !name.contains("_expanded") {
      let path = name.hasSuffix(".onnx") ? "\(folder)/\(name)" : "\(folder)/\(name)/model.onnx"
      guard FileManager.default.fileExists(atPath: path) else { continue }
      total += 1
      do {
        _ = try load(path, "\(folder)/\(name)/test_data_set_0")
        imported += 1
      } catch {
        for problem in error.problems.prefix(3) {
          failures["\(problem.code) \(problem.place.split(separator: " ").dropFirst().first ?? "") \(problem.message)", default: []]
            .append(name)
        }
      }
    }
    print("imported \(imported) of \(total)")
    for (message, cases) in failures.sorted(by: { $0.value.count > $1.value.count }) {
      print("\(cases.count)\t\(message)\t\(cases.prefix(3).joined(separator: " "))")
    }
    #expect(imported > 0)
  }

  /// Loads the model; where values must be known, the small integer inputs of the first data set are fixed.
  private func load(_ path: String, _ data: String) throws(ImportError) -> Model {
    var options = ImportOptions(catalogue: .standard)
    do { return try ONNXImporter().load(path, options) } catch {
      guard error.problems.contains(where: { $0.code == "APUS-I-0015" }) else { throw error }
      let inputs = try ONNXImporter().inputs(of: path)
      for (index, input) in inputs.enumerated() {
        guard let type = input.type.tensor, type.dtype.isInteger || type.dtype == .f32, type.rank <= 1 else { continue }
        guard let value = try? HostValue(onnxFile: "\(data)/input_\(index).pb", type: input.type).tensor,
          value.elementCount <= 16
        else { continue }
        options.constants[input.name] = value
      }
      return try ONNXImporter().load(path, options)
    }
  }
}
