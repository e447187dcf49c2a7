import ApusCore
import ApusGraph
import ApusKernel
import ApusOps
import Testing

/// Attributes and operands that no sane model holds give errors: they never stop the process.
@Suite(.serialized) struct HostileOperationTests {
  private static let integers = [Int.min, -(1 << 40), -7, -1, 0, 1, 2, 5, 63, 1 << 20, 1 << 40, .max]
  private static let numbers = [-Double.infinity, -1e300, -1, 0, 1e-300, 0.5, 3, 1e20, 1e300, .infinity, .nan]

  @Test(arguments: Catalogue.standard.names) func neverTraps(_ name: String) throws {
    guard let type = Catalogue.standard.type(name) else { return }
    // A loop may run as long as its operands say.
    let isBounded = name != "loop"
    var generator = RandomTensor.Generator(seed: 11)
    for sample in SampleTests.samples(name) {
      let symbols = sample.symbols.mapValues { Int.random(in: $0, using: &generator) }
      let op = try sample.op.substituting { symbol in symbols[symbol.name].map { Dim($0) } }
      let types = try sample.operands.map {
        try ValueType(parsing: $0, symbols: [:]).substituting { symbol in symbols[symbol.name].map { Dim($0) } }
      }
      for _ in 0..<60 {
        let attributes = Self.mutated(op.attributes, &generator)
        let bodies = op.bodies
        guard let changed = try? type.init(name: name, attributes: attributes).with(bodies: bodies) else { continue }
        var operands = types.enumerated().map { index, type in
          Self.mutated(type, sample.constants[index], &generator)
        }
        if Int.random(in: 0..<16, using: &generator) == 0 { _ = operands.popLast() }
        let operandTypes = operands.map(\.type)
        guard let results = try? changed.infer(operandTypes) else { continue }
        _ = changed.work(operandTypes, results)
        _ = changed.boundSymbols
        if isBounded, Self.isSmall(results) { _ = try? changed.evaluate(operands) }
        let tensors = operands.compactMap(\.tensor)
        if tensors.count == operands.count {
          _ = changed.dims(tensors.map { $0.dtype.isInteger ? $0.ints.map { Dim($0) } : nil }, tensors.map(\.type))
          Self.lower(changed, tensors.map(\.type), results.compactMap(\.tensor))
        }
      }
    }
  }

  private static func lower(_ op: any ApusGraph.Operation, _ types: [TensorType], _ results: [TensorType]) {
    let arena = ExprArena()
    let lowered = op.lower(types.map { Operand(argument: arena.addBuffer($0.dtype), $0) }, results)
    for operand in lowered ?? [] { _ = operand.at(.flat(arena.makeVariable(operand.type.elementCount).dim), arena) }
  }

  /// Whether the results can be computed in a moment.
  private static func isSmall(_ types: [ValueType]) -> Bool {
    types.allSatisfy { type in
      guard let tensor = type.tensor else { return true }
      return tensor.constantShape.map { shape in
        let count = shape.lazy.filter { $0 != 0 }.reduce(
          1, { $0.multipliedReportingOverflow(by: $1).overflow ? Int.max : $0 * $1 })
        return count < 1 << 16
      } ?? true
    }
  }

  private static func mutated(_ attributes: Attributes, _ generator: inout RandomTensor.Generator) -> Attributes {
    guard let victim = attributes.entries.indices.randomElement(using: &generator), Bool.random(using: &generator)
    else {
      return attributes
    }
    var entries = attributes.entries.map { ($0.name, $0.value) }
    let integer = integers.randomElement(using: &generator) ?? 0
    let number = numbers.randomElement(using: &generator) ?? 0
    func change<Element>(_ list: [Element], _ value: Element) -> [Element] {
      var list = list
      switch Int.random(in: 0..<4, using: &generator) {
      case 0: list.append(value)
      case 1: if !list.isEmpty { list.removeLast() }
      default: if let index = list.indices.randomElement(using: &generator) { list[index] = value }
      }
      return list
    }
    switch entries[victim].1 {
    case .int: entries[victim].1 = .int(integer)
    case .float: entries[victim].1 = .float(number)
    case .bool(let flag): entries[victim].1 = .bool(!flag)
    case .dim: entries[victim].1 = .dim(Dim(integer))
    case .ints(let list): entries[victim].1 = .ints(change(list, integer))
    case .floats(let list): entries[victim].1 = .floats(change(list, number))
    case .dims(let list): entries[victim].1 = .dims(change(list, Dim(integer)))
    case .strings(let list): entries[victim].1 = .strings(change(list, "tanh"))
    case .string, .dtype: break
    }
    return Attributes(entries)
  }

  private static func mutated(
    _ type: ValueType, _ constant: HostTensor?, _ generator: inout RandomTensor.Generator
  ) -> HostValue {
    switch type {
    case .tensor(var tensor):
      if let constant, Bool.random(using: &generator) { return .tensor(constant) }
      var shape = tensor.constantShape ?? []
      if Int.random(in: 0..<4, using: &generator) == 0 {
        switch Int.random(in: 0..<3, using: &generator) {
        case 0: shape.append(Int.random(in: 0...2, using: &generator))
        case 1: if !shape.isEmpty { shape.removeLast() }
        default:
          if let index = shape.indices.randomElement(using: &generator) {
            shape[index] = Int.random(in: 0...3, using: &generator)
          }
        }
      }
      if Int.random(in: 0..<8, using: &generator) == 0 {
        tensor.dtype = [.f32, .i64, .bool, .u8, .string].randomElement(using: &generator) ?? .f32
      }
      if tensor.dtype == .string {
        return .tensor(HostTensor(strings: [String](repeating: "a b", count: shape.reduce(1, *)), shape: shape))
      }
      let wild = Int.random(in: 0..<3, using: &generator) == 0
      let count = shape.reduce(1, *)
      if tensor.dtype.isFloat {
        let values = (0..<count).map { _ in
          wild ? numbers.randomElement(using: &generator) ?? 0 : Double.random(in: -2...2, using: &generator)
        }
        return .tensor(HostTensor(tensor.dtype, shape, doubles: values))
      }
      let values = (0..<count).map { _ in
        Int64(wild ? integers.randomElement(using: &generator) ?? 0 : Int.random(in: -3...3, using: &generator))
      }
      return .tensor(HostTensor(tensor.dtype, shape, int64s: values))
    case .sequence(let element):
      let count = Int.random(in: 0...3, using: &generator)
      return .sequence((0..<count).map { _ in mutated(element, nil, &generator) }, element: element)
    case .optional(let element):
      return .optional(Bool.random(using: &generator) ? mutated(element, nil, &generator) : nil, element: element)
    }
  }
}
