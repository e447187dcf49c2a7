import ApusCUDATarget
import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
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
    let target = try RecordingTarget(architecture)
    for graph in try SampleGroup.all.flatMap({ try $0.graphs() }) {
      let plan = try Builder.build(graph, name: "samples", targets: [target], options: BuildOptions()).plans[0]
      #expect(plan.images.count == plan.functions.count)
      #expect(plan.images.allSatisfy { $0.bytes.count > 500 && $0.target == architecture })
      let spills = try target.spills(plan)
      #expect(spills == [])
    }
  }

  /// Products, convolutions and attentions of sizes that each template's configurations are made for, with the tactics that
  /// sm_90a gets.
  static let regions: [(graph: String, tactics: String)] = [
    (product("f16", "[128, 768]", "[768, 3072]"), "wgmma 64x48"),
    (product("bf16", "[4096, 4096]", "[4096, 4096]"), "wgmma 256x128"),
    (product("f16", "[128, 3072]", "[3072, 768]"), "wgmma 64x64 split 4"),
    (product("f16", "[33, 70]", "[70, 50]"), "mma 64x64"),
    (product("bf16", "[1, 300]", "[300, 1536]"), "gemv 8.1.1.5"),
    (product("bf16", "[1, 1152]", "[1152, 1536]"), "gemv ring 2.1.1"),
    (product("bf16", "[1, 1152]", "[1152, 13824]"), "mma 16x64"),
    (product("f32", "[1, 6912]", "[6912, 1152]"), "gemv 4.2.4.2"),
    (product("f16", "[2, 1024]", "[1024, 3001]"), "gemv ring 2.1.2"),
    (product("bf16", "[5, 1152]", "[1152, 6912]"), "gemv 8.16.2.4 mma"),
    (product("f32", "[128, 1536]", "[1536, 384]"), "simt 64x64 split 8+sum of 8"),
    (product("f64", "[40, 60]", "[60, 50]"), "simt 32x32"),
    (gate("bf16", "[1, 1152]", "[1152, 6912]"), "mma 16x64"),
    (gate("f16", "[128, 384]", "[384, 768]"), "wgmma 64x32"),
    (gate("f32", "[3, 100]", "[100, 40]"), "gemv 4.2.4.2"),
    (convolution("f16", "[1, 56, 56, 64]", "[64, 3, 3, 64]", 1, 1), "conv wgmma 64x32 split 2"),
    (convolution("f16", "[32, 56, 56, 64]", "[64, 3, 3, 64]", 1, 1), "conv wgmma 128x64 alone"),
    (convolution("bf16", "[32, 28, 28, 128]", "[512, 1, 1, 128]", 1, 0), "conv wgmma 64x128"),
    (convolution("f16", "[8, 28, 28, 256]", "[512, 1, 1, 256]", 2, 0), "conv wgmma 128x64"),
    (convolution("f16", "[2, 224, 224, 3]", "[64, 7, 7, 3]", 2, 3), "conv stem 8x16"),
    (convolution("bf16", "[1, 32, 32, 1]", "[24, 3, 3, 1]", 1, 1), "conv stem 8x16"),
    (convolution("f16", "[2, 30, 30, 6]", "[24, 3, 3, 6]", 1, 1), "conv mma 32x64"),
    (convolution("f32", "[1, 28, 28, 128]", "[128, 3, 3, 128]", 1, 1), "conv simt 64x64 split 5+sum of 5"),
    (attention("f16", "[1, 12, 128, 64]", "[1, 12, 128, 64]"), "attention mma 16x64 key warps 4"),
    (attention("bf16", "[1, 4, 1, 256]", "[1, 1, 512, 256]"), "attention mma 16x64 key warps 4 cluster 8"),
    (attention("bf16", "[8, 16, 512, 128]", "[8, 4, 512, 128]"), "attention mma 64x64"),
    (attention("f32", "[2, 6, 100, 32]", "[2, 6, 120, 32]"), "attention mma 16x64 key warps 4"),
    (attention("f32", "[2, 6, 10, 6]", "[2, 6, 12, 6]"), "attention simt 16"),
  ]

  private static func product(_ type: String, _ a: String, _ b: String) -> String {
    "graph(%x: \(type)\(a)) -> (%y) { %w = constant \(type)\(b) random(1) %y = matmul(%x, %w) }"
  }

  /// Two products, one of which gates the other.
  private static func gate(_ type: String, _ x: String, _ w: String) -> String {
    "graph(%x: \(type)\(x)) -> (%z) { %u = constant \(type)\(w) random(1) %v = constant \(type)\(w) random(2) "
      + "%a = matmul(%x, %u) %b = matmul(%x, %v) %g = silu(%a) %z = mul(%g, %b) }"
  }

  private static func convolution(_ type: String, _ x: String, _ w: String, _ stride: Int, _ pad: Int) -> String {
    "graph(%x: \(type)\(x)) -> (%z) { %w = constant \(type)\(w) random(1) %y = conv(%x, %w) {strides: [\(stride), \(stride)], "
      + "pads_begin: [\(pad), \(pad)], pads_end: [\(pad), \(pad)], dilations: [1, 1], groups: 1, layout: \"nhwc\"} "
      + "%z = relu(%y) }"
  }

  private static func attention(_ type: String, _ q: String, _ k: String) -> String {
    "graph(%q: \(type)\(q), %k: \(type)\(k), %v: \(type)\(k)) -> (%y) { "
      + "%y = attention(%q, %k, %v) {scale: 0.125, causal: true, softcap: 0.0, offset: 0} }"
  }

  @Test(arguments: regions.indices) func templatesAreChosenBySize(_ index: Int) throws {
    let plan = try Self.plan(Self.regions[index].graph, for: UncompiledTarget("sm_90a"))
    #expect(plan.steps.map(\.tactic).joined(separator: "+") == Self.regions[index].tactics)
  }

  @Test(.enabled(if: isPossible), arguments: ["sm_80", "sm_89", "sm_90a", "sm_100a"])
  func templatesCompile(_ architecture: String) throws {
    let target = try RecordingTarget(architecture)
    for region in Self.regions {
      let plan = try Self.plan(region.graph, for: target)
      let spills = try target.spills(plan)
      #expect(spills == [], "\(region.graph)")
    }
  }

  private static func plan(_ text: String, for target: any Target) throws -> Plan {
    var graph = try GraphText.parse(text, catalogue: .standard)
    graph.outputNames = graph.outputs.indices.map { "y\($0)" }
    return try Builder.build(graph, name: "region", targets: [target], options: BuildOptions()).plans[0]
  }

  /// Assembly ends with a zero, as the driver wants it.
  @Test(.enabled(if: isPossible)) func virtualArchitecturesGiveAssembly() throws {
    let plan = try Self.plan(Self.regions[0].graph, for: RecordingTarget("compute_80"))
    for image in plan.images {
      let text = String(decoding: image.bytes, as: UTF8.self)
      #expect(image.target == "compute_80" && image.bytes.last == 0 && text.contains(".target sm_80"))
    }
  }

  /// Operations of which some sample is left to the host.
  static let ofTheHost: Set<String> = [
    "cast", "concat", "concat_from_sequence", "image_decode", "label_encoder", "optional", "optional_get_element",
    "optional_has_element", "random_bernoulli", "random_multinomial", "random_normal", "random_uniform",
    "regex_full_match", "sequence_at", "sequence_construct", "sequence_empty", "sequence_erase",
    "sequence_insert", "sequence_length", "split_to_sequence", "string_concat", "string_normalizer",
    "string_split", "tfidf_vectorizer", "transpose", "tree_ensemble", "unique", "where",
  ]

  @Test func onlyTheseAreLeftToTheHost() throws {
    let target = try CUDACodeTarget(name: "sm_90a", native: nil, jobs: 1)
    var found: Set<String> = []
    for graph in try SampleGroup.all.flatMap({ try $0.graphs() }) {
      for node in graph.order.map({ graph[$0] }) where target.leavesToHost(node, in: graph) {
        found.insert(node.op.name)
      }
    }
    #expect(found.sorted() == Self.ofTheHost.sorted())
  }

  @Test func anUnknownArchitectureIsRefused() {
    #expect(throws: BuildError.self) { try CUDACodeTarget(name: "sm_12", native: nil, jobs: 1) }
    #expect(throws: BuildError.self) { try CUDACodeTarget(name: "native", native: nil, jobs: 1) }
  }
}
