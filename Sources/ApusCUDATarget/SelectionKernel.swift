import ApusCompiler
import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import ApusPlan

/// Operations whose results are as long as their data says: what is kept is marked, counted, and gathered once the count has
/// been told to the host.
struct SelectionKernel: OperationKernel {
  let operations = ["nonzero", "compress", "non_max_suppression"]
  let loops: GeneratedLoops

  func refusal(_ node: Node, in graph: Graph) -> String? {
    let types = node.inputs.map { graph.tensorType($0) }
    if types.contains(where: { $0.elementCount.range.lower >= Int(UInt32.max) }) {
      return "there are too many elements"
    }
    if node.op is NonMaxSuppression {
      return [0, 1, 3, 4].allSatisfy { types[$0].dtype == .f32 } ? nil : "boxes or scores are not f32"
    }
    return nil
  }

  func emit(_ node: Node, into builder: inout StepBuilder) {
    switch node.op {
    case let op as NonZero: emit(op, node, into: &builder)
    case let op as Compress: emit(op, node, into: &builder)
    case let op as NonMaxSuppression: emit(op, node, into: &builder)
    default: break
    }
  }

  /// The numbers of the elements that a mask of u32 keeps, in order, in a slot of `count` u32; the symbols are set to how many
  /// they are.
  private func places(_ node: Node, mask: Int, count: Dim, into builder: inout StepBuilder) -> Int {
    let before = builder.addTemporary(.u32, count)
    Scan(dtype: .u32, reduction: .sum, isExclusive: true, lines: 1, length: count, inner: 1)
      .emit(node, from: mask, to: before, into: &builder)
    let places = builder.addTemporary(.u32, count)
    let total = builder.addTemporary(.i64, 1)
    OperationCall(
      texts: [CUDAText.scan],
      call:
        "  apus_scan_places(p[0], (const u32 *)b[0], (const u32 *)b[1], (u32 *)b[2], (i64 *)b[3], block, blockCount, 256);\n",
      buffers: [mask, before, places, total], parameters: [count],
      units: Dim.maximum(count.ceilDivided(by: 256), 1)
    ).emit(node, tactic: "places", into: &builder)
    let symbols = node.op.boundSymbols.map(\.name)
    if !symbols.isEmpty {
      builder.add(
        Step(
          .bind(slot: total, symbols: symbols), name: node.op.name, sources: node.name.isEmpty ? [] : [node.name],
          tactic: "bind"))
    }
    return places
  }

  private func mask(
    _ node: Node, _ operand: Int, _ count: Dim, into builder: inout StepBuilder
  ) -> Int {
    let value = node.inputs[operand]
    let given = builder.graph.tensorType(value)
    let (type, source) = (TensorType(.u32, [count]), TensorType(given.dtype, [given.elementCount]))
    let mask = builder.addTemporary(.u32, count)
    loops.emit(node, type, into: mask, [(builder.slot(value), source)], &builder) { operands in
      Operand(type) { coordinates, arena in
        let at = Dim.clamped(coordinates[0], below: given.elementCount)
        let element = operands[0].at([at], arena)
        let isThere = arena.insideConditions(coordinates[0], given.elementCount, below: false)
        let isKept = arena.binary(.not_equal, element, arena.constant(Int64(0), given.dtype))
        return arena.cast(arena.all(isThere + [isKept]) ?? isKept, to: .u32)
      }
    }
    return mask
  }

  private func emit(_ op: NonZero, _ node: Node, into builder: inout StepBuilder) {
    let shape = builder.graph.tensorType(node.inputs[0]).shape
    let count = Dim.product(shape)
    let places = places(node, mask: mask(node, 0, count, into: &builder), count: count, into: &builder)
    let result = builder.graph.tensorType(node.outputs[0])
    let slot = builder.allocate(node.outputs[0])
    loops.emit(node, result, into: slot, [(places, TensorType(.u32, [count]))], &builder) { operands in
      Operand(result) { coordinates, arena in
        let place = arena.dynamicIndex(arena.cast(operands[0].at([coordinates[1]], arena), to: .i64))
        // The row of the result says which coordinate is wanted.
        var value = arena.constant(Int64(0), .i64)
        for (axis, coordinate) in arena.coordinates(.flat(place), in: shape).enumerated() {
          let isWanted = arena.binary(.equal, arena.index(coordinates[0]), arena.index(Dim(axis)))
          value = arena.select(isWanted, arena.index(coordinate), value)
        }
        return value
      }
    }
  }

  private func emit(_ op: Compress, _ node: Node, into builder: inout StepBuilder) {
    let type = builder.graph.tensorType(node.inputs[0])
    let axis = op.axis
    let count = axis.map { type.shape[$0] } ?? type.elementCount
    let places = places(node, mask: mask(node, 1, count, into: &builder), count: count, into: &builder)
    let result = builder.graph.tensorType(node.outputs[0])
    let slot = builder.allocate(node.outputs[0])
    let operands = [(places, TensorType(.u32, [count])), (builder.slot(node.inputs[0]), type)]
    loops.emit(node, result, into: slot, operands, &builder) { operands in
      Operand(result) { coordinates, arena in
        let place = arena.cast(operands[0].at([coordinates[axis ?? 0]], arena), to: .i64)
        let source = arena.clamped(place, in: Dim.maximum(count, 1))
        guard let axis else { return operands[1].at(.flat(source), arena) }
        var all = coordinates
        all[axis] = source
        return operands[1].at(all, arena)
      }
    }
  }

  private func emit(_ op: NonMaxSuppression, _ node: Node, into builder: inout StepBuilder) {
    let scores = builder.graph.tensorType(node.inputs[1])
    let (classes, length) = (scores.shape[1], scores.shape[2])
    let count = scores.elementCount
    let lines = Lines(count: scores.shape[0] * classes, length: length, first: length, inner: 1)
    let values = builder.addTemporary(.f32, count)
    let order = builder.addTemporary(.i64, count)
    OrderKernel.sort(node, .f32, lines, (builder.slot(node.inputs[1]), values, order), into: &builder)
    let state = builder.addTemporary(.u8, count)
    let picked = builder.addTemporary(.u32, count)
    let mask = builder.addTemporary(.u32, count)
    let index = CDialect.storage(builder.graph.tensorType(node.inputs[2]).dtype)
    OperationCall(
      texts: [CUDAText.boxes],
      call: """
          apus_box_pick<\(op.centerPointBox), 256>(p[0], p[1], p[2], (const float *)b[0], (const float *)b[1], (const i64 *)b[2], \
        (const \(index) *)b[3], (const float *)b[4], (const float *)b[5], (u8 *)b[6], (u32 *)b[7], (u32 *)b[8], block, \
        blockCount);

        """,
      buffers: [builder.slot(node.inputs[0]), values, order] + node.inputs[2...].map { builder.slot($0) }
        + [state, picked, mask],
      parameters: [lines.count, classes, length], units: lines.count
    ).emit(node, tactic: "pick boxes", work: count, into: &builder)
    let places = places(node, mask: mask, count: count, into: &builder)
    let result = builder.graph.tensorType(node.outputs[0])
    let list = TensorType(.u32, [count])
    let slot = builder.allocate(node.outputs[0])
    loops.emit(node, result, into: slot, [(places, list), (picked, list)], &builder) { operands in
      Operand(result) { coordinates, arena in
        let place = arena.clamped(
          arena.cast(operands[0].at([coordinates[0]], arena), to: .i64), in: Dim.maximum(count, 1))
        let line = arena.quotient(place, length)
        let box = arena.cast(operands[1].at([place], arena), to: .i64)
        func isColumn(_ column: Int) -> Expr {
          arena.binary(.equal, arena.index(coordinates[1]), arena.index(Dim(column)))
        }
        let category = arena.index(arena.remainder(line, classes))
        let rest = arena.select(isColumn(1), category, box)
        return arena.select(isColumn(0), arena.index(arena.quotient(line, classes)), rest)
      }
    }
  }
}
