package import ApusCore
package import ApusGraph

/// Computes a discrete Fourier transform along one axis.
///
/// - Shapes: x `[…, n, …, c]` with c = 1 (real) or 2 (real and imaginary part); the axis is cut or filled with zeros to
///   `length`. Forward: `[…, length, …, 2]`, with `onesided` length ÷ 2 + 1 in place of length. Inverse: the same,
///   divided by length; with `onesided` x is half a spectrum and the result real, `[…, length, …, 1]`.
/// - Types: a float type; computed in f64.
/// - Source: ONNX DFT-20.
package struct DFT: TensorOperation {
  package let axis: Int
  package let length: Dim
  package let inverse: Bool
  package let onesided: Bool

  package init(axis: Int, length: Dim, inverse: Bool = false, onesided: Bool = false) {
    self.axis = axis
    self.length = length
    self.inverse = inverse
    self.onesided = onesided
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    axis = try attributes.int("axis")
    length = try attributes.dim("length")
    inverse = try attributes.bool("inverse")
    onesided = try attributes.bool("onesided")
  }

  package var name: String { "dft" }
  package var attributes: Attributes {
    ["axis": .int(axis), "length": .dim(length), "inverse": .bool(inverse), "onesided": .bool(onesided)]
  }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    try expectFloat(x[0], "x")
    try expectAxis(axis, rank: x[0].rank - 1)
    if let parts = x[0].shape.last?.constantValue, parts != 1 && parts != 2 {
      throw shapeError("APUS-S-0205", "the last dim is \(parts), 1 (real) or 2 (complex) is expected")
    }
    if length.range.upper < 1 { throw shapeError("APUS-S-0206", "the length is \(length)") }
    var shape = x[0].shape
    shape[axis] = onesided && !inverse ? length.floorDivided(by: 2) + 1 : length
    shape[shape.count - 1] = onesided && inverse ? 1 : 2
    return [x[0].with(shape: shape)]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    guard let length = length.constantValue, length >= 1 else {
      throw evaluationError("APUS-V-0202", "the length \(length) is not known or not positive")
    }
    if shape.contains(0) { return [HostTensor.empty(dtype, shape)] }
    let parts = x[0].shape[x[0].rank - 1]
    let source = AxisSplit(Array(x[0].shape.dropLast()), axis: axis)
    let target = AxisSplit(Array(shape.dropLast()), axis: axis)
    let transform = FourierTransform(length: length)
    let values = x[0].doubles
    let resultParts = shape[shape.count - 1]
    var result = [Double](repeating: 0, count: shape.reduce(1, saturatingMultiply))
    for outer in 0..<source.outer {
      for inner in 0..<source.inner {
        var line = [SIMD2<Double>](repeating: .zero, count: length)
        for index in 0..<min(length, source.count) {
          let at = ((outer * source.count + index) * source.inner + inner) * parts
          line[index] = SIMD2(values[at], parts == 2 ? values[at + 1] : 0)
        }
        if onesided && inverse { Self.complete(&line) }
        let spectrum = transform(line, inverse: inverse)
        for index in 0..<target.count {
          let at = ((outer * target.count + index) * target.inner + inner) * resultParts
          result[at] = spectrum[index].x
          if resultParts == 2 { result[at + 1] = spectrum[index].y }
        }
      }
    }
    return [HostTensor(dtype, shape, doubles: result)]
  }

  /// Fills the upper half of a spectrum whose signal is real.
  private static func complete(_ line: inout [SIMD2<Double>]) {
    let length = line.count
    line[0].y = 0
    if length % 2 == 0 { line[length / 2].y = 0 }
    for index in 1..<max((length + 1) / 2, 1) { line[length - index] = SIMD2(line[index].x, -line[index].y) }
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim {
    (results[0].tensor?.elementCount ?? 0) * 5
      * Dim(length.constantValue.map { Int.bitWidth - $0.leadingZeroBitCount } ?? 10)
  }

  package static var samples: [Sample] {
    let ranges = ["N": 1...3, "M": 4...9]
    let length = Dim(Symbol("M"))
    return [
      Sample(DFT(axis: 1, length: 8), "f32[N, 8, 1]", where: ranges),
      Sample(DFT(axis: 1, length: length, onesided: true), "f32[N, M, 1]", where: ranges),
      Sample(DFT(axis: 0, length: 130), "f64[100, N, 2]", where: ranges),
      Sample(DFT(axis: 1, length: length, inverse: true), "f32[N, M, 2]", where: ranges),
      Sample(DFT(axis: 0, length: 100), "f32[100, 1]", tolerance: 1e-4),
      Sample(DFT(axis: 0, length: 3000), "f64[3000, 1]"),
      Sample(DFT(axis: 0, length: 1500, inverse: true, onesided: true), "f64[751, 2, 2]"),
      Sample(DFT(axis: 0, length: 2048), "f16[1900, 2]", values: [0: -0.02...0.02]),
      Sample(DFT(axis: 1, length: 9, inverse: true, onesided: true), "f32[N, 5, 2]", where: ranges),
    ]
  }
}
