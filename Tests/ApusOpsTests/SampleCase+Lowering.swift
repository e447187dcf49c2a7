import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import ApusTesting
import Testing

extension SampleCase {
  /// Runs `body` for each sample of an operation with the smallest sizes and the largest.
  static func forEach(_ name: String, _ body: (SampleCase) throws -> Void) throws {
    for (index, sample) in SampleTests.samples(name).enumerated() {
      for trial in 0..<min(2, SampleCase.trialCount(sample)) {
        try body(try SampleCase(sample, trial: trial, seed: UInt64(index * 10 + trial)))
      }
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
