package import Apus
import ApusCompiler
package import ApusCore
import ApusGraph
import ApusImport
import ApusRuntime

#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// Says how a model fails: whether it can be read, built and run, and gives what the interpreter gives.
package struct ModelCheck {
  private let target: any Target
  private let device: any Device
  private let shapes: [String: [Int]]
  private let tolerance: Double
  private let value: (String, TensorType) throws -> HostValue

  /// - Parameters:
  ///   - shapes: of inputs, where a model has them.
  ///   - tolerance: largest difference accepted, relative to the larger of 1 and the magnitude.
  ///   - value: the value of an input by name, of known sizes.
  package init(
    backend: Backend, shapes: [String: [Int]], tolerance: Double,
    value: @escaping (String, TensorType) throws -> HostValue
  ) throws {
    target = try backend.makeTarget("native", nil)
    device = try backend.makeDevice(nil)
    self.shapes = shapes
    self.tolerance = tolerance
    self.value = value
  }

  /// How the model in a file fails, and what there is to say of it; nil when it does not.
  package func failure(of path: String) -> (failure: ModelFailure, message: String)? {
    do {
      let graph = try load(path)
      let inputs = try self.inputs(graph)
      let expected = try Interpreter.run(graph, inputs: inputs)
      for form in [GraphRunner.Form.raw, .optimised] {
        let runner = try GraphRunner(graph, form, target: target, device: device)
        let (outputs, overrun) = try runner.run(inputs, expected: expected)
        if let name = overrun.first {
          return (ModelFailure(kind: .wrong, signature: "overrun"), "\(form): writes beyond output '\(name)'")
        }
        for (index, (output, value)) in zip(outputs, expected).enumerated() {
          guard let complaint = Closeness.complaint(output, value, f32: tolerance) else { continue }
          let name = graph.outputNames[index]
          return (ModelFailure(kind: .wrong, signature: "value"), "\(form): output '\(name)' \(complaint)")
        }
      }
      return nil
    } catch {
      return (ModelFailure(kind: .error, signature: Self.signature(error)), "\(error)")
    }
  }

  /// Types of the outputs whose sizes are known before running.
  package func types(of path: String) -> [String: TensorType] {
    guard let graph = try? load(path) else { return [:] }
    let sizes = Self.sizes(graph)
    var types: [String: TensorType] = [:]
    for (name, id) in zip(graph.outputNames, graph.outputs) {
      guard let type = graph.type(id).tensor else { continue }
      let shape = type.shape.compactMap { dim in dim.evaluate { sizes[$0] } }
      if shape.count == type.rank { types[name] = TensorType(type.dtype, shape.map { Dim($0) }) }
    }
    return types
  }

  private func load(_ path: String) throws -> Graph {
    let names = Set(try modelInputs(path).map(\.name))
    return try importModel(path, shapes: shapes.filter { names.contains($0.key) }).graph
  }

  /// A size for each symbol of the inputs: a small one where nothing says more.
  private static func sizes(_ graph: Graph) -> [String: Int] {
    var sizes: [String: Int] = [:]
    for id in graph.inputs {
      for symbol in graph.type(id).tensor?.shape.flatMap(\.symbols) ?? [] {
        sizes[symbol.name] = max(symbol.range.lower, min(symbol.range.upper, 4))
      }
    }
    return sizes
  }

  private func inputs(_ graph: Graph) throws -> [HostValue] {
    let sizes = Self.sizes(graph)
    return try graph.inputs.map { id in
      guard let type = graph.type(id).tensor else {
        throw ConformanceError(
          "APUS-T-0005", "a \(graph.type(id)) cannot be made up", place: "input '\(graph[id].name)'")
      }
      let shape = type.shape.map { Dim($0.evaluate { sizes[$0] } ?? 0) }
      return try value(graph[id].name, type.with(shape: shape))
    }
  }

  /// The code of the first problem; of operators that are not supported also which.
  private static func signature(_ error: any Error) -> String {
    guard let problem = (error as? any RoomError)?.problems.first else { return "\(type(of: error))" }
    let isOperator = problem.message.hasPrefix("operator ")
    return problem.code + (isOperator ? " " + problem.message.prefix { $0 != "(" }.split(separator: ";")[0] : "")
  }
}

/// What a worker says of a model, as one line of JSON.
package struct FailureReport: Codable, Sendable {
  package var failure: ModelFailure?
  package var message = ""
  /// Types of outputs in the text form.
  package var types: [String: String] = [:]

  package init() {}

  package var line: String { (try? JSONEncoder().encode(self)).map { String(decoding: $0, as: UTF8.self) } ?? "" }

  package init?(line: String) {
    guard let report = try? JSONDecoder().decode(Self.self, from: Data(line.utf8)) else { return nil }
    self = report
  }
}
