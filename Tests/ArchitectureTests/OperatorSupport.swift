import Apus
import ApusCPUTarget
import ApusCUDATarget
import ApusCompiler
import ApusCore
import ApusGraph
import ApusImport
import ApusOps

/// What backends compute of ONNX operators, by element type: found by reading uses of them, running these by the interpreter, and
/// asking the targets which of their nodes they leave to the host.
struct OperatorSupport {
  private let targets: [any Target]

  init() throws {
    targets = [
      try CPUCodeTarget(name: "x86-64-v3", machineFeatures: [], jobs: 1),
      try CUDACodeTarget(name: "sm_90a", native: nil, jobs: 1),
    ]
  }

  /// A letter for each target: `k` where kernels compute all of it, `h` where the host computes some; empty where it is refused.
  func cell(_ use: OperatorUse, _ dtype: DType) throws -> String {
    if use.ownTypes.map({ !$0.contains(dtype) }) ?? false { return "" }
    let bytes = try use.model(dtype)
    guard
      var graph = bytes.withUnsafeBytes({ try? ONNXImporter().load($0, ImportOptions(catalogue: .standard)).graph }),
      isComputed(graph)
    else { return "" }
    var log = FusionLog()
    for pass in Pass.standard { try pass.apply(&graph, &log) }
    return targets.map { target in
      graph.order.contains { target.leavesToHost(graph[$0], in: graph) } ? "h" : "k"
    }.joined()
  }

  /// Whether the interpreter gives results.
  private func isComputed(_ graph: Graph) -> Bool {
    let inputs = graph.inputs.enumerated().map { Self.value(graph.type($1), seed: UInt64($0)) }
    do { return try !Interpreter.run(graph, inputs: inputs).isEmpty } catch {
      // What is read here is no picture.
      return error.problems.contains { $0.code == "APUS-V-0212" }
    }
  }

  private static func value(_ type: ValueType, seed: UInt64) -> HostValue {
    switch type {
    case .tensor(let tensor): .tensor(Self.tensor(tensor.dtype, tensor.constantShape ?? [], seed: seed))
    case .sequence(let element):
      .sequence([value(element, seed: seed), value(element, seed: seed + 1)], element: element)
    case .optional(let element): .optional(value(element, seed: seed), element: element)
    }
  }

  private static func tensor(_ dtype: DType, _ shape: [Int], seed: UInt64) -> HostTensor {
    if dtype == .string { return HostTensor(strings: Array(repeating: "1", count: shape.reduce(1, *)), shape: shape) }
    return RandomTensor.make(dtype, shape, seed: seed, range: 1...2)
  }
}
