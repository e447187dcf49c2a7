import ApusCore
import ApusGraph
import ApusOps

/// Nodes of any operation, as its samples have it.
extension RandomGraph {
  /// Samples by operation: bodies are made by ``control(_:)``, and what is not pure gives other results each time.
  private static let samples: [[Sample]] = Catalogue.standard.names.compactMap { name in
    if ["bind_dims", "fail"].contains(name) { return nil }
    let samples = (Catalogue.standard.type(name)?.samples ?? []).filter {
      $0.op.name == name && $0.op.isPure && $0.op.bodies.isEmpty
    }
    return samples.isEmpty ? nil : samples
  }

  /// Operations that do not make small errors large.
  private static let smoothNames: Set<String> = [
    "add", "attention", "average_pool", "broadcast_to", "concat", "conv", "conv_transpose", "cos", "cumsum", "erf",
    "gather",
    "gather_elements", "gather_nd", "gelu", "gelu_tanh", "gru", "hard_swish", "layer_norm", "lstm", "matmul", "max",
    "max_pool",
    "min", "mish", "mul", "neg", "pad", "reduce_max", "reduce_mean", "reduce_min", "reduce_sum", "relu", "reshape",
    "reverse_sequence", "rms_norm", "rnn", "scatter_elements", "scatter_nd", "sigmoid", "silu", "sin", "slice",
    "softmax",
    "softplus", "softsign", "sub", "tanh", "tile", "transpose",
  ]

  /// Adds a use of an operation; a result of the graph's type, or nil.
  mutating func sampled() -> ValueID? {
    let sample = choose(choose(Self.samples))
    if depth > 0, !sample.op.boundSymbols.isEmpty { return nil }
    var sizes: [String: Dim] = [:]
    for (name, range) in sample.symbols.sorted(by: { $0.key < $1.key }) { sizes[name] = dim(in: range) }
    guard let op = operation(sample, sizes) else { return nil }
    let symbols = Dictionary(uniqueKeysWithValues: sizes.keys.map { ($0, Symbol($0)) })
    var operands: [ValueID] = []
    for (index, text) in sample.operands.enumerated() {
      guard let type = try? ValueType(parsing: text, symbols: symbols).substituting({ sizes[$0.name] }) else {
        return nil
      }
      if let tensor = sample.constants[index] {
        operands.append(constant(tensor))
      } else if let operand = operand(type, sample.values[index], exactly: !Self.smoothNames.contains(op.name)) {
        operands.append(operand)
      } else {
        return nil
      }
    }
    guard let results = addAll(op, operands) else { return nil }
    tolerance = max(tolerance, 20 * sample.tolerance)
    keep(results)
    return choose(results.map { broughtBack($0) })
  }

  /// The sample's operation for these sizes, with symbols of its own for what it binds.
  private mutating func operation(_ sample: Sample, _ sizes: [String: Dim]) -> (any Operation)? {
    var bound: [Symbol: Dim] = [:]
    for symbol in sample.op.boundSymbols { bound[symbol] = freshSymbol(symbol.range) }
    return try? sample.op.renaming(bound).substituting { sizes[$0.name] }
  }

  /// A result as a value of the graph's type, bounded where it is a float.
  private mutating func broughtBack(_ value: ValueID) -> ValueID? {
    guard let type = graph.type(value).tensor, type.dtype != .string else { return nil }
    if dtype == .i32 { return type.dtype.isFloat ? nil : back(value) }
    // What is rounded to fewer bits differs by more than f32 may.
    guard isExact(value) || type.dtype == .f32 || type.dtype == .f64 else { return nil }
    return back(value).flatMap { add("softsign", [$0]) }
  }

  // MARK: Operands

  /// A value of a type, with elements from a range.
  ///
  /// - Parameter exactly: whether it must be one that every form computes to the bit.
  mutating func operand(_ type: ValueType, _ range: ClosedRange<Double>?, exactly: Bool) -> ValueID? {
    switch type {
    case .tensor(let tensor): return self.tensor(tensor, range, exactly: exactly)
    case .optional(let element):
      guard let held = operand(element, range, exactly: exactly) else { return nil }
      return add("optional", [held], ["dtype": .dtype(.f32), "shape": .dims([]), "of_sequence": .bool(false)])
    case .sequence(let element):
      guard let first = operand(element, range, exactly: exactly),
        let second = operand(element, range, exactly: exactly)
      else { return nil }
      return add("sequence_construct", [first, second])
    }
  }

  /// Types that values are cast to and held within bounds in.
  private static let plainTypes: Set<DType> = [.f64, .f32, .f16, .bf16, .i8, .i16, .i32, .i64, .u8, .u16, .u32, .u64]

  private mutating func tensor(
    _ type: TensorType, _ range: ClosedRange<Double>?, exactly: Bool
  ) -> ValueID? {
    let isPlain = Self.plainTypes.contains(type.dtype)
    let known = (pool + others).filter { graph.tensorType($0) == type && (!exactly || isExact($0)) }
    if !known.isEmpty, type.dtype == .bool || isPlain, chance(60) { return held(choose(known), type.dtype, range) }
    if isPlain, chance(70), let value = fitted(type) { return held(value, type.dtype, range) }
    // Inputs are drawn from the common ranges.
    if depth == 0, range == nil, isTold(type.shape), chance(50) { return addInput(type) }
    let shape = type.shape.map { $0.constantValue ?? 1 }
    let made = constant(RandomTensor.make(type.dtype, shape, seed: generator.next(), range: range))
    if type.constantShape != nil { return made }
    return isPlain ? add("broadcast_to", [made], ["shape": .dims(type.shape)]) : nil
  }

  /// An exact value made to have a type: cast, and its elements picked in some order.
  private mutating func fitted(_ type: TensorType) -> ValueID? {
    let sources = (pool + others).filter { value in
      let own = graph.tensorType(value)
      return isExact(value) && Self.plainTypes.contains(own.dtype) && own.elementCount.range.lower >= 1
    }
    guard !sources.isEmpty else { return nil }
    let source = choose(sources)
    let limit = min(graph.tensorType(source).elementCount.range.lower, 5000)
    let shape = type.shape.map { $0.constantValue ?? 1 }
    let picks = (0..<shape.reduce(1, saturatingMultiply)).map { _ in Int64(number(0...limit - 1)) }
    guard
      let cast = add("cast", [source], ["to": .dtype(type.dtype), "saturate": .bool(true)]),
      let flat = add("reshape", [cast], ["shape": .dims([graph.tensorType(source).elementCount])]),
      let picked = add("gather", [flat, constant(HostTensor(.i64, shape, int64s: picks))], ["axis": .int(0)])
    else { return nil }
    return type.constantShape != nil ? picked : add("broadcast_to", [picked], ["shape": .dims(type.shape)])
  }

  /// The value with elements held within a range, or the common range of its type.
  private mutating func held(_ value: ValueID, _ type: DType, _ range: ClosedRange<Double>?) -> ValueID? {
    guard Self.plainTypes.contains(type) else { return value }
    let range = range ?? (type.isFloat ? -2...2 : type.isUnsignedInteger ? 0...9 : -9...9)
    let bounds = type.isFloat ? range : range.lowerBound.rounded(.up)...range.upperBound.rounded(.down)
    guard let raised = add("max", [value, constant(HostTensor(scalar: bounds.lowerBound, type))]) else { return nil }
    return add("min", [raised, constant(HostTensor(scalar: bounds.upperBound, type))])
  }
}
