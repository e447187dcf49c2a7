package import ApusCore
package import ApusGraph
package import ApusKernel

/// Converts every element to another type.
///
/// - Types: all pairs. Floats round to nearest even; floats to integers truncate towards zero; to bool is `≠ 0`;
///   integers wrap. With `saturate` a float too large for an 8-bit float becomes the largest finite value, else infinity
///   or NaN. Strings are read and written as decimal numbers.
/// - Source: ONNX Cast-19.
package struct Cast: TensorOperation {
  package let dtype: DType
  package let saturate: Bool

  package init(to dtype: DType, saturate: Bool = true) {
    self.dtype = dtype
    self.saturate = saturate
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    dtype = try attributes.dtype("to")
    saturate = try attributes.bool("saturate")
  }

  package var name: String { "cast" }
  package var attributes: Attributes { ["to": .dtype(dtype), "saturate": .bool(saturate)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    return [x[0].with(dtype: dtype)]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    _ = try resultType(for: x)
    let x = x[0]
    if x.dtype == dtype { return [x] }
    if dtype == .string { return [HostTensor(strings: Self.texts(x), shape: x.shape)] }
    if x.dtype == .string { return [try parsing(x)] }
    if !saturate, let format = dtype.smallFloat, dtype.byteCount == 1 {
      let bits = x.doubles.map { UInt8(truncatingIfNeeded: format.encode($0, saturating: false)) }
      return [HostTensor(dtype, x.shape, elements: bits)]
    }
    if x.dtype.isFloat || dtype.isFloat {
      if dtype == .bool || x.dtype.isFloat || x.dtype == .u64 {
        return [HostTensor(dtype, x.shape, doubles: x.doubles)]
      }
    }
    return [HostTensor(dtype, x.shape, int64s: x.int64s)]
  }

  private static func texts(_ x: HostTensor) -> [String] {
    switch x.dtype {
    case .f64: x.doubles.map(text)
    case .f32: x.elements(as: Float.self).map(text)
    case .bool: x.int64s.map { $0 == 0 ? "False" : "True" }
    case .u64: x.elements(as: UInt64.self).map(String.init)
    case let dtype where dtype.isFloat: x.doubles.map { text(Float($0)) }
    default: x.int64s.map(String.init)
    }
  }

  private static func text(_ value: some BinaryFloatingPoint & CustomStringConvertible) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value > 0 ? "INF" : "-INF" }
    return value.description
  }

  private func parsing(_ x: HostTensor) throws(EvaluationError) -> HostTensor {
    if dtype.isInteger {
      let values = x.strings.compactMap { text in
        Int64(text) ?? UInt64(text).map { Int64(bitPattern: $0) }
          ?? Double(text).flatMap { Int64(exactly: $0.rounded(.towardZero)) }
      }
      if values.count == x.strings.count { return HostTensor(dtype, x.shape, int64s: values) }
    } else {
      let words: [String: Double] = ["True": 1, "true": 1, "False": 0, "false": 0]
      let values = x.strings.compactMap { words[$0] ?? Double($0.lowercased()) }
      if values.count == x.strings.count { return HostTensor(dtype, x.shape, doubles: values) }
    }
    throw evaluationError("APUS-V-0010", "the strings are not all numbers that \(dtype) can hold")
  }

  package func lower(_ x: [Operand], _ results: [TensorType]) -> [Operand]? {
    let source = x[0].type.dtype
    let dtype = dtype
    let isUnsaturated = !saturate && dtype.smallFloat != nil && dtype.byteCount == 1
    if source == .string || dtype == .string || isUnsaturated { return nil }
    return [
      Operand(results[0]) { (position: Position, arena) in
        let value = x[0].at(position, arena)
        if source == dtype { return value }
        if dtype == .bool { return arena.binary(.not_equal, value, arena.constant(Int64(0), source)) }
        return arena.cast(value, to: dtype)
      }
    ]
  }

  package func dims(_ x: [[Dim]?], _ types: [TensorType]) -> [[Dim]?]? {
    guard let dims = x[0], !types[0].dtype.isFloat, dtype.isInteger || dtype == .bool else { return nil }
    let values = dims.compactMap { dim -> Dim? in
      if let value = dim.constantValue { return Dim(Int(dtype.wrapping(Int64(value)))) }
      if dtype == .bool { return dim.range.lower > 0 || dim.range.upper < 0 ? 1 : nil }
      return dim
    }
    return values.count == dims.count ? [values] : nil
  }

  package static let samples: [Sample] = {
    let types: [DType] = [.f32, .f64, .f16, .bf16, .i64, .i32, .i8, .u8, .u64, .bool, .i4, .u4, .f8e4m3fn, .f8e5m2]
    var samples: [Sample] = []
    for source in types {
      for target in types where target != source {
        let range = target.isUnsignedInteger ? 0.0...9.0 : -6.0...6.0
        samples.append(Sample(Cast(to: target), "\(source)[A, 3]", where: ["A": 1...5], values: [0: range]))
      }
    }
    samples.append(Sample(Cast(to: .f8e5m2, saturate: false), "f32[7]", values: [0: -1e5...1e5]))
    samples.append(Sample(Cast(to: .string), "i32[7]"))
    samples.append(
      Sample(Cast(to: .f32), "string[2]", constants: [0: HostTensor(strings: ["1.5", "-INF"], shape: [2])]))
    return samples
  }()
}
