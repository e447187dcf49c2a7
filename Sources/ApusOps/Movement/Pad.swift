package import ApusCore
package import ApusGraph
package import ApusKernel

/// Adds elements before and after each axis: a value, the edge, or the tensor mirrored or repeated.
///
/// - Shapes: amounts of at least 0 per axis; edge, reflect and wrap need at least one element per padded axis.
/// - Types: any; the second operand is the value to pad with, a scalar of the operand's type, in mode `constant` only.
/// - Source: ONNX Pad-21.
package struct Pad: TensorOperation {
  package enum Mode: String, Sendable {
    case constant, edge, reflect, wrap
  }

  package let before: [Dim]
  package let after: [Dim]
  package let mode: Mode

  package init(before: [Dim], after: [Dim], mode: Mode = .constant) {
    self.before = before
    self.after = after
    self.mode = mode
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    before = try attributes.dims("before")
    after = try attributes.dims("after")
    let text = try attributes.string("mode")
    guard let mode = Mode(rawValue: text) else {
      throw GraphError("APUS-G-0021", "pad: mode '\(text)' is none of constant, edge, reflect, wrap")
    }
    self.mode = mode
  }

  package var name: String { "pad" }
  package var attributes: Attributes {
    ["before": .dims(before), "after": .dims(after), "mode": .string(mode.rawValue)]
  }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, mode == .constant ? 2...2 : 1...1)
    let rank = x[0].rank
    guard before.count == rank, after.count == rank, (before + after).allSatisfy({ $0.range.upper >= 0 }) else {
      throw shapeError("APUS-S-0025", "\(x[0]) needs \(rank) amounts of at least 0 on both sides")
    }
    if mode == .constant {
      try expectSameDType(x)
      try expect(x[1].elementCount == 1, x[1], operand: 1, is: "a scalar")
    } else {
      for axis in 0..<rank where x[0].shape[axis] == 0 && (before[axis] + after[axis]).range.lower > 0 {
        throw shapeError("APUS-S-0026", "axis \(axis) of \(x[0]) has nothing to \(mode.rawValue)")
      }
    }
    return [x[0].with(shape: (0..<rank).map { before[$0] + x[0].shape[$0] + after[$0] })]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    if shape.contains(0) { return [HostTensor.empty(dtype, shape)] }
    let indices = try sourceIndices(x[0].shape)
    guard mode == .constant else { return [x[0].gathering(indices, shape: shape)] }
    // The value is put behind the operand's elements, so that one gather takes both.
    let count = x[0].elementCount
    let filled = indices.map { $0 < 0 ? count : $0 }
    if dtype == .string {
      let strings = x[0].strings + x[1].strings
      return [HostTensor(strings: filled.map { strings[$0] }, shape: shape)]
    }
    let joined = HostTensor(dtype, [count + 1]) { target in
      x[0].withUnsafeBytes { target.copyMemory(from: $0) }
      let tail = UnsafeMutableRawBufferPointer(rebasing: target[(count * dtype.byteCount)...])
      x[1].withUnsafeBytes { tail.copyMemory(from: $0) }
    }
    return [joined.gathering(filled, shape: shape)]
  }

  private func sourceIndices(_ shape: [Int]) throws(EvaluationError) -> [Int] {
    let (before, after) = (try constants(before), try constants(after))
    let strides = HostTensor.strides(of: shape)
    let tables = shape.indices.map { axis in
      (0..<before[axis] + shape[axis] + after[axis]).map { position in
        source(position - before[axis], shape[axis]).map { $0 * strides[axis] } ?? -1
      }
    }
    return IndexMap.combining(tables)
  }

  private func source(_ index: Int, _ size: Int) -> Int? {
    if (0..<size).contains(index) { return index }
    switch mode {
    case .constant: return nil
    case .edge: return index < 0 ? 0 : size - 1
    case .reflect:
      let period = max(2 * (size - 1), 1)
      let phase = index - saturatingFloorDivide(index, period) * period
      return min(phase, period - phase)
    case .wrap: return index - saturatingFloorDivide(index, size) * size
    }
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    if results[0].dtype == .string { return nil }
    let shape = x[0].type.shape
    return [
      Operand(results[0]) { coordinates, arena in
        let source = coordinates.indices.map { coordinates[$0] - before[$0] }
        guard mode == .constant else {
          return x[0].at(source.indices.map { sourceDim($0, source[$0], shape[$0], arena) }, arena)
        }
        let padded = source.indices.filter { before[$0] != 0 || after[$0] != 0 }
        let bounds = padded.flatMap { axis in
          arena.insideConditions(source[axis], shape[axis], below: before[axis] != 0, above: after[axis] != 0)
        }
        guard let inside = arena.all(bounds) else { return x[0].at(source, arena) }
        let clamped = source.indices.map { axis in
          padded.contains(axis) ? Dim.clamped(source[axis], below: shape[axis]) : source[axis]
        }
        return arena.select(inside, x[0].at(clamped, arena), x[1].at(.flat(0), arena))
      }
    ]
  }

  private func sourceDim(_ axis: Int, _ index: Dim, _ size: Dim, _ arena: ExprArena) -> Dim {
    if before[axis] == 0, after[axis] == 0 { return index }
    switch mode {
    case .constant, .edge: return Dim.clamped(index, below: size)
    case .wrap: return index.remainder(by: size)
    case .reflect:
      let isShort = [before[axis], after[axis]].allSatisfy { (size - 1 - $0).range.lower >= 0 }
      if isShort {
        let mirrored = before[axis] == 0 ? index : Dim.maximum(index, -index)
        return after[axis] == 0 ? mirrored : Dim.minimum(mirrored, 2 * (size - 1) - mirrored)
      }
      let period = Dim.maximum(2 * (size - 1), 1)
      let phase = index.remainder(by: period)
      return Dim.minimum(phase, period - phase)
    }
  }

  package func dims(_ x: [[Dim]?], _ types: [TensorType]) -> [[Dim]?]? {
    guard let dims = x[0], let shape = types[0].constantShape, let result = try? infer(types),
      let count = result[0].elementCount.constantValue, (1...4096).contains(count),
      let indices = try? sourceIndices(shape)
    else { return nil }
    guard mode == .constant else {
      return indices.allSatisfy(dims.indices.contains) ? [indices.map { dims[$0] }] : nil
    }
    guard let value = x[1]?.first else { return nil }
    return [indices.map { $0 < 0 || $0 >= dims.count ? value : dims[$0] }]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { 0 }

  package static let samples: [Sample] = {
    let b = Dim(Symbol("B", Interval(0, 3)))
    let sizes = ["A": 3...5, "B": 0...3]
    return [
      Sample(Pad(before: [1, b], after: [0, 2]), "f32[A, 5]", "f32[]", where: sizes),
      Sample(Pad(before: [0, b], after: [0, 0]), "i8[A, B]", "i8[1]", where: ["A": 1...3, "B": 1...3]),
      Sample(Pad(before: [1, b], after: [4, 2], mode: .edge), "f32[A, 5]", where: sizes),
      Sample(Pad(before: [1, b], after: [2, 2], mode: .reflect), "f32[A, 5]", where: sizes),
      Sample(Pad(before: [0, 7], after: [9, 8], mode: .reflect), "f32[A, 3]", where: ["A": 1...3]),
      Sample(Pad(before: [7, b], after: [4, 2], mode: .wrap), "i64[A, 5]", where: sizes),
    ]
  }()
}
