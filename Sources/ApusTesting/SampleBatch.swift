import ApusCore
import ApusGraph
import ApusOps

/// A graph of independent nodes, one for each sample.
struct SampleBatch {
  struct Member {
    let index: Int
    let sample: Sample
    let inputs: Range<Int>
    /// Symbols bound by an input of their own, since no operand's shape tells them.
    let extra: [String]
    let outputs: Range<Int>
  }

  var graph = Graph()
  var members: [Member] = []

  /// - Throws: when a sample's operation refuses its own operands.
  mutating func add(_ sample: Sample, index: Int) throws {
    let shown = try SampleCase(sample, trial: 1, seed: 0)
    func renamed(_ symbol: Symbol) -> Dim? {
      sample.symbols[symbol.name] == nil ? nil : Dim(Symbol("\(symbol.name)_\(index)", symbol.range))
    }
    let op = try shown.symbolicOp.substituting(renamed)
    let types = shown.symbolicTypes.map { $0.substituting(renamed) }
    let firstInput = graph.inputs.count
    let ids = types.enumerated().map { graph.addInput("s\(index)_x\($0.offset)", $0.element) }
    var told: Set<String> = []
    for type in types {
      for dim in type.tensor?.shape ?? [] { told.formUnion(dim.symbols.map(\.name)) }
    }
    let extra = sample.symbols.keys.sorted().filter { !told.contains("\($0)_\(index)") }
    for name in extra {
      let range = sample.symbols[name].map { Interval($0.lowerBound, $0.upperBound) } ?? .all
      _ = graph.addInput("s\(index)_\(name)", .tensor(TensorType(.u8, [Dim(Symbol("\(name)_\(index)", range))])))
    }
    let firstOutput = graph.outputs.count
    graph.outputs += try graph.add(op, ids, name: "s\(index)")
    for output in firstOutput..<graph.outputs.count { graph.outputNames.append("s\(index)_y\(output - firstOutput)") }
    members.append(
      Member(
        index: index, sample: sample, inputs: firstInput..<graph.inputs.count, extra: extra,
        outputs: firstOutput..<graph.outputs.count))
  }

  /// Operands of all members for a trial, with the cases they come from.
  ///
  /// - Parameter isWide: whether references compute in f64.
  func cases(trial: Int, isWide: Bool) throws -> (inputs: [HostValue], cases: [SampleCase]) {
    var inputs: [HostValue] = []
    var cases: [SampleCase] = []
    for member in members {
      let one = try SampleCase(member.sample, trial: trial, seed: UInt64(member.index * 10 + trial), isWide: isWide)
      inputs += one.operands
      inputs += member.extra.map { .tensor(HostTensor(.u8, [one.sizes[$0] ?? 0])) }
      cases.append(one)
    }
    return (inputs, cases)
  }
}
