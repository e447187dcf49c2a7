package import ApusCore
package import ApusGraph

/// Computes Fourier transforms of windowed frames of signals.
///
/// - Shapes: x `[B, n, c]` with c = 1 (real) or 2 (real and imaginary part), window `[w]` → `[B, frames, k, 2]` with
///   frames = (n − w) ÷ step + 1 and k = w, with `onesided` w ÷ 2 + 1.
/// - Types: one float type; computed in f64.
/// - Source: ONNX STFT-17.
package struct STFT: TensorOperation {
  package let step: Dim
  package let onesided: Bool

  package init(step: Dim, onesided: Bool = true) {
    self.step = step
    self.onesided = onesided
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    step = try attributes.dim("step")
    onesided = try attributes.bool("onesided")
  }

  package var name: String { "stft" }
  package var attributes: Attributes { ["step": .dim(step), "onesided": .bool(onesided)] }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 2...2)
    try expectRank(x[0], 3...3, "x")
    try expectRank(x[1], 1...1, "window")
    try expectFloat(x[0], "x")
    try expectSameDType(x)
    if let parts = x[0].shape[2].constantValue, parts != 1 && parts != 2 {
      throw shapeError("APUS-S-0205", "the last dim is \(parts), 1 (real) or 2 (complex) is expected")
    }
    if step.range.upper < 1 { throw shapeError("APUS-S-0206", "the step is \(step)") }
    let (size, window) = (x[0].shape[1], x[1].shape[0])
    if (size - window).range.upper < 0 || window.range.upper < 1 {
      throw shapeError("APUS-S-0205", "a window of \(window) does not fit a signal of \(size)")
    }
    let frames = (size - window).floorDivided(by: step) + 1
    return [x[0].with(shape: [x[0].shape[0], frames, onesided ? window.floorDivided(by: 2) + 1 : window, 2])]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    guard let step = step.constantValue, step >= 1 else {
      throw evaluationError("APUS-V-0202", "the step \(step) is not known or not positive")
    }
    let (size, parts) = (x[0].shape[1], x[0].shape[2])
    let (values, window) = (x[0].doubles, x[1].doubles)
    let transform = FourierTransform(length: window.count)
    var result: [Double] = []
    result.reserveCapacity(shape.reduce(1, saturatingMultiply))
    for batch in 0..<shape[0] {
      for frame in 0..<shape[1] {
        let line = window.indices.map { index -> SIMD2<Double> in
          let at = (batch * size + frame * step + index) * parts
          return SIMD2(values[at], parts == 2 ? values[at + 1] : 0) * window[index]
        }
        for value in transform(line).prefix(shape[2]) { result += [value.x, value.y] }
      }
    }
    return [HostTensor(dtype, shape, doubles: result)]
  }

  package func work(_ x: [ValueType], _ results: [ValueType]) -> Dim { (results[0].tensor?.elementCount ?? 0) * 50 }

  package static var samples: [Sample] {
    let ranges = ["B": 1...2, "N": 16...40]
    return [
      Sample(STFT(step: 3), "f32[B, N, 1]", "f32[16]", where: ranges),
      Sample(STFT(step: 8, onesided: false), "f32[B, N, 2]", "f32[12]", where: ranges),
    ]
  }
}
