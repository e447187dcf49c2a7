package import ApusCore
package import ApusGraph

/// A sample with sizes and operands chosen.
package struct SampleCase: CustomStringConvertible, Sendable {
  package let sample: Sample
  package let sizes: [String: Int]
  /// The operation and its operands' types over the sample's symbols, with their ranges.
  package let symbolicOp: any Operation
  package let symbolicTypes: [ValueType]
  /// The same with the chosen sizes.
  package let op: any Operation
  package let types: [ValueType]
  package let operands: [HostValue]
  /// What the reference gives.
  package let results: [HostValue]

  package var description: String {
    "\(op.name)\(op.attributes.entries.map { "\($0.name)=\($0.value)" })(\(types))"
  }

  /// The trials that a sample is worth: smallest, largest and some sizes between.
  package static func trialCount(_ sample: Sample) -> Int { sample.symbols.isEmpty ? 1 : 3 }

  /// - Parameters:
  ///   - trial: 0 takes the smallest sizes, 1 the largest, any other random ones.
  ///   - isWide: whether the reference computes in f64.
  package init(_ sample: Sample, trial: Int, seed: UInt64, isWide: Bool = false) throws {
    self.sample = sample
    var generator = RandomTensor.Generator(seed: seed)
    var sizes: [String: Int] = [:]
    for (name, range) in sample.symbols.sorted(by: { $0.key < $1.key }) {
      sizes[name] =
        trial == 0 ? range.lowerBound : trial == 1 ? range.upperBound : Int.random(in: range, using: &generator)
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
    results = try isWide ? Self.resultsInDouble(op, operands) : op.reference(operands)
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
}
