import ApusCore
import ApusGraph
import ApusOps

/// Sequences and optionals.
enum SequenceOperators {
  static let table: [String: Lowering] = [
    "SequenceConstruct": construct, "SequenceEmpty": empty, "SequenceInsert": insert, "SequenceErase": erase,
    "SequenceAt": at, "SequenceLength": length, "ConcatFromSequence": concat, "SplitToSequence": split,
    "Optional": optional, "OptionalHasElement": hasElement, "OptionalGetElement": getElement,
  ]

  /// The shape with every size that is not constant replaced by the one that stands for any.
  static func anySizes(_ type: TensorType) -> Shape {
    type.shape.map { $0.isConstant ? $0 : ValueType.anySize }
  }

  /// The shape of one element taken out: fresh symbols for the sizes that the type leaves open.
  private static func openShape(_ n: NodeContext, _ type: TensorType) -> Shape {
    let name = n.node.output.first { !$0.isEmpty } ?? n.node.opType
    return type.shape.enumerated().map { axis, dim in
      dim.isConstant ? dim : Dim(n.freshSymbol("\(name)_\(axis)"))
    }
  }

  private static func element(_ n: NodeContext, _ sequence: ValueID) throws(ImportError) -> ValueType {
    guard case .sequence(let element) = n.builder.graph.type(sequence) else {
      throw ImportError("APUS-I-0013", "a sequence is expected, found \(n.builder.graph.type(sequence))")
    }
    return element
  }

  private static func construct(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    try n.emitAll("sequence_construct", [:], n.allInputs())
  }

  private static func empty(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let dtype = try n.optionalDType("dtype") ?? .f32
    return [try n.emit("sequence_empty", ["dtype": .dtype(dtype), "shape": .dims([])])]
  }

  private static func insert(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    guard let position = n.optional(2) else { return [try n("sequence_insert", n.input(0), n.input(1))] }
    return [try n("sequence_insert", n.input(0), n.input(1), position)]
  }

  private static func erase(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    guard let position = n.optional(1) else { return [try n("sequence_erase", n.input(0))] }
    return [try n("sequence_erase", n.input(0), position)]
  }

  private static func at(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let sequence = try n.input(0)
    return [try element(n, sequence, at: n.input(1), element(n, sequence))]
  }

  /// One element of a sequence of tensors.
  static func element(
    _ n: NodeContext, _ sequence: ValueID, at index: ValueID, _ element: ValueType
  ) throws(ImportError) -> ValueID {
    guard let type = element.tensor else {
      throw .unsupported("on a sequence of \(element)")
    }
    return try n.emit("sequence_at", ["shape": .dims(openShape(n, type))], sequence, index)
  }

  private static func length(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    [try n("sequence_length", n.input(0))]
  }

  private static func concat(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let sequence = try n.input(0)
    guard let type = try element(n, sequence).tensor else { throw .unsupported("on a sequence of sequences") }
    let isNew = try n.flag("new_axis")
    var shape = openShape(n, type)
    let rank = shape.count + (isNew ? 1 : 0)
    let axis = try n.normalized(n.int("axis"), rank: rank)
    let size = Dim(n.freshSymbol("\(n.node.output.first ?? n.node.opType)_length"))
    if isNew { shape.insert(size, at: axis) } else { shape[axis] = size }
    return [
      try n.emit(
        "concat_from_sequence", ["axis": .int(axis), "new_axis": .bool(isNew), "shape": .dims(shape)], sequence)
    ]
  }

  private static func split(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    let x = try n.input(0)
    let shape = try n.shape(x, minimumRank: 1)
    let axis = try n.normalized(n.int("axis", 0), rank: shape.count)
    let keepDims = try n.flag("keepdims", true)
    guard let sizes = n.optional(1) else {
      return [
        try n.emit(
          "split_to_sequence", ["axis": .int(axis), "keep_dims": .bool(keepDims), "part": .dim(1)], x)
      ]
    }
    var part = ValueType.anySize
    if let known = n.knownDims(sizes), let first = known.first, known.allSatisfy({ $0 == first }) {
      let isExact = try n.rank(sizes) == 1 || shape[axis].dividedExactly(by: first) != nil
      if first.isConstant, isExact { part = first }
    }
    return [
      try n.emit(
        "split_to_sequence", ["axis": .int(axis), "keep_dims": .bool(true), "part": .dim(part)], x, sizes)
    ]
  }

  // MARK: Optionals

  private static func optional(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    if let x = n.optional(0) {
      return [try wrapped(n, x)]
    }
    guard let attribute = n.attribute("type") else { throw ImportError("APUS-I-0012", "attribute 'type' is missing") }
    var type = try InputReader(session: n.session).valueType(attribute.tp, name: "the optional", isElement: true)
    var ofSequence = false
    if case .sequence(let element) = type {
      type = element
      ofSequence = true
    }
    guard let tensor = type.tensor else { throw .unsupported("of type \(type)") }
    return [
      try n.emit(
        "optional",
        ["dtype": .dtype(tensor.dtype), "shape": .dims(anySizes(tensor)), "of_sequence": .bool(ofSequence)])
    ]
  }

  private static func hasElement(_ n: NodeContext) throws(ImportError) -> [ValueID] {
    guard let x = n.optional(0) else { return [n.scalar(0, .bool)] }
    guard case .optional = n.builder.graph.type(x) else { return [n.scalar(1, .bool)] }
    return [try n("optional_has_element", x)]
  }

  private static func getElement(_ n: NodeContext) throws(ImportError) -> [ValueID] { [try unwrapped(n, n.input(0))] }

  /// A value as an optional that holds it.
  static func wrapped(_ n: NodeContext, _ x: ValueID) throws(ImportError) -> ValueID {
    try n.emit("optional", ["dtype": .dtype(.f32), "shape": .dims([]), "of_sequence": .bool(false)], x)
  }

  /// What an optional holds; any other value as it is.
  static func unwrapped(_ n: NodeContext, _ x: ValueID) throws(ImportError) -> ValueID {
    guard case .optional(let element) = n.builder.graph.type(x) else { return x }
    let shape = element.tensor.map { openShape(n, $0) } ?? []
    return try n.emit("optional_get_element", ["shape": .dims(shape)], x)
  }
}
