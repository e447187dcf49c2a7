import ApusCore
import ApusGraph
import ApusImport
import ApusOps
import Foundation
import Testing

/// Runs the models of a folder of ONNX test cases with the interpreter and compares with the stored outputs. Runs only
/// where `APUS_ONNX_CASES` names such a folder; `APUS_ONNX_FILTER` holds a regular expression that names must contain.
@Suite(.enabled(if: ProcessInfo.processInfo.environment["APUS_ONNX_CASES"] != nil))
struct CaseRunTests {
  private struct Failure: Error {
    let message: String
  }

  @Test func countsPassingCases() throws {
    let environment = ProcessInfo.processInfo.environment
    let folder = try #require(environment["APUS_ONNX_CASES"])
    let filter = try Regex(environment["APUS_ONNX_FILTER"] ?? "")
    let isVerbose = environment["APUS_ONNX_VERBOSE"] != nil
    var (passed, total) = (0, 0)
    for name in try FileManager.default.contentsOfDirectory(atPath: folder).sorted() {
      guard name.contains(filter), FileManager.default.fileExists(atPath: "\(folder)/\(name)/model.onnx") else {
        continue
      }
      if isVerbose { FileHandle.standardError.write(Data("\(name)\n".utf8)) }
      total += 1
      do {
        try run("\(folder)/\(name)")
        passed += 1
      } catch let failure as Failure {
        print("FAIL\t\(name)\t\(failure.message)")
      } catch {
        print("FAIL\t\(name)\t\("\(error)".replacing("\n", with: " "))")
      }
    }
    print("passed \(passed) of \(total)")
    #expect(passed > 0)
  }

  private func run(_ folder: String) throws {
    let data = "\(folder)/test_data_set_0"
    let declared = try ONNXImporter().inputs(of: "\(folder)/model.onnx")
    var inputs: [HostValue] = []
    for (index, input) in declared.enumerated() {
      inputs.append(try HostValue(onnxFile: "\(data)/input_\(index).pb", type: input.type))
    }
    let (model, fixed) = try load("\(folder)/model.onnx", Array(zip(declared.map(\.name), inputs)))
    let fed = zip(declared, inputs).filter { !fixed.contains($0.0.name) }.map(\.1)
    let results = try Interpreter.run(model.graph, inputs: fed)
    for (index, result) in results.enumerated() {
      let path = "\(data)/output_\(index).pb"
      guard FileManager.default.fileExists(atPath: path) else { continue }
      try compare(result, try HostValue(onnxFile: path, type: result.type), "output \(index)")
    }
  }

  /// Loads the model; where values must be known, its small inputs are fixed.
  private func load(_ path: String, _ values: [(String, HostValue)]) throws -> (Model, fixed: Set<String>) {
    var options = ImportOptions(catalogue: .standard)
    do { return (try ONNXImporter().load(path, options), []) } catch {
      guard error.problems.contains(where: { $0.code == "APUS-I-0015" }) else { throw error }
      for (name, value) in values {
        guard let tensor = value.tensor, tensor.dtype != .string, tensor.rank <= 1, tensor.elementCount <= 16 else {
          continue
        }
        options.constants[name] = tensor
      }
      return (try ONNXImporter().load(path, options), Set(options.constants.keys))
    }
  }

  private func compare(_ found: HostValue, _ expected: HostValue, _ place: String) throws {
    switch (found, expected) {
    case (.tensor(let a), .tensor(let b)): try compare(a, b, place)
    case (.sequence(let a, _), .sequence(let b, _)):
      guard a.count == b.count else { throw Failure(message: "\(place): \(a.count) elements, expected \(b.count)") }
      for (index, (x, y)) in zip(a, b).enumerated() { try compare(x, y, "\(place)[\(index)]") }
    case (.optional(let a, _), .optional(let b, _)):
      guard let a, let b else {
        if a == nil && b == nil { return }
        throw Failure(message: "\(place): one optional is empty")
      }
      try compare(a, b, place)
    default: throw Failure(message: "\(place): \(found.type), expected \(expected.type)")
    }
  }

  private func compare(_ found: HostTensor, _ expected: HostTensor, _ place: String) throws {
    guard found.dtype == expected.dtype, found.shape == expected.shape else {
      throw Failure(message: "\(place): \(found.type), expected \(expected.type)")
    }
    if found.dtype == .string {
      guard found.strings == expected.strings else {
        throw Failure(message: "\(place): \(found.strings.prefix(8)), expected \(expected.strings.prefix(8))")
      }
      return
    }
    for (index, (a, b)) in zip(found.doubles, expected.doubles).enumerated() where a != b && !(a.isNaN && b.isNaN) {
      guard (a - b).magnitude <= 1e-7 + 1e-3 * b.magnitude else {
        throw Failure(message: "\(place) element \(index) of \(found.type): \(a), expected \(b)")
      }
    }
  }
}
