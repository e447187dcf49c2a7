import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import Testing

/// A sample with sizes and operands chosen.
struct SampleCase: CustomStringConvertible {
  let sample: Sample
  let sizes: [String: Int]
  let symbolicOp: any ApusGraph.Operation
  let symbolicTypes: [ValueType]
  let op: any ApusGraph.Operation
  let types: [ValueType]
  let operands: [HostValue]
  let results: [HostValue]

  var description: String { "\(op.name)\(op.attributes.entries.map { "\($0.name)=\($0.value)" })(\(types))" }

  /// Runs `body` for each sample of an operation with the smallest sizes and with larger ones.
  static func forEach(_ name: String, _ body: (SampleCase) throws -> Void) throws {
    for (index, sample) in SampleTests.samples(name).enumerated() {
      for trial in 0..<(sample.symbols.isEmpty ? 1 : 2) {
        try body(try SampleCase(sample, trial: trial, seed: UInt64(index * 10 + trial)))
      }
    }
  }

  init(_ sample: Sample, trial: Int, seed: UInt64) throws {
    self.sample = sample
    var generator = RandomTensor.Generator(seed: seed)
    var sizes: [String: Int] = [:]
    for (name, range) in sample.symbols.sorted(by: { $0.key < $1.key }) {
      let middle = (range.lowerBound + range.upperBound + 1) / 2
      sizes[name] = trial == 0 ? range.lowerBound : Int.random(in: middle...range.upperBound, using: &generator)
    }
    self.sizes = sizes
    let symbols = Dictionary(
      uniqueKeysWithValues: sample.symbols.map {
        ($0.key, Symbol($0.key, Interval($0.value.lowerBound, $0.value.upperBound)))
      })
    symbolicOp = try sample.op.substituting { symbol in symbols[symbol.name].map { Dim($0) } }
    op = try sample.op.substituting { symbol in sizes[symbol.name].map { Dim($0) } }
    symbolicTypes = try sample.operands.map { try ValueType(parsing: $0, symbols: symbols) }
    types = symbolicTypes.map { $0.substituting { symbol in sizes[symbol.name].map { Dim($0) } } }
    operands = types.enumerated().map { index, type in
      if let constant = sample.constants[index] { return .tensor(constant) }
      return Self.random(type, seed: seed * 100 + UInt64(index), sample.values[index])
    }
    results = try op.reference(operands)
  }

  private static func random(_ type: ValueType, seed: UInt64, _ range: ClosedRange<Double>?) -> HostValue {
    switch type {
    case .tensor(let tensor):
      .tensor(RandomTensor.make(tensor.dtype, tensor.constantShape ?? [], seed: seed, range: range))
    case .sequence(let element):
      .sequence((0..<3).map { random(element, seed: seed * 7 + $0, range) }, element: element)
    case .optional(let element): .optional(random(element, seed: seed, range), element: element)
    }
  }

  /// Compares what the operation lowers to, evaluated at every element, with the reference.
  func checkLowering(_ op: any ApusGraph.Operation, _ types: [ValueType], isFlat: Bool) throws {
    let tensors = operands.compactMap(\.tensor)
    let operandTypes = types.compactMap(\.tensor)
    let resultTypes = try op.infer(types).compactMap(\.tensor)
    guard tensors.count == operands.count, resultTypes.count == results.count else { return }
    let arena = ExprArena()
    let arguments = operandTypes.map { Operand(argument: arena.addBuffer($0.dtype), $0) }
    guard let lowered = op.lower(arguments, resultTypes) else { return }
    #expect(lowered.count == results.count)
    let interpreter = KernelInterpreter(arena, buffers: tensors, symbols: sizes)
    for (operand, result) in zip(lowered, results) {
      guard let expected = result.tensor else { continue }
      let shape = operand.type.shape
      let variables = isFlat ? [arena.makeVariable(operand.type.elementCount)] : shape.map { arena.makeVariable($0) }
      let position: Position = isFlat ? .flat(variables[0].dim) : .coordinates(variables.map(\.dim))
      let expr = operand.at(position, arena)
      var computed: [Scalar] = []
      for index in 0..<expected.elementCount {
        let values = isFlat ? [index] : Self.coordinates(index, expected.shape)
        computed.append(
          try interpreter.evaluate(expr, Dictionary(uniqueKeysWithValues: zip(variables.map(\.name), values))))
      }
      let found = Self.tensor(computed, expected)
      let difference = Closeness.difference(found, expected)
      #expect(difference <= Closeness.tolerance(expected.dtype, sample.tolerance), "\(self), flat \(isFlat)")
    }
  }

  static func tensor(_ scalars: [Scalar], _ like: HostTensor) -> HostTensor {
    if like.dtype.isFloat {
      return HostTensor(
        like.dtype, like.shape,
        doubles: scalars.map { if case .float(let value) = $0 { value } else { .nan } })
    }
    return HostTensor(
      like.dtype, like.shape, int64s: scalars.map { if case .integer(let value) = $0 { value } else { 0 } })
  }

  static func coordinates(_ index: Int, _ shape: [Int]) -> [Int] {
    var rest = index
    var reversed: [Int] = []
    for size in shape.reversed() {
      reversed.append(rest % size)
      rest /= size
    }
    return reversed.reversed()
  }
}

/// How far two tensors are apart.
enum Closeness {
  /// The largest difference relative to the larger of 1 and the expected magnitude; infinite where types, shapes, integers
  /// or strings differ.
  static func difference(_ found: HostTensor, _ expected: HostTensor) -> Double {
    guard found.dtype == expected.dtype, found.shape == expected.shape else { return .infinity }
    if expected.dtype == .string { return found.strings == expected.strings ? 0 : .infinity }
    if !expected.dtype.isFloat { return found.int64s == expected.int64s ? 0 : .infinity }
    var largest = 0.0
    for (a, b) in zip(found.doubles, expected.doubles) where a != b && !(a.isNaN && b.isNaN) {
      let difference = (a - b).magnitude / max(1, b.magnitude)
      largest = max(largest, difference.isNaN ? .infinity : difference)
    }
    return largest
  }

  static func tolerance(_ dtype: DType, _ f32: Double) -> Double {
    switch dtype {
    case .f64: 1e-9
    case .f32: f32
    case .f16: max(f32, 2e-3)
    case .bf16: max(f32, 1.6e-2)
    default: dtype.isFloat ? 0.3 : 0
    }
  }
}
