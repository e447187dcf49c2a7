import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import ApusPlan

/// Scattering of many updates. Without a reduction the last update of each element is found first; else updates are sorted by
/// what they meet and combined in their order.
struct ScatterKernel: OperationKernel {
  let operations = ["scatter_elements", "scatter_nd", "max_unpool"]
  let loops: GeneratedLoops

  func refusal(_ node: Node, in graph: Graph) -> String? {
    let result = graph.tensorType(node.outputs[0])
    if result.elementCount.range.lower >= Int(UInt32.max) { return "there are too many elements" }
    return result.dtype == .bool && reduction(node) != .none ? "elements are bool" : nil
  }

  private func reduction(_ node: Node) -> ScatterReduction {
    (node.op as? ScatterElements)?.reduction ?? (node.op as? ScatterND)?.reduction ?? .none
  }

  /// What is updated where.
  private struct Updates {
    /// Slots: what is updated (nil for zeros), the updates, their targets.
    var base: Int?
    var values: Int
    var targets: Int
    var type: TensorType
    var valueType: TensorType
    var count: Dim
    var targetCount: Dim
    /// Elements of a target.
    var width: Dim
  }

  func emit(_ node: Node, into builder: inout StepBuilder) {
    let graph = builder.graph
    let type = graph.tensorType(node.outputs[0])
    let isUnpooling = node.op is MaxUnpool
    let indices = graph.tensorType(node.inputs[1])
    let width = (node.op as? ScatterND).map { _ in indices.shape.last?.constantValue ?? 0 } ?? type.rank
    let count = node.op is ScatterND ? Dim.product(indices.shape.dropLast()) : indices.elementCount
    let targetCount = Dim.product(type.shape[..<width])
    let values = node.inputs[isUnpooling ? 0 : 2]
    let targets = builder.addTemporary(.u32, count)
    loops.emit(
      node, TensorType(.u32, [count]), into: targets, [(builder.slot(node.inputs[1]), indices)], &builder
    ) { operands in
      Operand(TensorType(.u32, [count])) { position, arena in
        let shape = node.op is ScatterND ? Array(indices.shape.dropLast()) : indices.shape
        let place = arena.coordinates(.flat(arena.flat(position, in: [count])), in: shape)
        return target(node, operands[0], place, type.shape, width, arena)
      }
    }
    let updates = Updates(
      base: isUnpooling ? nil : builder.slot(node.inputs[0]), values: builder.slot(values), targets: targets,
      type: type,
      valueType: graph.tensorType(values), count: count, targetCount: targetCount,
      width: Dim.product(type.shape[width...]))
    let result = builder.allocate(node.outputs[0])
    let reduction = reduction(node)
    if reduction == .none {
      overwrite(node, updates, result, into: &builder)
    } else {
      combine(node, updates, reduction, result, into: &builder)
    }
  }

  /// The number of the target that an update has, or one beyond all targets for a place that is not there.
  private func target(
    _ node: Node, _ indices: Operand, _ place: [Dim], _ shape: Shape, _ width: Int, _ arena: ExprArena
  ) -> Expr {
    var (target, isInside) = (arena.constant(Int64(0), .i64), arena.constant(Int64(1), .bool))
    func add(_ index: Expr, _ size: Dim) {
      let isBefore = arena.binary(.less, index, arena.constant(Int64(0), .i64))
      let isBeyond = arena.binary(.greater_equal, index, arena.index(size))
      isInside = arena.binary(.and, isInside, arena.unary(.not, arena.binary(.or, isBefore, isBeyond)))
      target = arena.binary(.add, arena.binary(.mul, target, arena.index(size)), index)
    }
    switch node.op {
    case let op as ScatterElements:
      for axis in shape.indices {
        add(
          axis == op.axis ? arena.position(indices.at(place, arena), in: shape[axis]) : arena.index(place[axis]),
          shape[axis])
      }
    case is ScatterND:
      for axis in 0..<width {
        add(arena.position(indices.at(place + [Dim(axis)], arena), in: shape[axis]), shape[axis])
      }
    default: add(arena.position(indices.at(place, arena), in: Dim.product(shape)), Dim.product(shape))
    }
    let beyond = arena.constant(Int64(UInt32.max), .i64)
    return arena.cast(arena.select(isInside, target, beyond), to: .u32)
  }

  private func overwrite(_ node: Node, _ updates: Updates, _ result: Int, into builder: inout StepBuilder) {
    let lastType = TensorType(.u32, [updates.targetCount])
    let last = builder.addTemporary(.u32, updates.targetCount)
    loops.emit(node, lastType, into: last, [], &builder) { _ in
      Operand(lastType) { (_: Position, arena: ExprArena) in arena.constant(Int64(0), .u32) }
    }
    OperationCall(
      texts: [CUDAText.scatter],
      call: "  apus_scatter_last(p[0], p[1], (const u32 *)b[0], (u32 *)b[1], block, blockCount, 256);\n",
      buffers: [updates.targets, last], parameters: [updates.count, updates.targetCount],
      units: updates.count.ceilDivided(by: 256)
    ).emit(node, tactic: "last updates", into: &builder)
    let values = TensorType(updates.type.dtype, [updates.count * updates.width])
    var operands = [(last, lastType), (updates.values, values)]
    if let base = updates.base { operands.append((base, updates.type)) }
    loops.emit(node, updates.type, into: result, operands, &builder) { operands in
      Operand(updates.type) { position, arena in
        let flat = arena.flat(position, in: updates.type.shape)
        let number = arena.cast(operands[0].at([arena.quotient(flat, updates.width)], arena), to: .i64)
        let zero = arena.constant(Int64(0), .i64)
        let update = arena.clamped(
          arena.binary(.sub, number, arena.constant(Int64(1), .i64)), in: Dim.maximum(updates.count, 1))
        let value = operands[1].at([update * updates.width + arena.remainder(flat, updates.width)], arena)
        let kept =
          operands.count > 2 ? operands[2].at(.flat(flat), arena) : arena.constant(Int64(0), updates.type.dtype)
        return arena.select(arena.binary(.equal, number, zero), kept, value)
      }
    }
  }

  private func combine(
    _ node: Node, _ updates: Updates, _ reduction: ScatterReduction, _ result: Int, into builder: inout StepBuilder
  ) {
    guard let base = updates.base, let ordering = Ordering(.u32, falls: false) else { return }
    loops.emit(node, updates.type, into: result, [(base, updates.type)], &builder) { $0[0] }
    var digits = 1
    // A place that is not there is beyond all others in each digit.
    while digits < 4, updates.targetCount.range.upper >= 1 << (8 * digits) { digits += 1 }
    let lines = Lines(count: 1, length: updates.count, first: updates.count, inner: 1)
    let sorted = RadixSort(ordering: ordering, lines: lines, digits: digits)
      .emitItems(node, elements: updates.targets, into: &builder)
    let combining = CombiningText(
      name: "KERNEL_NAME_op", dtype: updates.type.dtype, reduction: reduction.kernelReduction)
    let raw = "typename KERNEL_NAME_op::raw"
    OperationCall(
      texts: [combining.text, CUDAText.scatter],
      call: """
          apus_scatter_combine<KERNEL_NAME_op>(p[0], p[1], p[2], (const u32 *)b[0], (const u32 *)b[1], \
        (const \(raw) *)b[2], (const \(raw) *)b[3], (\(raw) *)b[4], block, blockCount, 256);

        """,
      buffers: [sorted.keys, sorted.places, base, updates.values, result],
      parameters: [updates.count, updates.targetCount, updates.width],
      units: (updates.count * updates.width).ceilDivided(by: 256)
    ).emit(node, tactic: "combine", work: updates.count * updates.width, into: &builder)
  }
}

extension ScatterReduction {
  fileprivate var kernelReduction: Reduction {
    switch self {
    case .none, .add: .sum
    case .mul: .prod
    case .min: .min
    case .max: .max
    }
  }
}
