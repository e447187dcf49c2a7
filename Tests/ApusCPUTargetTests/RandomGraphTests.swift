import ApusCPUTarget
import ApusCore
import ApusGraph
import ApusOps
import ApusTesting
import Foundation
import Testing

/// Made-up graphs give what the interpreter gives, in every form.
///
/// `APUS_TEST_BATCHES` tries more batches of graphs, `APUS_TEST_SEED` begins with another.
@Suite struct RandomGraphTests {
  private static func setting(_ name: String) -> UInt64? {
    ProcessInfo.processInfo.environment[name].flatMap { UInt64($0) }
  }

  static let size = UInt64(RandomGraphSuite.batchSize)
  static let first = setting("APUS_TEST_SEED") ?? 0
  static let batches = first..<first + (setting("APUS_TEST_BATCHES") ?? 40)

  @Test(arguments: batches) func agreeWithTheInterpreter(_ batch: UInt64) throws {
    let target = try Machine.target()
    // Without optimising node by node, so that what the compiler makes of the code is compared too.
    let suite = RandomGraphSuite(
      target: target.compiling(atATime: 64), rawTarget: target.compiling(atATime: 64, optimising: false),
      device: Machine.device)
    let seeds = Array(batch * Self.size..<(batch + 1) * Self.size)
    let (failures, valid) = suite.check(seeds)
    #expect(valid > seeds.count / 2, "only \(valid) of \(seeds.count) graphs have results")
    for failure in failures { Issue.record("\(failure)") }
  }

  /// Every operation comes up, those apart that only importers make and whose results are not the same each time.
  @Test func coverTheCatalogue() {
    var names: Set<String> = []
    for seed in 0..<UInt64(2000) { count(RandomGraph.make(seed: seed), &names) }
    let missing = Set(Catalogue.standard.names).subtracting(names).filter { !$0.hasPrefix("random_") }
    #expect(missing == ["bind_dims", "fail"])
  }

  private func count(_ graph: Graph, _ names: inout Set<String>) {
    for id in graph.order {
      names.insert(graph[id].op.name)
      for body in graph[id].op.bodies { count(body, &names) }
    }
  }
}
