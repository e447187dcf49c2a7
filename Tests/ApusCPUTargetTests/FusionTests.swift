import ApusCore
import ApusGraph
import ApusOps
import ApusPlan
import ApusTesting
import Testing

/// Small graphs with what they should be cut into, and the same results in every form.
@Suite(.serialized) struct FusionTests {
  struct Example: CustomTestStringConvertible, Sendable {
    let name: String
    let text: String
    /// What the optimised plan's steps are called.
    let steps: [String]

    var testDescription: String { name }

    init(_ name: String, _ steps: [String], _ text: String) {
      self.name = name
      self.steps = steps
      self.text = text
    }
  }

  static let examples: [Example] = [
    Example(
      "sums of sums are not computed again for each column", ["matmul+relu", "matmul+relu"],
      """
      graph(%x: f16[8, 64]) -> (%y) {
        %a = constant f16[64, 64] random(1)
        %b = constant f16[64, 64] random(2)
        %p = matmul(%x, %a)
        %q = relu(%p)
        %r = matmul(%q, %b)
        %y = relu(%r)
      }
      """),
    Example(
      "softmax written out", ["softmax"],
      """
      graph(%x: f32[B, 96]) -> (%y) symbols(B: 0...40) {
        %m = reduce_max(%x) {axes: [1], keep_dims: true}
        %s = sub(%x, %m)
        %e = exp(%s)
        %t = reduce_sum(%e) {axes: [1], keep_dims: true}
        %y = div(%e, %t)
      }
      """),
    Example(
      "layer norm written out", ["layer_norm"],
      """
      graph(%x: f32[B, 96]) -> (%y) symbols(B: 1...40) {
        %w = constant f32[96] random(1)
        %b = constant f32[96] random(2)
        %p = constant f32[] {2}
        %ee = constant f32[] {1e-5}
        %m = reduce_mean(%x) {axes: [1], keep_dims: true}
        %d = sub(%x, %m)
        %q = pow(%d, %p)
        %v = reduce_mean(%q) {axes: [1], keep_dims: true}
        %a = add(%v, %ee)
        %r = sqrt(%a)
        %n = div(%d, %r)
        %s = mul(%n, %w)
        %y = add(%s, %b)
      }
      """),
    Example(
      "matmul, bias and gelu", ["matmul+add+gelu"],
      """
      graph(%x: f32[B, 7, 33]) -> (%y) symbols(B: 0...5) {
        %w = constant f32[33, 45] random(1)
        %b = constant f32[45] random(2)
        %r = constant f32[] {1.41421356}
        %o = constant f32[] {1}
        %h = constant f32[] {0.5}
        %m = matmul(%x, %w)
        %a = add(%m, %b)
        %d = div(%a, %r)
        %e = erf(%d)
        %f = add(%e, %o)
        %g = mul(%a, %f)
        %y = mul(%g, %h)
      }
      """),
    Example(
      "what lies between the convolutions of an inverted residual is in memory nowhere",
      ["transpose", "conv+relu", "conv+add+relu > conv+add+relu > conv+add+add", "transpose"],
      """
      graph(%x0: f32[1, 4, 61, 67]) -> (%y) {
        %s = constant f32[12, 4, 1, 1] random(7)
        %h = constant f32[] {0.03125}
        %x00 = conv(%x0, %s) {strides: [1, 1], pads_begin: [0, 0], pads_end: [0, 0], dilations: [1, 1], groups: 1, layout: "nchw"}
        %x = relu(%x00)
        %e = constant f32[72, 12, 1, 1] random(1)
        %d = constant f32[72, 1, 3, 3] random(2)
        %p = constant f32[12, 72, 1, 1] random(3)
        %b = constant f32[72, 1, 1] random(4)
        %c = constant f32[72, 1, 1] random(5)
        %f = constant f32[12, 1, 1] random(6)
        %x1 = conv(%x, %e) {strides: [1, 1], pads_begin: [0, 0], pads_end: [0, 0], dilations: [1, 1], groups: 1, layout: "nchw"}
        %x2 = add(%x1, %b)
        %x3 = relu(%x2)
        %x4 = conv(%x3, %d) {strides: [1, 1], pads_begin: [1, 1], pads_end: [1, 1], dilations: [1, 1], groups: 72, layout: "nchw"}
        %x5 = add(%x4, %c)
        %x6 = relu(%x5)
        %x7 = conv(%x6, %p) {strides: [1, 1], pads_begin: [0, 0], pads_end: [0, 0], dilations: [1, 1], groups: 1, layout: "nchw"}
        %x9 = mul(%x7, %h)
        %x8 = add(%x9, %f)
        %y = add(%x8, %x)
      }
      """),
    Example(
      "strips of images of any number and size", ["transpose", "conv+relu > conv > conv+relu", "transpose"],
      """
      graph(%x: f32[N, 5, H, W]) -> (%y) symbols(N: 0...3, H: 52...60, W: 48...56) {
        %e = constant f32[120, 5, 1, 1] random(1)
        %d = constant f32[120, 1, 5, 5] random(2)
        %p = constant f32[21, 120, 1, 1] random(3)
        %x1 = conv(%x, %e) {strides: [1, 1], pads_begin: [0, 0], pads_end: [0, 0], dilations: [1, 1], groups: 1, layout: "nchw"}
        %x3 = relu(%x1)
        %x4 = conv(%x3, %d) {strides: [2, 2], pads_begin: [2, 1], pads_end: [1, 2], dilations: [1, 1], groups: 120, layout: "nchw"}
        %x7 = conv(%x4, %p) {strides: [1, 1], pads_begin: [0, 0], pads_end: [0, 0], dilations: [1, 1], groups: 1, layout: "nchw"}
        %h = constant f32[] {0.03125}
        %x8 = mul(%x7, %h)
        %y = relu(%x8)
      }
      """),
    Example(
      "a filter of strips with only the product before it, and with only the one behind",
      ["transpose", "conv > conv", "tanh", "conv > conv", "transpose", "transpose"],
      """
      graph(%x: f32[2, 8, 64, 70]) -> (%u, %y) {
        %e = constant f32[40, 8, 1, 1] random(1)
        %d = constant f32[40, 1, 3, 3] random(2)
        %g = constant f32[40, 1, 3, 5] random(4)
        %p = constant f32[3, 40, 1, 1] random(3)
        %x1 = conv(%x, %e) {strides: [1, 1], pads_begin: [0, 0], pads_end: [0, 0], dilations: [1, 1], groups: 1, layout: "nchw"}
        %u = conv(%x1, %d) {strides: [1, 1], pads_begin: [2, 0], pads_end: [0, 1], dilations: [1, 1], groups: 40, layout: "nchw"}
        %v = tanh(%u)
        %w = conv(%v, %g) {strides: [1, 1], pads_begin: [1, 2], pads_end: [1, 2], dilations: [1, 1], groups: 40, layout: "nchw"}
        %z = conv(%w, %p) {strides: [1, 1], pads_begin: [0, 0], pads_end: [0, 0], dilations: [1, 1], groups: 1, layout: "nchw"}
        %h = constant f32[] {0.03125}
        %y = mul(%z, %h)
      }
      """),
    Example(
      "an activation written out of its argument goes along", ["matmul+add+add+max+min+mul+div"],
      """
      graph(%x: f32[B, 33]) -> (%y) symbols(B: 0...5) {
        %w = constant f32[33, 45] random(1)
        %b = constant f32[45] random(2)
        %three = constant f32[] {3}
        %six = constant f32[] {6}
        %zero = constant f32[] {0}
        %m = matmul(%x, %w)
        %a = add(%m, %b)
        %s = add(%a, %three)
        %l = max(%s, %zero)
        %c = min(%l, %six)
        %p = mul(%a, %c)
        %y = div(%p, %six)
      }
      """),
    Example(
      "what is computed in two ways goes along where both meet", ["matmul+tanh+neg+exp+sub"],
      """
      graph(%x: f32[7, 33]) -> (%y) {
        %w = constant f32[33, 45] random(1)
        %m = matmul(%x, %w)
        %t = tanh(%m)
        %n = neg(%t)
        %e = exp(%m)
        %y = sub(%n, %e)
      }
      """),
    Example(
      "what is computed in two ways that meet before a sum goes along", ["matmul+tanh+mul", "reduce_sum"],
      """
      graph(%x: f32[7, 33]) -> (%y) {
        %w = constant f32[33, 45] random(1)
        %m = matmul(%x, %w)
        %t = tanh(%m)
        %p = mul(%m, %t)
        %y = reduce_sum(%p) {axes: [1], keep_dims: true}
      }
      """),
    Example(
      "what is computed in two ways that do not meet is stored", ["matmul", "neg", "abs"],
      """
      graph(%x: f32[7, 33]) -> (%n, %a) {
        %w = constant f32[33, 45] random(1)
        %m = matmul(%x, %w)
        %n = neg(%m)
        %a = abs(%m)
      }
      """),
    Example(
      "convolution, bias, relu and residual", ["transpose", "conv+add+relu", "transpose+add"],
      """
      graph(%x: f32[N, 8, 11, 13], %u: f32[N, 20, 11, 13]) -> (%y) symbols(N: 0...3) {
        %w = constant f32[20, 8, 3, 3] random(1)
        %b = constant f32[20, 1, 1] random(2)
        %c = conv(%x, %w) {strides: [1, 1], pads_begin: [1, 1], pads_end: [1, 1], dilations: [1, 1], groups: 1, layout: "nchw"}
        %a = add(%c, %b)
        %r = relu(%a)
        %y = add(%r, %u)
      }
      """),
    Example(
      "scale after convolution goes into the weights", ["transpose", "conv+add+relu", "transpose"],
      """
      graph(%x: f32[2, 8, 11, 13]) -> (%y) {
        %w = constant f32[20, 8, 3, 3] random(1)
        %b = constant f32[20, 1, 1] random(2)
        %s = constant f32[20, 1, 1] random(3)
        %c = conv(%x, %w) {strides: [2, 1], pads_begin: [1, 1], pads_end: [1, 1], dilations: [1, 1], groups: 1, layout: "nchw"}
        %a = add(%c, %b)
        %m = mul(%a, %s)
        %y = relu(%m)
      }
      """),
    Example(
      "parts of a concatenation are computed in place", ["exp+concat", "reshape+relu+concat", "concat"],
      """
      graph(%x: f32[N, 30, 9], %u: f32[N, 9, 20], %v: f32[N, 4, 9]) -> (%y) symbols(N: 0...4) {
        %e = exp(%x)
        %t = transpose(%u) {perm: [0, 2, 1]}
        %tt = transpose(%t) {perm: [0, 2, 1]}
        %q = reshape(%tt) {shape: [N, 20, 9]}
        %r = relu(%q)
        %y = concat(%e, %r, %v) {axis: 1}
      }
      """),
    Example(
      "a part of a concatenation that is an output is stored", ["exp", "concat", "tanh+concat"],
      """
      graph(%x: f32[N, 30, 9], %u: f32[N, 30, 5]) -> (%e, %y) symbols(N: 0...4) {
        %e = exp(%x)
        %t = tanh(%u)
        %y = concat(%e, %t) {axis: -1}
      }
      """),
    Example(
      "a transpose that attention reads through is an output", ["attention", "transpose"],
      """
      graph(%q: f32[2, 3, S, 8], %k: f32[2, T, 3, 8], %v: f32[2, T, 3, 5]) -> (%y, %b) symbols(S: 1...9, T: 1...9) {
        %a = transpose(%k) {perm: [0, 2, 1, 3]}
        %b = transpose(%v) {perm: [0, 2, 1, 3]}
        %y = attention(%q, %a, %b) {scale: 0.3, causal: false, softcap: 0, offset: 0}
      }
      """),
    Example(
      "movement around a function", ["transpose+reshape+…2…+transpose"],
      """
      graph(%x: f32[6, N, 4]) -> (%y) symbols(N: 0...9) {
        %a = transpose(%x) {perm: [1, 0, 2]}
        %b = reshape(%a) {shape: [N, 24]}
        %c = tanh(%b)
        %d = reshape(%c) {shape: [N, 4, 6]}
        %y = transpose(%d) {perm: [2, 0, 1]}
      }
      """),
    Example(
      "a costly value that two outputs use is computed once", ["exp", "add", "mul"],
      """
      graph(%x: f32[N, 100], %u: f32[100]) -> (%y, %z) symbols(N: 0...9) {
        %e = exp(%x)
        %y = add(%e, %u)
        %z = mul(%e, %u)
      }
      """),
    Example(
      "a value that is an output is stored", ["exp", "add"],
      """
      graph(%x: f32[N, 100], %u: f32[100]) -> (%e, %y) symbols(N: 0...9) {
        %e = exp(%x)
        %y = add(%e, %u)
      }
      """),
    Example(
      "sizes that broadcast", ["add+mul+tanh"],
      """
      graph(%x: f32[B, S, 16], %u: f32[S, 1], %v: f32[16]) -> (%y) symbols(B: 0...4, S: 0...9) {
        %a = add(%x, %u)
        %m = mul(%a, %v)
        %y = tanh(%m)
      }
      """),
    Example(
      "outputs that are inputs, constants, views and the same", ["relu", "copy", "copy", "copy", "copy"],
      """
      graph(%x: f32[N, 6]) -> (%x as "a", %c as "b", %v as "c", %r as "d", %r as "e") symbols(N: 0...4) {
        %c = constant f32[3] {1, 2, 3}
        %v = reshape(%x) {shape: [3*N, 2]}
        %r = relu(%x)
      }
      """),
    Example(
      "products of computed operands", ["transpose", "pack", "matmul+mul", "softmax", "pack", "matmul"],
      """
      graph(%q: f32[2, S, 8], %k: f32[2, T, 8], %v: f32[2, T, 5]) -> (%y) symbols(S: 1...9, T: 1...9) {
        %c = constant f32[] {0.3}
        %t = transpose(%k) {perm: [0, 2, 1]}
        %p = matmul(%q, %t)
        %s = mul(%p, %c)
        %e = softmax(%s) {axis: 2}
        %y = matmul(%e, %v)
      }
      """),
    Example(
      "tied embedding", ["argmax+gather+mul", "matmul"],
      """
      graph(%x: f32[S, 37]) -> (%y) symbols(S: 1...30) {
        %e = constant f32[37, 20] random(1)
        %c = constant f32[] {4.5}
        %i = argmax(%x) {axis: 1, keep_dims: false, select_last: false}
        %r = gather(%e, %i) {axis: 0}
        %h = mul(%r, %c)
        %t = transpose(%e) {perm: [1, 0]}
        %y = matmul(%h, %t)
      }
      """),
    Example(
      "tied embedding of one token, that also is an operand", ["argmax+gather", "matmul", "add"],
      """
      graph(%x: f32[1, 37]) -> (%y, %z) {
        %e = constant f32[37, 20] random(1)
        %i = argmax(%x) {axis: 1, keep_dims: false, select_last: false}
        %r = gather(%e, %i) {axis: 0}
        %t = transpose(%e) {perm: [1, 0]}
        %y = matmul(%r, %t)
        %z = add(%e, %r)
      }
      """),
  ]

  @Test func tiedTablesAreKeptOnce() throws {
    let text = """
      graph(%x: f32[S, 256]) -> (%y as "y") symbols(S: 1...30) {
        %e = constant f32[256, 64] random(1)
        %i = argmax(%x) {axis: 1, keep_dims: false, select_last: false}
        %r = gather(%e, %i) {axis: 0}
        %t = transpose(%e) {perm: [1, 0]}
        %y = matmul(%r, %t)
      }
      """
    let graph = try GraphText.parse(text, catalogue: .standard)
    let runner = try GraphRunner(graph, .optimised, target: Machine.target(), device: Machine.device)
    #expect(runner.plan.constants.byteCount == 256 * 64 * 4)
  }

  @Test(arguments: examples) func stepsAndResults(_ example: Example) throws {
    var graph = try GraphText.parse(example.text, catalogue: .standard)
    if graph.outputNames.isEmpty { graph.outputNames = graph.outputs.indices.map { "y\($0)" } }
    for form in GraphRunner.Form.allCases {
      let runner = try GraphRunner(graph, form, target: Machine.target(), device: Machine.device)
      if form == .optimised { #expect(runner.stepNames == example.steps) }
      for trial in 0..<4 {
        let inputs = RandomInputs.make(graph, trial: trial, seed: UInt64(trial + 1)).inputs
        let expected = try Interpreter.run(graph, inputs: inputs)
        let (outputs, overrun) = try runner.run(inputs, expected: expected)
        #expect(overrun.isEmpty)
        for (output, result) in zip(outputs, expected) {
          #expect(Closeness.complaint(output, result, f32: 2e-5) == nil, "\(form), trial \(trial)")
        }
      }
    }
  }
}
