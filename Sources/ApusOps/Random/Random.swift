package import ApusCore
package import ApusGraph

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Fills a tensor with random numbers: `random_uniform` between `a` and `b`, `random_normal` of mean `a` and standard
/// deviation `b`.
///
/// - Shapes: no operands → `shape`.
/// - Types: a float type.
/// - Numerics: with a `seed` every run gives the same numbers, without one the system's generator seeds each run.
/// - Source: ONNX RandomUniform-22, RandomNormal-22; Box & Muller 1958.
package struct RandomFill: TensorOperation {
  package enum Distribution: String, CaseIterable, Sendable {
    case uniform = "random_uniform"
    case normal = "random_normal"
  }

  package let distribution: Distribution
  package let shape: Shape
  package let dtype: DType
  package let a: Double
  package let b: Double
  package let seed: Int?

  package init(_ distribution: Distribution, shape: Shape, dtype: DType, a: Double, b: Double, seed: Int?) {
    self.distribution = distribution
    self.shape = shape
    self.dtype = dtype
    self.a = a
    self.b = b
    self.seed = seed
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    guard let distribution = Distribution(rawValue: name) else {
      throw GraphError("APUS-G-0203", "'\(name)' is no distribution")
    }
    self.distribution = distribution
    shape = try attributes.dims("shape")
    dtype = try attributes.dtype("dtype")
    a = try attributes.float("a")
    b = try attributes.float("b")
    seed = try attributes.optionalSeed()
  }

  package var name: String { distribution.rawValue }
  package var attributes: Attributes {
    let entries: [(String, Attribute)] = [
      ("shape", .dims(shape)), ("dtype", .dtype(dtype)), ("a", .float(a)), ("b", .float(b)),
    ]
    return Attributes(entries + seedEntry(seed))
  }
  package var isPure: Bool { false }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 0...0)
    try expectFloat(TensorType(dtype, shape), "the result")
    return [TensorType(dtype, shape)]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    var generator = Philox(seed: seed.map { UInt64(bitPattern: Int64($0)) })
    let values = (0..<shape.reduce(1, saturatingMultiply)).map { _ -> Double in
      let first = generator.unit()
      if distribution == .uniform { return a + (b - a) * first }
      return a + b * (-2 * log(1 - first)).squareRoot() * cos(2 * Double.pi * generator.unit())
    }
    return [HostTensor(dtype, shape, doubles: values)]
  }

  package static var samples: [Sample] {
    let shape: Shape = [Dim(Symbol("N")), 3]
    return Distribution.allCases.map {
      Sample(RandomFill($0, shape: shape, dtype: .f32, a: -1, b: 2, seed: 7), where: ["N": 1...4])
    }
  }
}

extension Attributes {
  /// The seed of a random operation; absent where each run draws anew.
  fileprivate func optionalSeed() throws(GraphError) -> Int? { self["seed"] == nil ? nil : try int("seed") }
}

private func seedEntry(_ seed: Int?) -> [(String, Attribute)] { seed.map { [("seed", .int($0))] } ?? [] }

/// Draws 1 with the probability that each element gives, else 0.
///
/// - Shapes: x any → the same.
/// - Types: x a float type; result numeric or bool.
/// - Numerics: as ``RandomFill``.
/// - Source: ONNX Bernoulli-22.
package struct Bernoulli: TensorOperation {
  package let dtype: DType
  package let seed: Int?

  package init(dtype: DType, seed: Int?) {
    self.dtype = dtype
    self.seed = seed
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    dtype = try attributes.dtype("dtype")
    seed = try attributes.optionalSeed()
  }

  package var name: String { "random_bernoulli" }
  package var attributes: Attributes { Attributes([("dtype", .dtype(dtype))] + seedEntry(seed)) }
  package var isPure: Bool { false }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    try expectFloat(x[0], "x")
    guard dtype != .string else { throw shapeError("APUS-S-0204", "the result cannot be strings") }
    return [x[0].with(dtype: dtype)]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    try validate(x)
    var generator = Philox(seed: seed.map { UInt64(bitPattern: Int64($0)) })
    let values = x[0].doubles.map { generator.unit() < $0 ? 1.0 : 0 }
    return [HostTensor(dtype, x[0].shape, doubles: values)]
  }

  package static var samples: [Sample] {
    [Sample(Bernoulli(dtype: .bool, seed: 3), "f32[N, 4]", where: ["N": 1...4], values: [0: 0...1])]
  }
}

/// Draws classes by their unnormalised log-probabilities.
///
/// - Shapes: x `[B, classes]` → `[B, count]`.
/// - Types: x a float type; result i32 or i64.
/// - Numerics: as ``RandomFill``.
/// - Source: ONNX Multinomial-22.
package struct Multinomial: TensorOperation {
  package let count: Int
  package let dtype: DType
  package let seed: Int?

  package init(count: Int, dtype: DType, seed: Int?) {
    self.count = count
    self.dtype = dtype
    self.seed = seed
  }

  package init(name: String, attributes: Attributes) throws(GraphError) {
    count = try attributes.int("count")
    dtype = try attributes.dtype("dtype")
    seed = try attributes.optionalSeed()
  }

  package var name: String { "random_multinomial" }
  package var attributes: Attributes {
    Attributes([("count", .int(count)), ("dtype", .dtype(dtype))] + seedEntry(seed))
  }
  package var isPure: Bool { false }

  package func infer(_ x: [TensorType]) throws(ShapeError) -> [TensorType] {
    try expectOperands(x, 1...1)
    try expectRank(x[0], 2...2, "x")
    try expectFloat(x[0], "x")
    guard dtype == .i32 || dtype == .i64, count >= 0 else {
      throw shapeError("APUS-S-0206", "\(count) draws of type \(dtype) cannot be made")
    }
    return [TensorType(dtype, [x[0].shape[0], Dim(count)])]
  }

  package func reference(_ x: [HostTensor]) throws(EvaluationError) -> [HostTensor] {
    let (dtype, shape) = try resultType(for: x)
    let (values, classes) = (x[0].doubles, x[0].shape[1])
    guard classes > 0 || shape.contains(0) else { throw evaluationError("APUS-V-0202", "there are no classes") }
    var generator = Philox(seed: seed.map { UInt64(bitPattern: Int64($0)) })
    var drawn: [Int64] = []
    for row in 0..<shape[0] {
      let line = values[row * classes..<(row + 1) * classes]
      let largest = line.max() ?? 0
      var sums: [Double] = []
      for value in line { sums.append((sums.last ?? 0) + exp(value - largest)) }
      for _ in 0..<shape[1] {
        let target = generator.unit() * (sums.last ?? 0)
        drawn.append(Int64(sums.firstIndex { target < $0 } ?? classes - 1))
      }
    }
    return [HostTensor(dtype, shape, int64s: drawn)]
  }

  package static var samples: [Sample] {
    [Sample(Multinomial(count: 5, dtype: .i64, seed: 3), "f32[N, 4]", where: ["N": 1...4])]
  }
}
