import Apus
import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import ApusPlan
import ApusRuntime
import ApusTesting
import Foundation
import TestSupport
import Testing

/// What tuning must not do: take longer than it may, or take what breaks other memory.
@Suite struct TuningCareTests {
  private static func plan(_ text: String, _ target: any Target) throws -> [Plan] {
    var graph = try GraphText.parse(text, catalogue: .standard)
    graph.outputNames = graph.outputs.indices.map { "y\($0)" }
    return try Builder.build(graph, name: "model", targets: [target], options: BuildOptions()).plans
  }

  private static func cache() -> TimingCacheFile {
    .empty(FileManager.default.temporaryDirectory.appendingPathComponent("apus-care-\(UUID().uuidString)").path)
  }

  /// Computes `relu` in ways of which some write where nothing of theirs is.
  private struct CarelessTemplate: KernelTemplate {
    let name = "careless"
    static let ways = ["good": "", "behind": "y[n] = 1;", "before": "y[-1] = 1;", "far": "y[n + 900] = 1;"]

    func refusal(_ node: Node, in graph: Graph) -> String? { node.op.name == "relu" ? nil : "it is no relu" }

    func tactics(for region: AnchorRegion) -> [TacticCandidate] {
      ["good", "behind", "before", "far"].map { TacticCandidate(name: $0) }
    }

    func emit(_ region: AnchorRegion, into builder: inout StepBuilder) throws(BuildError) {
      let tactic = region.tactic ?? "good"
      let text = """
        void KERNEL_NAME(void *const *buffers, const long *params, long block, long blocks, void *scratch) {
          const float *x = (const float *)buffers[0];
          float *y = (float *)buffers[1];
          const long n = params[0];
          for (long i = 0; i < n; i++) y[i] = x[i] > 0 ? x[i] : 0;
          \(Self.ways[tactic] ?? "")
        }

        """
      let count = region.graph.tensorType(region.result).elementCount
      builder.launch(
        KernelCode(source: text, parameters: [count], blocks: 1),
        buffers: [builder.slot(region.node.inputs[0]), builder.slot(region.result)], name: "relu", sources: ["act"],
        tactic: tactic, work: count)
    }
  }

  /// The processor with one template.
  private struct CarelessTarget: Target {
    let inner: any Target
    let templates: [any KernelTemplate] = [CarelessTemplate()]
    var fingerprint: Fingerprint { inner.fingerprint }
    var hostIsElsewhere: Bool { inner.hostIsElsewhere }
    var launchElements: Int { inner.launchElements }
    var joinsLargeProducts: Bool { inner.joinsLargeProducts }
    func compilerVersion() throws(BuildError) -> String { try inner.compilerVersion() }
    func loops(_ kernel: Kernel) -> KernelCode { inner.loops(kernel) }
    func compile(_ sources: [String], progress: (Int, Int) -> Void) throws(BuildError) -> [KernelImage] {
      try inner.compile(sources, progress: progress)
    }
  }

  /// Where results are is guarded: kernels that write around them are found, reported and never taken.
  @Test(arguments: [false, true]) func whatWritesBeyondItsResultIsLeftOut(isElsewhere: Bool) throws {
    let target = CarelessTarget(inner: try Backend.cpu.makeTarget("x86-64-v3", 2))
    let plans = try Self.plan("graph(%x: f32[33, 7]) -> (%y) { %y = relu(%x) }", target)
    #expect(plans[0].steps[0].alternatives?.tactics == ["good", "behind", "before", "far"])
    let device = try Backend.cpu.makeDevice(1)
    var cache = Self.cache()
    let outcome = try Tuner.tune(
      plans, for: target, on: isElsewhere ? RemoteDevice(device) : device, effort: .full, cache: &cache)
    #expect(outcome.judgedCount == 1 && outcome.changes.isEmpty && outcome.plans[0].steps[0].tactic == "good")
    #expect(cache.cache.sorted.map(\.tactic) == ["good"])
    #expect(outcome.warnings.count == 3)
    for tactic in ["behind", "before", "far"] {
      let found = outcome.warnings.first { $0.message.contains("'\(tactic)'") }
      #expect(found?.code == "APUS-B-0058" && found?.message.contains("writes beyond its result") == true)
    }
  }

  /// Time is kept to where a single run takes much of it, and where building anew takes much too.
  @Test(arguments: [false, true]) func timeIsKeptToWhereRunsAreLong(builds: Bool) throws {
    var text = "graph(%h0: f32[16, 64]) -> (%h6) {\n"
    for index in 0..<6 {
      let (rows, columns) = (64 + 16 * index, 80 + 16 * index)
      text += "  %w\(index) = constant f32[\(rows), \(columns)] random(\(index + 1))\n"
      text += "  %h\(index + 1) = matmul(%h\(index), %w\(index))\n"
    }
    let (graph, target) = (text + "}", try Backend.cpu.makeTarget("x86-64-v3", 2))
    let plans = try Self.plan(graph, target)
    let device = SlowDevice(try Backend.cpu.makeDevice(1), delay: .milliseconds(50))
    let limit = Duration.seconds(3)
    let building = Duration.milliseconds(250)
    // What follows, building by the lock, takes as long once more.
    let left = builds ? building : .zero
    var durations: [Duration] = []
    let isKept = try holdsInOneTry {
      var cache = Self.cache()
      let (tuned, report) = try tune(
        plans, for: .lasting(limit), cache: &cache, device: device, rebuilding: left,
        rebuild: builds
          ? { _, _ in
            Thread.sleep(forTimeInterval: building / .seconds(1))
            return plans
          } : nil)
      #expect(report.judgedCount > 0 && report.judgedCount <= report.regionCount, "\(report.judgedCount)")
      #expect(tuned.count == 1)
      durations.append(report.duration)
      return report.duration + left <= limit * 1.1 && report.duration > limit * 0.2
    }
    #expect(isKept, "\(durations)")
  }
}
