import ApusCUDATarget
import ApusCompiler
import ApusCore
import ApusPlan
import ApusTesting
import Foundation
import Testing

/// NVRTC turns every kernel into machine code for every architecture, on a machine without a GPU.
@Suite(.serialized) struct CompilationTests {
  /// Whether NVRTC is here; `APUS_REQUIRE_NVRTC` makes its absence a failure.
  static let isPossible = (try? NVRTC.find()) != nil || ProcessInfo.processInfo.environment["APUS_REQUIRE_NVRTC"] != nil

  @Test(.enabled(if: isPossible), arguments: ["sm_80", "sm_89", "sm_90a", "sm_100a"])
  func everySampleCompiles(_ architecture: String) throws {
    let target = try CUDACodeTarget(
      name: architecture, native: nil, jobs: ProcessInfo.processInfo.activeProcessorCount)
    for graph in try SampleGroup.all.flatMap({ try $0.graphs() }) {
      let plan = try Builder.build(graph, name: "samples", target: target, options: BuildOptions()).plans[0]
      #expect(plan.images.count == plan.functions.count)
      #expect(plan.images.allSatisfy { $0.bytes.count > 500 && $0.target == architecture })
    }
  }

  @Test func anUnknownArchitectureIsRefused() {
    #expect(throws: BuildError.self) { try CUDACodeTarget(name: "sm_12", native: nil, jobs: 1) }
    #expect(throws: BuildError.self) { try CUDACodeTarget(name: "native", native: nil, jobs: 1) }
  }
}
