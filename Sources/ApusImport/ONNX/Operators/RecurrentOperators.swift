import ApusCore
import ApusGraph

/// Recurrent layers: absent operands become zeros, `layout` 1 is transposed.
enum RecurrentOperators {
  static let table: [String: Lowering] = ["LSTM": layer("lstm"), "GRU": layer("gru"), "RNN": layer("rnn")]

  /// Gates and activations of a cell.
  private static let cells: [String: (gates: Int, activations: [String])] = [
    "lstm": (4, ["Sigmoid", "Tanh", "Tanh"]), "gru": (3, ["Sigmoid", "Tanh"]), "rnn": (1, ["Tanh"]),
  ]

  private static func layer(_ name: String) -> Lowering {
    { n throws(ImportError) in try lower(n, name) }
  }

  /// An LSTM with quantised weights, computed with the numbers that they stand for. (onnxruntime rounds inputs and states to eight
  /// bits as well.)
  @Sendable static func dynamicQuantizeLSTM(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    var weights: [ValueID] = []
    for (position, scale) in [(1, 8), (2, 10)] {
      var wide = try n.cast(n.input(position), .f32)
      let directions = try n.shape(wide, rank: 3, "the weights")[0]
      /// One value for each direction, or one for each of its columns.
      func spread(_ id: ValueID) throws(ImportError) -> ValueID {
        let columns = try n.rank(id) == 2 ? n.shape(id)[1] : 1
        return try n.cast(n.reshape(id, [directions, 1, columns]), .f32)
      }
      if let zero = n.optional(scale + 1) { wide = try n("sub", wide, spread(zero)) }
      weights.append(try n.transpose(n("mul", wide, spread(n.input(scale))), [0, 2, 1]))
    }
    return try lower(n, "lstm", weights: weights)
  }

  private static func lower(
    _ n: NodeContext, _ name: String, weights given: [ValueID]? = nil
  ) throws(ImportError) -> [ValueID] {
    guard let cell = cells[name] else { throw .unsupported() }
    let isBatchFirst = try n.int("layout", 0) == 1
    var x = try n.input(0)
    _ = try n.shape(x, rank: 3, "the input")
    if isBatchFirst { x = try n.transpose(x, [1, 0, 2]) }
    let weighted = [try n.input(1), try n.input(2)]
    let recurrent = (given ?? weighted)[1]
    let weights = try n.shape(recurrent, rank: 3, "the recurrent weights")
    guard let hidden = try n.optionalInt("hidden_size") ?? weights[2].constantValue, hidden > 0, hidden < 1 << 24 else {
      throw ImportError("APUS-I-0012", "hidden_size is missing or not positive")
    }
    let direction = try n.choice("direction", ["forward", "reverse", "bidirectional"], default: "forward")
    let directions = Dim(direction == "bidirectional" ? 2 : 1)
    let batch = try n.shape(x)[1]
    let state: Shape = [directions, batch, Dim(hidden)]
    var operands = [x, (given ?? weighted)[0], recurrent]
    operands.append(try orZeros(n, n.optional(3), [directions, Dim(2 * cell.gates * hidden)], like: x))
    operands.append(try initial(n, 5, state, isBatchFirst, like: x))
    if name == "lstm" {
      operands.append(try initial(n, 6, state, isBatchFirst, like: x))
      operands.append(try orZeros(n, n.optional(7), [directions, Dim(3 * hidden)], like: x))
    }
    if let lengths = n.optional(4) { operands.append(lengths) }
    let attributes = try attributes(n, name, cell.activations, hidden: hidden, direction: direction)
    var results = try n.emitAll(name, attributes, operands)
    if isBatchFirst {
      for (index, result) in results.enumerated() {
        results[index] = try n.transpose(result, index == 0 ? [2, 0, 1, 3] : [1, 0, 2])
      }
    }
    return results
  }

  private static func orZeros(
    _ n: NodeContext, _ id: ValueID?, _ shape: Shape, like x: ValueID
  ) throws(ImportError) -> ValueID {
    if let id { return id }
    return try n.broadcast(n.scalar(0, like: x), shape)
  }

  private static func initial(
    _ n: NodeContext, _ position: Int, _ shape: Shape, _ isBatchFirst: Bool, like x: ValueID
  ) throws(ImportError) -> ValueID {
    guard let given = n.optional(position) else { return try orZeros(n, nil, shape, like: x) }
    _ = try n.shape(given, rank: 3, "an initial state")
    return isBatchFirst ? try n.transpose(given, [1, 0, 2]) : given
  }

  private static func attributes(
    _ n: NodeContext, _ name: String, _ standard: [String], hidden: Int, direction: String
  ) throws(ImportError) -> Attributes {
    let count = standard.count * (direction == "bidirectional" ? 2 : 1)
    let names = try n.optionalStrings("activations") ?? Array(repeating: standard, count: 2).flatMap { $0 }
    guard names.count >= count else {
      throw ImportError("APUS-I-0012", "\(count) activations are needed, \(names.count) given")
    }
    var alphas = try n.optionalFloats("activation_alpha") ?? []
    var betas = try n.optionalFloats("activation_beta") ?? []
    var kinds: [String] = []
    var alpha: [Double] = []
    var beta: [Double] = []
    for name in names.prefix(count) {
      guard let kind = activations[name.lowercased()] else { throw .unsupported("activation '\(name)'") }
      kinds.append(kind.name)
      // The lists hold values only for the activations that have such a parameter.
      alpha.append(kind.alpha.map { alphas.isEmpty ? $0 : alphas.removeFirst() } ?? 0)
      beta.append(kind.beta.map { betas.isEmpty ? $0 : betas.removeFirst() } ?? 0)
    }
    var entries: [(String, Attribute)] = [
      ("hidden_size", .int(hidden)), ("direction", .string(direction)), ("activations", .strings(kinds)),
      ("activation_alpha", .floats(alpha)), ("activation_beta", .floats(beta)),
      ("clip", .float(try n.float("clip", 0))), ("has_sequence_lens", .bool(n.optional(4) != nil)),
    ]
    if name == "gru" { entries.append(("linear_before_reset", .bool(try n.flag("linear_before_reset")))) }
    if name == "lstm" { entries.append(("input_forget", .bool(try n.flag("input_forget")))) }
    return Attributes(entries)
  }

  /// Our names of ONNX's activations, with the defaults of the parameters that they have.
  private static let activations: [String: (name: String, alpha: Double?, beta: Double?)] = [
    "sigmoid": ("sigmoid", nil, nil), "tanh": ("tanh", nil, nil), "relu": ("relu", nil, nil),
    "softsign": ("softsign", nil, nil), "softplus": ("softplus", nil, nil), "affine": ("affine", 1, 0),
    "leakyrelu": ("leaky_relu", 0.01, nil), "thresholdedrelu": ("thresholded_relu", 1, nil),
    "scaledtanh": ("scaled_tanh", 1, 1), "hardsigmoid": ("hard_sigmoid", 0.2, 0.5), "elu": ("elu", 1, nil),
  ]
}
