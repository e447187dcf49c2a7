package import ApusCore
package import ApusGraph
package import ApusKernel

/// Joins tensors along an axis.
///
/// - Shapes: all other dims are equal; of two dims that may be equal the constant one is taken.
/// - Source: ONNX Concat-13.
package struct Concat: TensorOperation {
  package let axis: Int

  package init(axis: Int) { self.axis = axis }

  package init(name: String, attributes: Attributes) throws(GraphError) { axis = try attributes.int("axis") }

  package var name: String { "concat" }
  package var attributes: Attributes { ["axis": .int(axis)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...Int.max)
    try expectSameDType(x)
    let axis = try resolve(axis: axis, rank: x[0].rank)
    var shape = x[0].shape
    for type in x.dropFirst() {
      let fits =
        type.rank == shape.count
        && shape.indices.allSatisfy { $0 == axis || (shape[$0] - type.shape[$0]).range.contains(0) }
      if !fits {
        throw shapeError("APUS-S-0027", "\(x[0]) and \(type) differ in another dim than axis \(axis)")
      }
      for index in shape.indices where index != axis && type.shape[index].isConstant {
        shape[index] = type.shape[index]
      }
      shape[axis] = shape[axis] + type.shape[axis]
    }
    return [x[0].with(shape: shape)]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    if shape.contains(0) { return [HostTensor.empty(dtype, shape)] }
    let axis = axis < 0 ? axis + shape.count : axis
    let outer = shape[..<axis].reduce(1, *)
    if dtype == .string {
      var strings: [String] = []
      for block in 0..<outer {
        for part in x {
          let count = part.shape[axis...].reduce(1, *)
          strings += part.strings[block * count..<(block + 1) * count]
        }
      }
      return [HostTensor(strings: strings, shape: shape)]
    }
    let rowBytes = shape[axis...].reduce(dtype.byteCount, *)
    let result = HostTensor(dtype, shape) { target in
      var offset = 0
      for part in x {
        let bytes = part.shape[axis...].reduce(dtype.byteCount, *)
        part.withUnsafeBytes { source in
          for block in 0..<outer where bytes > 0 {
            let row = UnsafeMutableRawBufferPointer(
              rebasing: target[block * rowBytes + offset..<(block + 1) * rowBytes])
            row.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[block * bytes..<(block + 1) * bytes]))
          }
        }
        offset += bytes
      }
    }
    return [result]
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    if results[0].dtype == .string { return nil }
    let axis = axis < 0 ? axis + results[0].rank : axis
    var parts: [(operand: Operand, start: Dim, size: Dim)] = []
    var start: Dim = 0
    for operand in x where operand.type.shape[axis] != 0 {
      parts.append((operand, start, operand.type.shape[axis]))
      start = start + operand.type.shape[axis]
    }
    guard let last = parts.last else { return nil }
    if parts.count == 1 { return [last.operand] }
    return [
      Operand(results[0]) { coordinates, arena in
        func element(_ part: (operand: Operand, start: Dim, size: Dim)) -> Expr {
          var source = coordinates
          source[axis] = Dim.clamped(coordinates[axis] - part.start, below: part.size)
          return part.operand.at(source, arena)
        }
        return parts.dropLast().reversed().reduce(element(last)) { rest, part in
          let isHere = arena.binary(.less, arena.index(coordinates[axis]), arena.index(part.start + part.size))
          return arena.select(isHere, element(part), rest)
        }
      }
    ]
  }

  package func dims(_ x: [[Dim]?], _ types: [TensorType]) -> [[Dim]?]? {
    guard types[0].rank == 1 else { return nil }
    let parts = x.compactMap { $0 }
    return parts.count == x.count ? [parts.flatMap { $0 }] : nil
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { 0 }

  package static let samples = [
    Sample(Concat(axis: 1), "f32[A, 2]", "f32[A, B]", "f32[A, 3]", where: ["A": 1...3, "B": 0...4]),
    Sample(Concat(axis: 0), "i64[A]", "i64[0]", "i64[B]", where: ["A": 1...3, "B": 1...4]),
    Sample(Concat(axis: -1), "i64[2, 3]"),
    Sample(Concat(axis: 0), "string[A, 2]", "string[1, 2]", where: ["A": 1...3]),
  ]
}
