import Apus
import ApusCompiler
import ApusCore
import ApusGraph
import ApusImport
import ApusOps
import ApusPlan
import Foundation
import Testing

/// The ways in which the processor's templates compute regions: all are built, all agree with the operations' references.
@Suite struct CandidateTests {
  private static func built(_ text: String, for target: String = "x86-64-v3") throws -> [Plan] {
    var graph = try GraphText.parse(text, catalogue: .standard)
    graph.outputNames = ["y"]
    return try Builder.build(
      graph, name: "model", targets: [try Backend.cpu.makeTarget(target, 2)], options: BuildOptions()
    ).plans
  }

  private static let regions = [
    // Sums of one row and of a few, with weights as they are and transposed.
    """
    graph(%x: f32[1, 1024], %b: f32[24]) -> (%z) {
      %w = constant f32[1024, 24] random(1) %y = matmul(%x, %w) %z = add(%y, %b)
    }
    """,
    """
    graph(%x: f32[3, 512], %r: f32[3, 20]) -> (%z) {
      %w = constant f32[20, 512] random(1) %t = transpose(%w) {perm: [1, 0]} %y = matmul(%x, %t) %a = add(%y, %r)
      %z = relu(%a)
    }
    """,
    """
    graph(%x: f32[1, 9, 11, 200], %b: f32[200]) -> (%z) {
      %w = constant f32[200, 3, 3, 1] random(1)
      %y = conv(%x, %w) {strides: [1, 1], pads_begin: [1, 1], pads_end: [1, 1], dilations: [1, 1], groups: 200, layout: "nhwc"}
      %a = add(%y, %b) %z = relu(%a)
    }
    """,
    """
    graph(%q: f32[1, 4, 160, 32], %k: f32[1, 4, 160, 32], %v: f32[1, 4, 160, 32]) -> (%y) {
      %y = attention(%q, %k, %v) {scale: 0.2, causal: false, softcap: 0, offset: 0}
    }
    """,
    // Strips of rows of a product, a filter and another product with a residual.
    """
    graph(%x: f32[1, 60, 64, 8], %r: f32[1, 30, 32, 20], %b: f32[72]) -> (%z) {
      %e = constant f32[72, 1, 1, 8] random(1) %d = constant f32[72, 3, 3, 1] random(2)
      %p = constant f32[20, 1, 1, 72] random(3)
      %u = conv(%x, %e) {strides: [1, 1], pads_begin: [0, 0], pads_end: [0, 0], dilations: [1, 1], groups: 1, layout: "nhwc"}
      %v = add(%u, %b) %w = relu(%v)
      %f = conv(%w, %d) {strides: [2, 2], pads_begin: [1, 1], pads_end: [0, 0], dilations: [1, 1], groups: 72, layout: "nhwc"}
      %g = relu(%f)
      %y = conv(%g, %p) {strides: [1, 1], pads_begin: [0, 0], pads_end: [0, 0], dilations: [1, 1], groups: 1, layout: "nhwc"}
      %z = add(%y, %r)
    }
    """,
    // Loops: element by element, sums down columns, sums along rows, a transposition.
    """
    graph(%x: f32[300, 500], %b: f32[500]) -> (%z) { %y = add(%x, %b) %a = tanh(%y) %z = mul(%a, %x) }
    """,
    """
    graph(%x: f32[310, 500]) -> (%y) { %y = reduce_sum(%x) {axes: [0], keep_dims: false} }
    """,
    """
    graph(%x: f32[310, 500]) -> (%y) { %y = softmax(%x) {axis: -1} }
    """,
    """
    graph(%x: f32[3, 310, 200]) -> (%y) { %y = transpose(%x) {perm: [0, 2, 1]} }
    """,
  ]

  @Test(arguments: [
    (0, "split 4"), (1, "split 2"), (2, "depthwise 64"), (3, "attention coarse"), (3, "attention 64x192"),
    (4, "apart"), (4, "rows 15"), (4, "by 6x8"), (5, "loops unroll 4"), (6, "loops tile 512"), (7, "loops lanes 16"),
    (8, "loops square 32"),
  ])
  func everyWayComputesTheSame(_ region: Int, _ expected: String) throws {
    let text = Self.regions[region]
    let usual = try Self.built(text)
    let tactics = try #require(usual[0].steps.compactMap(\.alternatives).first?.tactics)
    #expect(tactics.contains { $0.hasSuffix(expected) }, "\(tactics)")
    var cache = TimingCacheFile.empty(
      FileManager.default.temporaryDirectory.appendingPathComponent("apus-ways-\(UUID().uuidString)").path)
    let target = try Backend.cpu.makeTarget("x86-64-v3", 2)
    let effort = TuningEffort(
      duration: .seconds(300), candidateCounts: [80], regionDuration: .milliseconds(20), trialCount: 0)
    // Each is compiled, compared with the reference between guard bytes, and timed.
    let outcome = try Tuner.tune(
      usual, for: target, on: try Backend.cpu.makeDevice(2), effort: effort, rebuild: { _ in usual }, cache: &cache)
    #expect(outcome.warnings.isEmpty, "\(outcome.warnings)")
    #expect(Set(cache.cache.sorted.map(\.tactic)).isSuperset(of: tactics.filter { $0.hasSuffix(expected) }))
    #expect(outcome.measuredCount == cache.cache.sorted.count && outcome.measuredCount > 1)
  }

  /// The cost model's order, where measuring left no doubt.
  @Test(arguments: [
    // A core that comes late waits for coarse blocks.
    (
      """
      graph(%x: f32[1, 28, 28, 192]) -> (%y) {
        %w = constant f32[192, 3, 3, 1] random(1)
        %y = conv(%x, %w) {strides: [1, 1], pads_begin: [1, 1], pads_end: [1, 1], dilations: [1, 1], groups: 192, layout: "nhwc"}
      }
      """, ["depthwise 64", "depthwise 64 coarse", "depthwise 64 coarser"]
    ),
    // Rows of a window that stay in the first cache are read from there.
    (
      """
      graph(%x: f32[1, 12, 80, 240]) -> (%y) {
        %w = constant f32[240, 5, 5, 1] random(1)
        %y = conv(%x, %w) {strides: [1, 1], pads_begin: [2, 2], pads_end: [2, 2], dilations: [1, 1], groups: 240, layout: "nhwc"}
      }
      """, ["depthwise 64", "depthwise", "depthwise 256"]
    ),
    // What lies between in memory costs most, then what small blocks of registers do.
    (
      """
      graph(%x: f32[8, 56, 56, 24]) -> (%y) {
        %e = constant f32[144, 1, 1, 24] random(1) %d = constant f32[144, 3, 3, 1] random(2)
        %p = constant f32[24, 1, 1, 144] random(3)
        %u = conv(%x, %e) {strides: [1, 1], pads_begin: [0, 0], pads_end: [0, 0], dilations: [1, 1], groups: 1, layout: "nhwc"}
        %f = conv(%u, %d) {strides: [1, 1], pads_begin: [1, 1], pads_end: [1, 1], dilations: [1, 1], groups: 144, layout: "nhwc"}
        %y = conv(%f, %p) {strides: [1, 1], pads_begin: [0, 0], pads_end: [0, 0], dilations: [1, 1], groups: 1, layout: "nhwc"}
      }
      """, ["rows 5", "rows 5 by 12x16", "apart"]
    ),
    // Sums down columns read whole rows where all cores have some.
    (
      """
      graph(%x: f32[6, 480, 480]) -> (%y) { %y = reduce_sum(%x) {axes: [1], keep_dims: false} }
      """, ["loops tile 512", "loops usual", "loops tile 64"]
    ),
  ])
  func waysAreInTheOrderOfWhatTheyTake(_ text: String, _ expected: [String]) throws {
    let plans = try Self.built(text, for: "x86-64-v4")
    let tactics = try #require(plans[0].steps.compactMap(\.alternatives).first?.tactics)
    #expect(tactics.filter(expected.contains) == expected, "\(tactics)")
  }
}
