import ApusCPUDevice
import ApusCore
import ApusGraph
import ApusOps
import ApusPlan
import ApusTesting
import Testing

/// Kernel templates on odd sizes, for every instruction set that this machine runs, against the interpreter.
@Suite(.serialized) struct TemplateTests {
  static let targets: [String] = {
    let features = Set(Machine.device.features.names)
    var names = ["native"]
    if features.isSuperset(of: ["avx2", "fma", "bmi2", "f16c"]) { names.append("x86-64-v3") }
    if features.isSuperset(of: ["sse4.2", "popcnt"]) { names.append("x86-64-v2") }
    return names
  }()

  @Test(arguments: targets) func products(_ target: String) throws {
    try check(target, tactics: ["gemm", "gemv"], count: 30, seed: 1) { $0.product($1) }
  }

  @Test(arguments: targets) func convolutions(_ target: String) throws {
    try check(target, tactics: ["conv "], count: 18, seed: 2) { $0.convolution($1, depthwise: false) }
  }

  @Test(arguments: targets) func convolutionsByTransforms(_ target: String) throws {
    // Transforms round relative to the sum of magnitudes, which is about 70 here, where results may be near 0.
    try check(target, tactics: ["winograd ", "conv "], count: 8, seed: 8, tolerance: 4e-4) {
      $0.smallWindows($1)
    }
  }

  @Test(arguments: targets) func convolutionsAlongLinesByTransforms(_ target: String) throws {
    try check(target, tactics: ["winograd line", "conv "], count: 8, seed: 9, tolerance: 4e-4) { $0.lines($1) }
  }

  @Test(arguments: targets) func convolutionsOfFewOutputs(_ target: String) throws {
    try check(target, tactics: ["conv "], count: 10, seed: 10) { $0.fewOutputs($1) }
  }

  @Test(arguments: targets) func depthwiseConvolutions(_ target: String) throws {
    try check(target, tactics: ["depthwise"], count: 10, seed: 3) { $0.convolution($1, depthwise: true) }
  }

  @Test(arguments: targets) func depthwiseConvolutionsOfRowsOfKnownWidths(_ target: String) throws {
    try check(target, tactics: ["depthwise"], count: 24, seed: 11) { $0.knownRows($1) }
  }

  @Test(arguments: targets) func transposedConvolutions(_ target: String) throws {
    try check(target, tactics: ["conv_transpose"], count: 12, seed: 4) { $0.transposedConvolution($1) }
  }

  @Test(arguments: targets) func pools(_ target: String) throws {
    try check(target, tactics: ["pool"], count: 16, seed: 5) { $0.pool($1) }
  }

  @Test(arguments: targets) func attentions(_ target: String) throws {
    try check(target, tactics: ["attention"], count: 14, seed: 6) { $0.attention($1) }
  }

  @Test(arguments: targets) func recurrentLayers(_ target: String) throws {
    try check(target, tactics: ["recurrent"], count: 12, seed: 7) { $0.recurrent($1) }
  }

  /// Builds `count` nodes into one graph, runs it with several sizes, and sees that each node is a template's, some by the first of
  /// the tactics.
  private func check(
    _ target: String, tactics: [String], count: Int, seed: UInt64, tolerance: Double = 1e-4,
    _ make: (inout AnchorGraph, Int) -> Void
  ) throws {
    var anchors = AnchorGraph(seed: seed)
    for index in 0..<count { make(&anchors, index) }
    let graph = anchors.graph
    #expect(graph.outputs.count == anchors.descriptions.count)
    let runner = try GraphRunner(graph, .optimised, target: Machine.target(target), device: Machine.device)
    let computed = runner.plan.steps.count { step in tactics.contains { step.tactic.hasPrefix($0) } }
    #expect(computed == count, "\(runner.plan.steps.map(\.tactic))")
    #expect(runner.plan.steps.contains { $0.tactic.hasPrefix(tactics[0]) })
    for trial in 0..<3 {
      let inputs = RandomInputs.make(graph, trial: trial, seed: UInt64(trial + 1), limit: 40).inputs
      let expected = try Interpreter.run(graph, inputs: inputs)
      let (outputs, overrun) = try runner.run(inputs, expected: expected)
      #expect(overrun.isEmpty)
      for (index, (output, result)) in zip(outputs, expected).enumerated() {
        #expect(
          Closeness.complaint(output, result, f32: tolerance) == nil,
          "\(target), trial \(trial): \(anchors.descriptions[index])")
      }
    }
  }
}

/// Makes up products, convolutions and pools with epilogues.
struct AnchorGraph {
  var graph = Graph()
  var descriptions: [String] = []
  private var generator: RandomTensor.Generator

  init(seed: UInt64) { generator = RandomTensor.Generator(seed: seed) }

  private mutating func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &generator) }
  private mutating func choose<Element>(_ elements: [Element]) -> Element { elements[number(0...elements.count - 1)] }
  private mutating func random(_ shape: [Int]) -> ValueID {
    graph.addConstant(RandomTensor.make(.f32, shape, seed: generator.next(), range: -1...1))
  }

  private mutating func input(_ index: Int, _ name: String, _ shape: Shape) -> ValueID {
    graph.addInput("n\(index)_\(name)", .tensor(TensorType(.f32, shape)))
  }

  private mutating func add(_ name: String, _ inputs: [ValueID], _ attributes: Attributes = [:]) -> ValueID? {
    do {
      return try graph.add(try Catalogue.standard.make(name, attributes), inputs).first
    } catch {
      Issue.record("\(name) \(inputs.map { graph.type($0) }) \(attributes.entries): \(error)")
      return nil
    }
  }

  /// Makes a value an output, after an element-wise function or two.
  private mutating func finish(_ value: ValueID?, _ index: Int, channelAxis: Int, _ attributes: Attributes = [:]) {
    guard var value, let shape = graph.type(value).tensor?.shape else { return }
    let name = graph.producer(value).map { graph[$0].op.name } ?? ""
    let inputs = graph.producer(value).map { graph[$0].inputs.map { "\(graph.type($0))" } } ?? []
    descriptions.append("\(name) \(inputs) \(attributes.entries.map { "\($0.name): \($0.value)" })")
    if number(0...2) > 0, let channels = shape[channelAxis].constantValue {
      let bias = random([channels] + [Int](repeating: 1, count: shape.count - 1 - channelAxis))
      value = add("add", [value, bias]) ?? value
    }
    switch number(0...5) {
    case 0: value = add("relu", [value]) ?? value
    case 1: value = add(choose(["tanh", "silu"]), [value]) ?? value
    case 2:
      // A bound with few digits, which is written into kernels, and one of many.
      for (function, bound) in [("max", -0.25), ("min", 0.7123456)] {
        value = add(function, [value, graph.addConstant(HostTensor(scalar: bound, .f32))]) ?? value
      }
    default: break
    }
    graph.outputs.append(value)
    graph.outputNames.append("n\(index)_y")
  }

  // MARK: Products

  mutating func product(_ index: Int) {
    let m = choose([Dim(Symbol("m\(index)", Interval(0, 40))), Dim(choose([1, 2, 5, 6, 7, 12, 13, 31])), 1])
    let k = choose([1, 2, 3, 7, 16, 33, 130, 0])
    let n = choose([1, 3, 8, 15, 16, 17, 31, 32, 33, 64, 65])
    let batch = choose([[], [Dim(3)], [Dim(Symbol("b\(index)", Interval(0, 3))), 2]])
    let a = input(index, "a", batch + [m, Dim(k)])
    let b: ValueID
    switch number(0...4) {
    case 0: b = input(index, "b", [Dim(k), Dim(n)])
    case 1: b = input(index, "b", batch + [Dim(k), Dim(n)])
    case 2: b = input(index, "b", batch + [Dim(k), Dim(Symbol("n\(index)", Interval(0, 40)))])
    case 3 where batch.allSatisfy(\.isConstant): b = random(batch.compactMap(\.constantValue) + [k, n])
    default: b = random([k, n])
    }
    let result = add("matmul", [a, b])
    finish(result, index, channelAxis: batch.count + 1)
  }

  // MARK: Windows

  /// Strides, pads and dilations for a number of spatial axes.
  private mutating func window(_ spatial: Int, kernel: [Int]) -> [(String, Attribute)] {
    let dilations = (0..<spatial).map { _ in choose([1, 1, 1, 2]) }
    return [
      ("strides", .ints((0..<spatial).map { _ in choose([1, 1, 2, 3]) })),
      ("pads_begin", .ints(kernel.indices.map { number(0...(kernel[$0] - 1) * dilations[$0] / 2 + 1) })),
      ("pads_end", .ints(kernel.indices.map { number(0...(kernel[$0] - 1) * dilations[$0] / 2 + 1) })),
      ("dilations", .ints(dilations)),
    ]
  }

  private mutating func spatialDims(_ index: Int, _ count: Int) -> Shape {
    (0..<count).map { axis in
      number(0...3) == 0 ? Dim(Symbol("s\(index)_\(axis)", Interval(9, 14))) : Dim(choose([9, 11, 13, 16]))
    }
  }

  private mutating func image(_ index: Int, _ channels: Int, _ spatial: Shape, last: Bool) -> ValueID {
    let n = choose([1, 2, Dim(Symbol("b\(index)", Interval(0, 3)))])
    return input(index, "x", last ? [n] + spatial + [Dim(channels)] : [n, Dim(channels)] + spatial)
  }

  private func layout(_ last: Bool) -> (String, Attribute) { ("layout", .string(last ? "nhwc" : "nchw")) }

  mutating func convolution(_ index: Int, depthwise: Bool) {
    let spatial = choose([1, 2, 2])
    let kernel = (0..<spatial).map { _ in choose([1, 2, 3, 3, 5]) }
    let last = number(0...1) == 0
    let groups = depthwise ? choose([2, 7, 16, 33, 65]) : choose([1, 1, 2, 3])
    let perGroup = depthwise ? 1 : choose([1, 2, 3, 5, 16, 17])
    // One group of one channel would be depthwise as well, and several groups of one are.
    let channels = depthwise || groups == 1 || perGroup > 1 ? groups * perGroup : groups * 2
    let outputs = groups * (depthwise ? choose([1, 1, 2, 3]) : choose([1, 2, 7, 16, 33]))
    let x = image(index, channels, spatialDims(index, spatial), last: last)
    let perKernel = channels / groups
    let w = random(last ? [outputs] + kernel + [perKernel] : [outputs, perKernel] + kernel)
    let attributes = Attributes(window(spatial, kernel: kernel) + [("groups", .int(groups)), layout(last)])
    finish(add("conv", [x, w], attributes), index, channelAxis: last ? spatial + 1 : 1, attributes)
  }

  /// Windows of one channel each along rows that are divided into pieces, whose edges may lie anywhere.
  mutating func knownRows(_ index: Int) {
    let (kernel, stride) = (choose([3, 3, 5]), choose([1, 1, 2]))
    let channels = choose([16, 17, 33, 48, 130])
    let attributes = Attributes([
      ("strides", .ints([choose([1, 2]), stride])), ("pads_begin", .ints([number(0...2), number(0...kernel)])),
      ("pads_end", .ints([number(0...2), number(0...kernel)])), ("dilations", .ints([1, 1])),
      ("groups", .int(channels)), layout(true),
    ])
    let x = image(index, channels, [5, Dim(number(kernel...70))], last: true)
    finish(add("conv", [x, random([channels, 3, kernel, 1])], attributes), index, channelAxis: 3, attributes)
  }

  /// Windows of 3x3 one apart, over enough pixels for transforms to pay.
  mutating func smallWindows(_ index: Int) {
    let spatial: Shape = (0..<2).map { axis in
      number(0...2) == 0 ? Dim(Symbol("s\(index)_\(axis)", Interval(20, 33))) : Dim(choose([21, 24, 30]))
    }
    let (channels, outputs) = (choose([16, 32]), choose([8, 15, 40]))
    let x = image(index, channels, spatial, last: true)
    let w = random([outputs, 3, 3, channels])
    let attributes = Attributes([
      ("strides", .ints([1, 1])), ("pads_begin", .ints([number(0...2), number(0...2)])),
      ("pads_end", .ints([number(0...2), number(0...2)])), ("dilations", .ints([1, 1])), ("groups", .int(1)),
      layout(true),
    ])
    finish(add("conv", [x, w], attributes), index, channelAxis: 3, attributes)
  }

  /// Windows of 3 or 5 pixels along the width, the height of a picture one pixel wide, or a sequence.
  mutating func lines(_ index: Int) {
    let taps = choose([3, 5])
    let form = number(0...2)
    // Many pixels, so that transforms pay for what is read more of weights.
    let length = form == 1 && number(0...1) == 0 ? Dim(Symbol("l\(index)", Interval(35, 40))) : Dim(choose([98, 105]))
    let (channels, outputs, pads) = (choose([16, 32]), choose([8, 15, 40]), [number(0...3), number(0...3)])
    let spatial: Shape = form == 0 ? [length] : form == 1 ? [3, length] : [length, 1]
    let kernel = form == 0 ? [taps] : form == 1 ? [1, taps] : [taps, 1]
    func padding(_ value: Int) -> [Int] { form == 0 ? [value] : form == 1 ? [0, value] : [value, 0] }
    let ones = kernel.map { _ in 1 }
    let attributes = Attributes([
      ("strides", .ints(ones)), ("pads_begin", .ints(padding(pads[0]))), ("pads_end", .ints(padding(pads[1]))),
      ("dilations", .ints(ones)), ("groups", .int(1)), layout(true),
    ])
    let x = image(index, channels, spatial, last: true)
    finish(
      add("conv", [x, random([outputs] + kernel + [channels])], attributes), index, channelAxis: kernel.count + 1,
      attributes)
  }

  /// Wide windows with so few outputs that neighbouring pixels share a panel.
  mutating func fewOutputs(_ index: Int) {
    let (outputs, channels, kernel) = (choose([1, 1, 2, 3]), choose([1, 3, 8, 17]), [number(1...3), number(3...9)])
    let strides = [number(1...2), number(1...2)]
    let width: Dim = number(0...2) == 0 ? Dim(Symbol("w\(index)", Interval(70, 90))) : Dim(choose([64, 75, 81]))
    let attributes = Attributes([
      ("strides", .ints(strides)), ("pads_begin", .ints([number(0...2), number(0...4)])),
      ("pads_end", .ints([number(0...2), number(0...4)])), ("dilations", .ints([1, 1])), ("groups", .int(1)),
      layout(true),
    ])
    let x = image(index, channels, [7, width], last: true)
    finish(add("conv", [x, random([outputs] + kernel + [channels])], attributes), index, channelAxis: 3, attributes)
  }

  mutating func transposedConvolution(_ index: Int) {
    let spatial = choose([1, 2, 2])
    let kernel = (0..<spatial).map { _ in choose([1, 2, 3, 4]) }
    let last = number(0...1) == 0
    let groups = choose([1, 1, 2, 3])
    let channels = groups * choose([1, 2, 5, 16, 17])
    let perGroup = choose([1, 2, 7, 17])
    let x = image(index, channels, spatialDims(index, spatial), last: last)
    let w = random(last ? [channels] + kernel + [perGroup] : [channels, perGroup] + kernel)
    let geometry = window(spatial, kernel: kernel)
    guard case .ints(let strides) = geometry[0].1 else { return }
    let padding = strides.map { number(0...$0 - 1) }
    let attributes = Attributes(
      geometry + [("output_padding", .ints(padding)), ("groups", .int(groups)), layout(last)])
    finish(add("conv_transpose", [x, w], attributes), index, channelAxis: last ? spatial + 1 : 1, attributes)
  }

  mutating func pool(_ index: Int) {
    let spatial = choose([1, 2, 2])
    let kernel = (0..<spatial).map { _ in choose([1, 2, 3, 3, 5]) }
    let x = image(index, choose([1, 3, 16, 33, 130]), spatialDims(index, spatial), last: true)
    let attributes = Attributes(
      [("kernel", .ints(kernel))] + window(spatial, kernel: kernel) + [
        ("ceil_mode", .bool(number(0...1) == 0)), ("count_include_pad", .bool(number(0...1) == 0)),
        ("p", .int(choose([1, 2, 3]))), layout(true),
      ])
    finish(
      add(choose(["max_pool", "average_pool", "lp_pool"]), [x], attributes), index, channelAxis: spatial + 1, attributes
    )
  }

  // MARK: Attention and recurrent layers

  mutating func attention(_ index: Int) {
    let batch: Dim = choose([1, 2, Dim(Symbol("b\(index)", Interval(0, 3)))])
    let keyHeads = choose([1, 2, 3])
    let heads = keyHeads * choose([1, 1, 2, 4])
    let queries: Dim = choose([1, 5, 17, Dim(Symbol("s\(index)", Interval(0, 40)))])
    let keys: Dim = choose([1, 7, 130, Dim(Symbol("t\(index)", Interval(1, 40)))])
    let depth = choose([1, 3, 8, 17, 33])
    let valueDepth = choose([1, 5, 16, 33])
    guard let q = operand(index, "q", [batch, Dim(heads), queries, Dim(depth)]),
      let k = operand(index, "k", [batch, Dim(keyHeads), keys, Dim(depth)]),
      let v = operand(index, "v", [batch, Dim(keyHeads), keys, Dim(valueDepth)])
    else { return }
    var inputs = [q, k, v]
    switch number(0...3) {
    case 0: inputs.append(input(index, "m", [queries, keys]))
    case 1: inputs.append(input(index, "m", [batch, 1, queries, keys]))
    case 2: inputs.append(input(index, "m", [Dim(heads), 1, keys]))
    default: break
    }
    let attributes: Attributes = [
      "scale": .float(0.3), "causal": .bool(number(0...1) == 0), "softcap": .float(0), "offset": .dim(choose([0, 2])),
    ]
    finish(add("attention", inputs, attributes), index, channelAxis: 3, attributes)
  }

  /// An input of the shape, or one that is it after a transpose.
  private mutating func operand(_ index: Int, _ name: String, _ shape: Shape) -> ValueID? {
    if number(0...1) == 0 { return input(index, name, shape) }
    let apart = input(index, name, [shape[0], shape[2], shape[1], shape[3]])
    return add("transpose", [apart], ["perm": .ints([0, 2, 1, 3])])
  }

  mutating func recurrent(_ index: Int) {
    let cell = choose(RecurrentLayer.Cell.allCases)
    let hidden = choose([1, 3, 8, 17, 40])
    let width = choose([1, 5, 16])
    var layer = RecurrentLayer(cell, hiddenSize: hidden, direction: choose(RecurrentLayer.Direction.allCases))
    if number(0...2) == 0 { layer.clip = 0.5 }
    if cell == .lstm { layer.inputForget = number(0...2) == 0 }
    if cell == .gru { layer.linearBeforeReset = number(0...1) == 0 }
    layer.hasSequenceLengths = number(0...2) == 0
    let directions = layer.direction.count
    let rows = cell.gateCount * hidden
    let steps: Dim = choose([1, 4, Dim(Symbol("t\(index)", Interval(3, 6)))])
    let batch: Dim = choose([1, 3, Dim(Symbol("b\(index)", Interval(1, 7)))])
    let state: Shape = [Dim(directions), batch, Dim(hidden)]
    var inputs = [
      input(index, "x", [steps, batch, Dim(width)]), random([directions, rows, width]),
      random([directions, rows, hidden]), random([directions, 2 * rows]), input(index, "h", state),
    ]
    if cell == .lstm { inputs += [input(index, "c", state), random([directions, 3 * hidden])] }
    if layer.hasSequenceLengths {
      // Lengths are drawn from −9 … 9: brought into 0 … 1, which every sequence has.
      let lengths = graph.addInput("n\(index)_l", .tensor(TensorType(.i32, [batch])))
      guard let sign = add("sign", [lengths]), let positive = add("relu", [sign]) else { return }
      inputs.append(positive)
    }
    do {
      for (result, value) in try graph.add(layer, inputs).enumerated() {
        graph.outputs.append(value)
        graph.outputNames.append("n\(index)_y\(result)")
        descriptions.append("\(cell) result \(result) \(layer.attributes.entries.map { "\($0.name): \($0.value)" })")
      }
    } catch {
      Issue.record("\(cell): \(error)")
    }
  }
}
