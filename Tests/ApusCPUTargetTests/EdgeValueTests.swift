import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import ApusTesting
import Testing

/// Functions, conversions and reductions on the values where implementations differ: extremes, infinities, NaN, division
/// by zero, shifts beyond the width.
@Suite(.serialized) struct EdgeValueTests {
  static let integers: [DType] = [.i64, .i32, .i16, .i8, .i4, .i2, .u64, .u32, .u16, .u8, .u4, .u2]
  static let floats: [DType] = [.f64, .f32, .f16, .bf16]
  static let smallFloats: [DType] = [
    .f8e4m3fn, .f8e4m3fnuz, .f8e5m2, .f8e5m2fnuz, .f8e8m0, .f4e2m1,
  ]

  /// Functions whose formulas multiply infinity by zero; they are tried on finite values.
  private static let finiteOnly: Set<ScalarFunction> = [
    .gelu, .gelu_tanh, .silu, .mish, .hard_swish, .softsign,
  ]

  static func values(_ dtype: DType, finite: Bool) -> HostTensor {
    if dtype == .bool { return HostTensor(.bool, [2], int64s: [0, 1]) }
    if dtype.isFloat {
      var numbers = [
        0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, 3, -7, 0.1, 100.25, 1e-3, -1e-6, 2, 20, -20,
      ]
      if dtype == .f32 || dtype == .f64 || dtype == .bf16 {
        numbers += [3e38, -3e38, 1e-40, 1e10, -1e10]
      }
      if dtype == .f16 { numbers += [65504, -65504, 6e-8] }
      if !finite { numbers += [.infinity, -.infinity, .nan] }
      return HostTensor(dtype, [numbers.count], doubles: numbers)
    }
    let width = Int64(dtype.bitWidth)
    let high: Int64 =
      dtype == .u64
      ? -1
      : dtype.isUnsignedInteger ? (1 << width) - 1 : width == 64 ? .max : (1 << (width - 1)) - 1
    let low: Int64 = dtype.isUnsignedInteger ? 0 : width == 64 ? .min : -(1 << (width - 1))
    let numbers: [Int64] = [
      0, 1, 2, 3, 7, 8, 31, 32, 63, 64, -1, -2, -7, high, high &- 1, low, low &+ 1,
    ]
    return HostTensor(dtype, [numbers.count], int64s: numbers)
  }

  /// Every pair of values as two operands.
  private static func pairs(_ values: HostTensor) -> [HostTensor] {
    let count = values.elementCount
    let all = 0..<count * count
    return [
      values.gathering(all.map { $0 / count }, shape: [all.count]),
      values.gathering(all.map { $0 % count }, shape: [all.count]),
    ]
  }

  /// Few and many of short and long lines, in which every value is there again and again.
  @Test(arguments: [DType.f32, .i32, .i64]) func largest(_ dtype: DType) throws {
    var batch = NodeBatch()
    let values = Self.values(dtype, finite: false)
    for (repeats, counts) in [(1, [1, 12]), (40, [1, 7, 130, 600])] {
      let length = values.elementCount * repeats
      let lines = values.gathering((0..<2 * length).map { $0 * 7 % values.elementCount }, shape: [2, length])
      for k in counts {
        for isLargest in [true, false] {
          try batch.add(TopK(axis: 1, k: Dim(k), largest: isLargest), [lines])
          try batch.add(
            TopK(axis: 0, k: Dim(k), largest: isLargest), [lines.gathering(Array(0..<2 * length), shape: [length, 2])])
        }
      }
    }
    try batch.check()
  }

  @Test(arguments: integers + floats + [.bool]) func functions(_ dtype: DType) throws {
    var batch = NodeBatch()
    for function in ScalarFunction.allCases where function.accepts(dtype) {
      let values = Self.values(dtype, finite: Self.finiteOnly.contains(function))
      try batch.add(Elementwise(function), function.arity == 1 ? [values] : Self.pairs(values))
    }
    try batch.check()
  }

  @Test(arguments: integers + floats + smallFloats + [.bool]) func conversions(_ dtype: DType)
    throws
  {
    var batch = NodeBatch()
    for target in Self.integers + Self.floats + Self.smallFloats + [.bool] where target != dtype {
      // What a conversion to an integer gives beyond its range is not specified.
      let values = Self.values(dtype, finite: target.isInteger)
      try batch.add(Cast(to: target), [values])
    }
    try batch.check()
  }

  @Test(arguments: integers + floats + [.bool]) func reductions(_ dtype: DType) throws {
    var batch = NodeBatch()
    let values = Self.values(dtype, finite: false)
    let count = values.elementCount
    // Rows that start at every value, so that NaN is met first, last and between.
    let rotated = values.gathering(
      (0..<count * count).map { ($0 / count + $0 % count) % count }, shape: [count, count])
    for kind in Reduce.Kind.allCases {
      for (axes, x) in [([0], rotated), ([1], rotated), ([0, 1], rotated)] {
        let op = Reduce(kind, axes: axes, keepDims: false)
        if (try? op.infer([x.type])) != nil,
          kind != .sum && kind != .mean && kind != .prod || !dtype.isFloat
        {
          try batch.add(op, [x])
        }
      }
      for shape in [[0, 3], [3, 0]] {
        let op = Reduce(kind, axes: [1], keepDims: true)
        if (try? op.infer([TensorType(dtype, sizes: shape)])) != nil {
          try batch.add(op, [HostTensor(dtype, shape)])
        }
      }
    }
    for isMaximum in [true, false] {
      for axis in [0, 1] {
        for last in [true, false] {
          try batch.add(
            ArgReduce(isMaximum: isMaximum, axis: axis, keepDims: false, selectLast: last),
            [rotated])
        }
      }
    }
    try batch.check()
  }
}

/// Single nodes on given operands, built into one graph and compared with their references.
struct NodeBatch {
  private var graph = Graph()
  private var inputs: [HostValue] = []
  private var expected: [HostValue] = []
  private var descriptions: [String] = []

  mutating func add(_ op: some TensorOperation, _ operands: [HostTensor]) throws {
    let ids = operands.map { operand in
      let id = graph.addInput("x\(inputs.count)", .tensor(operand.type))
      inputs.append(.tensor(operand))
      return id
    }
    for (result, value) in zip(try graph.add(op, ids), try op.reference(operands)) {
      graph.outputs.append(result)
      graph.outputNames.append("y\(expected.count)")
      expected.append(.tensor(value))
      descriptions.append(
        "\(op.name) \(op.attributes.entries.map { "\($0.name): \($0.value)" }) of \(operands.map(\.type))"
      )
    }
  }

  func check() throws {
    let runner = try GraphRunner(graph, .raw, target: Machine.target(), device: Machine.device)
    let (outputs, overrun) = try runner.run(inputs, expected: expected)
    #expect(overrun.isEmpty)
    for (index, description) in descriptions.enumerated() {
      guard Closeness.complaint(outputs[index], expected[index], f32: 1e-5) != nil else { continue }
      Issue.record("\(description): \(differences(outputs[index], expected[index], index))")
    }
  }

  /// The elements that differ, with the operands' elements there where these are as many.
  private func differences(_ found: HostValue, _ expected: HostValue, _ index: Int) -> [String] {
    guard let a = found.tensor, let b = expected.tensor, a.shape == b.shape, a.dtype == b.dtype
    else {
      return ["\(found.type), not \(expected.type)"]
    }
    guard let producer = graph.producer(graph.outputs[index]) else { return [] }
    let node = graph[producer]
    let operands = node.inputs.compactMap { id in
      graph.inputs.firstIndex(of: id).flatMap { inputs[$0].tensor }
    }
    let (x, y) = (
      a.dtype.isFloat ? a.doubles : a.int64s.map(Double.init),
      b.dtype.isFloat ? b.doubles : b.int64s.map(Double.init)
    )
    let wrong = x.indices.filter { position in
      x[position] != y[position] && !(x[position].isNaN && y[position].isNaN)
        && (x[position] - y[position]).magnitude > 1e-5 * max(1, y[position].magnitude)
        || x[position].isNaN != y[position].isNaN
    }
    return wrong.prefix(4).map { position in
      let at = operands.filter { $0.elementCount == x.count }.map {
        "\($0.dtype.isFloat ? $0.doubles[position] : Double($0.int64s[position]))"
      }
      return "\(at) gives \(x[position]), not \(y[position])"
    }
  }
}
