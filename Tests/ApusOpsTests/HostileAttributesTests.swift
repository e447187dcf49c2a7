import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import ApusTesting
import Testing

/// Operations whose attributes and operand types come from a hostile file give errors and never trap.
@Suite struct HostileAttributesTests {
  static let numbers = [Int.min, -(1 << 40), -3, -1, 0, 1, 2, 5, 1 << 31, 1 << 40, Int.max]

  private func mutated(_ attribute: Attribute, _ generator: inout RandomTensor.Generator) -> Attribute {
    func number() -> Int { Self.numbers.randomElement(using: &generator) ?? 0 }
    func list<Element>(_ values: [Element], _ other: Element) -> [Element] {
      var result = values
      switch Int.random(in: 0..<3, using: &generator) {
      case 0: result.append(other)
      case 1: if !result.isEmpty { result.removeLast() }
      default: if !result.isEmpty { result[Int.random(in: 0..<result.count, using: &generator)] = other }
      }
      return result
    }
    switch attribute {
    case .int: return .int(number())
    case .float: return .float([.nan, .infinity, -1e300, 0].randomElement(using: &generator) ?? 0)
    case .bool(let value): return .bool(!value)
    case .string: return .string("?")
    case .dtype: return .dtype(DType.allCases.randomElement(using: &generator) ?? .f32)
    case .dim: return .dim(Dim(number()))
    case .ints(let values): return .ints(list(values, number()))
    case .floats(let values): return .floats(list(values, .nan))
    case .strings(let values): return .strings(list(values, "?"))
    case .dims(let values): return .dims(list(values, Dim(number())))
    }
  }

  private func mutated(_ type: ValueType, _ generator: inout RandomTensor.Generator) -> ValueType {
    guard var tensor = type.tensor else { return type }
    switch Int.random(in: 0..<5, using: &generator) {
    case 0: tensor.shape.append(2)
    case 1: if !tensor.shape.isEmpty { tensor.shape.removeLast() }
    case 2: tensor.dtype = DType.allCases.randomElement(using: &generator) ?? .f32
    case 3:
      if !tensor.shape.isEmpty {
        tensor.shape[Int.random(in: 0..<tensor.shape.count, using: &generator)] =
          Dim([0, 1, 2, 7].randomElement(using: &generator) ?? 0)
      }
    default: break
    }
    return .tensor(tensor)
  }

  @Test(arguments: Catalogue.standard.names) func mutatedSamplesNeverTrap(_ name: String) throws {
    var generator = RandomTensor.Generator(seed: name.utf8.reduce(7) { $0 &* 31 &+ UInt64($1) })
    var ran = 0
    for sample in SampleTests.samples(name).prefix(12) {
      for _ in 0..<20 {
        let base = try SampleCase(sample, trial: 1, seed: 1)
        var entries = base.op.attributes.entries.map { ($0.name, $0.value) }
        if !entries.isEmpty, Bool.random(using: &generator) {
          let index = Int.random(in: 0..<entries.count, using: &generator)
          entries[index].1 = mutated(entries[index].1, &generator)
        }
        var types = base.types
        if !types.isEmpty, Bool.random(using: &generator) {
          let index = Int.random(in: 0..<types.count, using: &generator)
          types[index] = mutated(types[index], &generator)
          if Int.random(in: 0..<8, using: &generator) == 0 { types.removeLast() }
        }
        guard var op = try? Catalogue.standard.make(name, Attributes(entries)) else { continue }
        if !base.op.bodies.isEmpty, let whole = try? op.with(bodies: base.op.bodies) { op = whole }
        attempt(op, types)
        ran += 1
      }
    }
    #expect(ran > 0 || SampleTests.samples(name).isEmpty)
  }

  private func attempt(_ op: any ApusGraph.Operation, _ types: [ValueType]) {
    let tensors = types.compactMap(\.tensor)
    let operands = tensors.map { type in
      HostValue.tensor(RandomTensor.make(type.dtype, type.constantShape ?? [], seed: 3))
    }
    guard operands.count == types.count else { return }
    if let results = try? op.infer(types) {
      _ = op.work(types, results)
      if let resultTypes = Optional(results.compactMap(\.tensor)), resultTypes.count == results.count {
        let arena = ExprArena()
        let lowered = op.lower(tensors.map { Operand(argument: arena.addBuffer($0.dtype), $0) }, resultTypes)
        for operand in lowered ?? [] { _ = operand.at(.flat(arena.makeVariable(operand.type.elementCount).dim), arena) }
      }
      let dims = operands.map { value in
        value.tensor.flatMap { $0.dtype.isInteger || $0.dtype == .bool ? $0.ints.map { Dim($0) } : nil }
      }
      _ = op.dims(dims, tensors)
    }
    _ = try? op.reference(operands)
  }
}
