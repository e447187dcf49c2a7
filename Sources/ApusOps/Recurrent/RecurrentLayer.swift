package import ApusCore
package import ApusGraph

/// Runs a recurrent layer over a sequence: `lstm`, `gru` or `rnn`.
///
/// - Shapes: x `[T, B, I]`, w `[D, G·H, I]`, r `[D, G·H, H]`, b `[D, 2·G·H]`, h0 `[D, B, H]`, for lstm also c0 `[D, B, H]`
///   and p `[D, 3·H]`, and with `has_sequence_lens` the lengths `[B]` → y `[T, D, B, H]`, y_h `[D, B, H]` and for lstm
///   y_c `[D, B, H]`. D is 2 for `bidirectional`; G is 4 for lstm (gates i, o, f, c), 3 for gru (z, r, h), 1 for rnn; p is
///   in the order i, o, f.
/// - Types: one float type; lengths i32 or i64.
/// - Numerics: accumulated in f64 by the reference, in f32 by kernels. Steps beyond a sequence's length give zeros, and
///   the last states are those of its last step.
/// - Source: ONNX LSTM-22, GRU-22, RNN-22.
package struct RecurrentLayer: TensorOperation {
  package enum Cell: String, CaseIterable, Sendable {
    case lstm, gru, rnn

    package var gateCount: Int {
      switch self {
      case .lstm: 4
      case .gru: 3
      case .rnn: 1
      }
    }

    /// Activations of one direction: f, g and h.
    package var activationCount: Int {
      switch self {
      case .lstm: 3
      case .gru: 2
      case .rnn: 1
      }
    }

    package var standardActivations: [GateActivation] {
      switch self {
      case .lstm: [GateActivation(.sigmoid), GateActivation(.tanh), GateActivation(.tanh)]
      case .gru: [GateActivation(.sigmoid), GateActivation(.tanh)]
      case .rnn: [GateActivation(.tanh)]
      }
    }
  }

  package enum Direction: String, CaseIterable, Sendable {
    case forward, reverse, bidirectional

    package var count: Int { self == .bidirectional ? 2 : 1 }

    /// Whether direction `index` of the layer runs from the end.
    package func isReverse(_ index: Int) -> Bool { self == .reverse || index == 1 }
  }

  package let cell: Cell
  package let hiddenSize: Int
  package var direction = Direction.forward
  /// f, g and h of the first direction, then of the second.
  package var activations: [GateActivation]
  /// Sums are clamped to −clip … clip before each activation; 0 for no bound.
  package var clip = 0.0
  /// gru: the reset gate multiplies the product with the recurrent weights, not its operand.
  package var linearBeforeReset = false
  /// lstm: the forget gate is 1 − the input gate.
  package var inputForget = false
  package var hasSequenceLengths = false

  package init(_ cell: Cell, hiddenSize: Int, direction: Direction = .forward) {
    self.cell = cell
    self.hiddenSize = hiddenSize
    self.direction = direction
    activations = (0..<direction.count).flatMap { _ in cell.standardActivations }
  }

  package init(name: String, attributes a: Attributes) throws(GraphError) {
    guard let cell = Cell(rawValue: name) else {
      throw GraphError("APUS-G-0203", "'\(name)' is no recurrent layer")
    }
    self.init(cell, hiddenSize: try a.int("hidden_size"), direction: try a.choice("direction"))
    clip = try a.float("clip")
    hasSequenceLengths = try a.bool("has_sequence_lens")
    if cell == .gru { linearBeforeReset = try a.bool("linear_before_reset") }
    if cell == .lstm { inputForget = try a.bool("input_forget") }
    let (kinds, alphas, betas) = (
      try a.strings("activations"), try a.floats("activation_alpha"), try a.floats("activation_beta")
    )
    guard kinds.count == activations.count, alphas.count == kinds.count, betas.count == kinds.count else {
      throw attributeError("expected \(activations.count) activations, each with alpha and beta, found \(kinds.count)")
    }
    for (index, text) in kinds.enumerated() {
      guard let kind = GateActivation.Kind(rawValue: text) else {
        let accepted = GateActivation.Kind.allCases.map(\.rawValue).joined(separator: ", ")
        throw attributeError("activation '\(text)' is unknown", hint: "Accepted are \(accepted).")
      }
      activations[index] = GateActivation(kind, alpha: alphas[index], beta: betas[index])
    }
  }

  package var name: String { cell.rawValue }
  package var attributes: Attributes {
    var entries: [(String, Attribute)] = [
      ("hidden_size", .int(hiddenSize)), ("direction", .string(direction.rawValue)),
      ("activations", .strings(activations.map(\.kind.rawValue))),
      ("activation_alpha", .floats(activations.map(\.alpha))), ("activation_beta", .floats(activations.map(\.beta))),
      ("clip", .float(clip)), ("has_sequence_lens", .bool(hasSequenceLengths)),
    ]
    if cell == .gru { entries.append(("linear_before_reset", .bool(linearBeforeReset))) }
    if cell == .lstm { entries.append(("input_forget", .bool(inputForget))) }
    return Attributes(entries)
  }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    let count = (cell == .lstm ? 7 : 5) + (hasSequenceLengths ? 1 : 0)
    try expectOperands(x, count...count)
    try expectRank(x[0], 3...3, "x")
    guard hiddenSize > 0, hiddenSize < 1 << 24 else {
      throw shapeError("APUS-S-0206", "hidden_size is \(hiddenSize)")
    }
    let (steps, batch, width) = (x[0].shape[0], x[0].shape[1], x[0].shape[2])
    let (directions, hidden, gates) = (Dim(direction.count), Dim(hiddenSize), Dim(cell.gateCount * hiddenSize))
    let state = [directions, batch, hidden]
    var expected: [(String, Shape)] = [
      ("w", [directions, gates, width]), ("r", [directions, gates, hidden]), ("b", [directions, gates * 2]),
      ("h0", state),
    ]
    if cell == .lstm { expected += [("c0", state), ("p", [directions, hidden * 3])] }
    for (operand, (what, shape)) in zip(x[1...], expected) {
      try expectSameDType([x[0], operand])
      try expectRank(operand, shape.count...shape.count, what)
      for (a, b) in zip(operand.shape, shape) { try expectEqual(a, b, "sizes of \(what)") }
    }
    try expectFloat(x[0], "x")
    if hasSequenceLengths, let lengths = x.last {
      try expectIndices(lengths, "lengths")
      try expectRank(lengths, 1...1, "lengths")
      try expectEqual(lengths.shape[0], batch, "lengths and batch")
    }
    let last = x[0].with(shape: state)
    let all = x[0].with(shape: [steps, directions, batch, hidden])
    return cell == .lstm ? [all, last, last] : [all, last]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim {
    guard let input = x[0].tensor, x.count > 2, let w = x[1].tensor, let r = x[2].tensor, input.rank == 3 else {
      return 0
    }
    return input.shape[0] * input.shape[1] * (w.elementCount + r.elementCount) * 2
  }
}

// MARK: Reference

extension RecurrentLayer {
  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    let (steps, batch) = (x[0].shape[0], x[0].shape[1])
    var lengths = [Int](repeating: steps, count: batch)
    if hasSequenceLengths, let given = x.last?.ints {
      for length in given where length < 0 || length > steps {
        throw evaluationError("APUS-V-0201", "length \(length) is outside 0 ... \(steps)")
      }
      lengths = given
    }
    let directions = direction.count
    let size = batch * hiddenSize
    var all = [Double](repeating: 0, count: steps * directions * size)
    var lastHidden: [Double] = []
    var lastCell: [Double] = []
    let operands = x.prefix(cell == .lstm ? 7 : 5).map(\.doubles)
    for index in 0..<directions {
      var run = RecurrentRun(self, index, operands, inputSize: x[0].shape[2], batch: batch)
      for row in 0..<batch {
        for count in 0..<lengths[row] {
          let step = direction.isReverse(index) ? lengths[row] - 1 - count : count
          run.advance(row: row, input: (step * batch + row) * x[0].shape[2])
          let target = (step * directions + index) * size + row * hiddenSize
          for unit in 0..<hiddenSize { all[target + unit] = run.hidden[row * hiddenSize + unit] }
        }
      }
      lastHidden += run.hidden
      lastCell += run.cellState
    }
    let (dtype, state) = (x[0].dtype, [directions, batch, hiddenSize])
    let results = [
      HostTensor(dtype, [steps, directions, batch, hiddenSize], doubles: all),
      HostTensor(dtype, state, doubles: lastHidden),
    ]
    return cell == .lstm ? results + [HostTensor(dtype, state, doubles: lastCell)] : results
  }
}

/// The states of one direction of a layer while it steps through the sequences.
private struct RecurrentRun {
  let layer: RecurrentLayer
  let activations: [GateActivation]
  let input: [Double]
  let w, r, bias, peephole: ArraySlice<Double>
  let inputSize: Int
  var hidden: [Double]
  var cellState: [Double]
  /// Sums of one step: of the input and bias, and of the hidden state and its bias.
  var fromInput: [Double]
  var fromHidden: [Double]

  init(_ layer: RecurrentLayer, _ index: Int, _ operands: [[Double]], inputSize: Int, batch: Int) {
    self.layer = layer
    self.inputSize = inputSize
    let count = layer.cell.activationCount
    activations = Array(layer.activations[index * count..<(index + 1) * count])
    let part = { (values: [Double]) -> ArraySlice<Double> in
      let size = values.count / layer.direction.count
      return ArraySlice(Array(values[index * size..<(index + 1) * size]))
    }
    input = operands[0]
    w = part(operands[1])
    r = part(operands[2])
    bias = part(operands[3])
    hidden = Array(part(operands[4]))
    cellState = layer.cell == .lstm ? Array(part(operands[5])) : []
    peephole = layer.cell == .lstm ? part(operands[6]) : []
    fromInput = [Double](repeating: 0, count: layer.cell.gateCount * layer.hiddenSize)
    fromHidden = fromInput
  }

  private static func multiply(
    _ matrix: ArraySlice<Double>, _ vector: ArraySlice<Double>, plus bias: ArraySlice<Double>, into sums: inout [Double]
  ) {
    let width = vector.count
    matrix.withUnsafeBufferPointer { matrix in
      vector.withUnsafeBufferPointer { vector in
        for (row, start) in bias.enumerated() {
          var sum = start
          for column in 0..<width { sum += matrix[row * width + column] * vector[column] }
          sums[row] = sum
        }
      }
    }
  }

  private func bounded(_ x: Double) -> Double {
    layer.clip > 0 ? min(max(x, -layer.clip), layer.clip) : x
  }

  /// Takes sequence `row` one step further; its input begins at `start`.
  mutating func advance(row: Int, input start: Int) {
    let size = layer.hiddenSize
    let gates = layer.cell.gateCount * size
    let state = hidden[row * size..<(row + 1) * size]
    Self.multiply(w, input[start..<start + inputSize], plus: bias[..<gates], into: &fromInput)
    Self.multiply(r, state, plus: bias[gates...], into: &fromHidden)
    switch layer.cell {
    case .rnn:
      for unit in 0..<size { hidden[row * size + unit] = activations[0](bounded(fromInput[unit] + fromHidden[unit])) }
    case .gru: advanceGRU(row, Array(state))
    case .lstm: advanceLSTM(row)
    }
  }

  private mutating func advanceGRU(_ row: Int, _ state: [Double]) {
    let size = layer.hiddenSize
    let gates = (0..<2 * size).map { activations[0](bounded(fromInput[$0] + fromHidden[$0])) }
    let (update, reset) = (gates[..<size], Array(gates[size...]))
    var recurrent = [Double](repeating: 0, count: size)
    if layer.linearBeforeReset {
      for unit in 0..<size { recurrent[unit] = reset[unit] * fromHidden[2 * size + unit] }
    } else {
      let gated = zip(reset, state).map { $0 * $1 }
      Self.multiply(
        ArraySlice(Array(r[(2 * size * size)...])), gated[...], plus: bias[(5 * size)...], into: &recurrent)
    }
    for unit in 0..<size {
      let candidate = activations[1](bounded(fromInput[2 * size + unit] + recurrent[unit]))
      hidden[row * size + unit] = (1 - update[unit]) * candidate + update[unit] * state[unit]
    }
  }

  private mutating func advanceLSTM(_ row: Int) {
    let size = layer.hiddenSize
    let (f, g, h) = (activations[0], activations[1], activations[2])
    for unit in 0..<size {
      let sums = (0..<4).map { fromInput[$0 * size + unit] + fromHidden[$0 * size + unit] }
      let old = cellState[row * size + unit]
      let inputGate = f(bounded(sums[0] + peephole[unit] * old))
      let forget = layer.inputForget ? 1 - inputGate : f(bounded(sums[2] + peephole[2 * size + unit] * old))
      let new = forget * old + inputGate * g(bounded(sums[3]))
      let output = f(bounded(sums[1] + peephole[size + unit] * new))
      cellState[row * size + unit] = new
      hidden[row * size + unit] = output * h(bounded(new))
    }
  }
}

extension RecurrentLayer {
  package static var samples: [Sample] {
    let ranges = ["T": 1...4, "B": 1...3]
    func sample(_ layer: RecurrentLayer, _ operands: [String], _ values: [Int: ClosedRange<Double>] = [:]) -> Sample {
      Sample(layer, operands: operands, where: ranges, values: values, tolerance: 1e-5)
    }
    var bounded = RecurrentLayer(.lstm, hiddenSize: 3, direction: .bidirectional)
    bounded.clip = 0.7
    bounded.hasSequenceLengths = true
    bounded.activations[1] = GateActivation(.hardSigmoid)
    var coupled = RecurrentLayer(.lstm, hiddenSize: 4)
    coupled.inputForget = true
    var linear = RecurrentLayer(.gru, hiddenSize: 3, direction: .reverse)
    linear.linearBeforeReset = true
    var affine = RecurrentLayer(.rnn, hiddenSize: 5, direction: .bidirectional)
    affine.activations = [GateActivation(.affine, alpha: 0.3, beta: 0.1), GateActivation(.softsign)]
    return [
      sample(
        RecurrentLayer(.lstm, hiddenSize: 5),
        [
          "f32[T, B, 3]", "f32[1, 20, 3]", "f32[1, 20, 5]", "f32[1, 40]", "f32[1, B, 5]", "f32[1, B, 5]", "f32[1, 15]",
        ]),
      sample(
        coupled,
        [
          "f16[T, B, 3]", "f16[1, 16, 3]", "f16[1, 16, 4]", "f16[1, 32]", "f16[1, B, 4]", "f16[1, B, 4]", "f16[1, 12]",
        ]),
      sample(
        bounded,
        [
          "f32[3, B, 2]", "f32[2, 12, 2]", "f32[2, 12, 3]", "f32[2, 24]", "f32[2, B, 3]", "f32[2, B, 3]", "f32[2, 9]",
          "i32[B]",
        ], [7: 0...3]),
      sample(
        RecurrentLayer(.gru, hiddenSize: 4),
        ["f32[T, B, 3]", "f32[1, 12, 3]", "f32[1, 12, 4]", "f32[1, 24]", "f32[1, B, 4]"]),
      sample(linear, ["f32[T, B, 3]", "f32[1, 9, 3]", "f32[1, 9, 3]", "f32[1, 18]", "f32[1, B, 3]"]),
      sample(
        RecurrentLayer(.lstm, hiddenSize: 72, direction: .bidirectional),
        [
          "f32[T, 9, 10]", "f32[2, 288, 10]", "f32[2, 288, 72]", "f32[2, 576]", "f32[2, 9, 72]", "f32[2, 9, 72]",
          "f32[2, 216]",
        ], [1: -0.2...0.2, 2: -0.2...0.2]),
      sample(
        RecurrentLayer(.gru, hiddenSize: 65, direction: .reverse),
        ["f64[T, B, 3]", "f64[1, 195, 3]", "f64[1, 195, 65]", "f64[1, 390]", "f64[1, B, 65]"],
        [1: -0.2...0.2, 2: -0.2...0.2]),
      sample(affine, ["f32[T, B, 3]", "f32[2, 5, 3]", "f32[2, 5, 5]", "f32[2, 10]", "f32[2, B, 5]"]),
    ]
  }
}
