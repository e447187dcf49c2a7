import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import ApusPlan
import ApusTesting
import Testing

@testable import ApusCPUTarget

/// Made-up graphs find faults that are planted here, and shrink to what shows them.
@Suite struct PlantedFaultTests {
  /// Generated loops in which an exclusive or is an inclusive one.
  private struct SpoiltTarget: Target {
    var target: CPUCodeTarget

    var fingerprint: Fingerprint { target.fingerprint }
    var templates: [any KernelTemplate] { target.templates }
    var hostIsElsewhere: Bool { target.hostIsElsewhere }
    var launchElements: Int { target.launchElements }
    var joinsLargeProducts: Bool { target.joinsLargeProducts }
    func compilerVersion() throws(BuildError) -> String { try target.compilerVersion() }
    func compile(_ sources: [String], progress: (Int, Int) -> Void) throws(BuildError) -> [KernelImage] {
      try target.compile(sources, progress: progress)
    }

    func loops(_ kernel: Kernel) -> KernelCode {
      var code = target.loops(kernel)
      let own = String(code.source.dropFirst(KernelText.prelude.count))
      code.source = KernelText.prelude + own.replacing(" ^ ", with: " | ")
      return code
    }
  }

  /// A rule that is wrong below zero.
  private static let wrongPass = Pass("wrong", "abs(x) is x") { graph, _, _ in
    for id in graph.order where graph[id].op.name == "abs" {
      graph.replaceUses(of: graph[id].outputs[0], with: graph[id].inputs[0])
    }
    graph.removeDeadNodes()
  }

  private static func check(_ suite: RandomGraphSuite, finds culprits: Set<String>, _ forms: Set<GraphRunner.Form>) {
    for start in stride(from: UInt64(0), to: 200, by: 5) {
      let found = suite.check(Array(start..<start + 5)).failures
      if found.isEmpty { continue }
      for failure in found {
        let names = failure.graph.order.map { failure.graph[$0].op.name }
        #expect(!culprits.isDisjoint(with: names) && names.count <= 3, "\(failure)")
        #expect(forms.contains(failure.form) && failure.message.hasPrefix("output"), "\(failure)")
      }
      return
    }
    Issue.record("\(culprits) was not found wrong in 200 graphs")
  }

  @Test func wrongCodeIsFound() throws {
    let target = SpoiltTarget(target: try Machine.target().compiling(atATime: 16))
    Self.check(
      RandomGraphSuite(target: target, device: Machine.device), finds: ["xor", "bit_xor"], [.raw, .optimised, .loaded])
  }

  @Test func wrongRulesAreFound() throws {
    let target = try Machine.target().compiling(atATime: 16)
    let suite = RandomGraphSuite(target: target, device: Machine.device, passes: [Self.wrongPass] + Pass.standard)
    Self.check(suite, finds: ["abs"], [.optimised, .loaded])
  }
}
