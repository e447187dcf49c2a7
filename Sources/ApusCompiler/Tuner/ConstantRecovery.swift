import ApusCore
import ApusGraph
import ApusPlan

/// Gets the constants of a region back from how one of its tactics keeps them, so that another can keep them its own way.
///
/// Packed in place of the constants, numbers say where each element went. What is found is packed again and compared, so that a form
/// in which elements are not merely in another order, as that of transformed convolutions, is told apart.
struct ConstantRecovery {
  private let alternatives: Alternatives
  private let target: any Target
  /// The tactic that the constants are kept for.
  private let tactic: String

  init(_ alternatives: Alternatives, from tactic: String, _ target: any Target) {
    self.alternatives = alternatives
    self.tactic = tactic
    self.target = target
  }

  /// The region's plan by another tactic, with its constants; nil where they cannot be had.
  ///
  /// - Parameter kept: the bytes of each slot of the first tactic's plan that is a constant.
  func plan(by other: String, _ kept: (Int) -> UnsafeRawBufferPointer?) -> Plan? {
    guard let constants = constants(kept), let own = sketch(tactic, constants) else { return nil }
    for slot in own.slots.indices {
      guard let bytes = own.constant(slot) else { continue }
      if let given = kept(slot), !given.elementsEqual(bytes) { return nil }
    }
    return sketch(other, constants)
  }

  private func sketch(_ tactic: String, _ constants: [HostTensor]) -> Plan? {
    var shared = SharedParts(continuing: [])
    guard let region = try? RegionGraph(alternatives, constants: { constants[$0] }),
      var plan = try? Builder.sketch(region.graph, tactic: tactic, &shared, target)
    else { return nil }
    plan.share(functions: shared.functions, images: [], constants: shared.constants.makeSection())
    return plan
  }

  /// The constants as the model has them.
  private func constants(_ kept: (Int) -> UnsafeRawBufferPointer?) -> [HostTensor]? {
    var shapes: [[Int]] = []
    var firsts: [Int] = []
    var count = 0
    for type in alternatives.constants {
      guard let shape = type.constantShape, Self.base(type.dtype) != nil else { return nil }
      shapes.append(shape)
      firsts.append(count)
      count = saturatingAdd(count, shape.reduce(1, saturatingMultiply))
    }
    if count == .max { return nil }
    guard let places = places(shapes, firsts, count) else { return nil }
    let storages = zip(alternatives.constants, shapes).map { type, shape in
      HostStorage(byteCount: shape.reduce(type.dtype.byteCount, *))
    }
    var found = [Bool](repeating: false, count: count)
    for (slot, numbers) in places {
      guard let bytes = kept(slot), let base = bytes.baseAddress else { continue }
      for (place, number) in numbers.enumerated() where number > 0 {
        let constant = firsts.lastIndex { $0 < number } ?? 0
        let size = alternatives.constants[constant].dtype.byteCount
        guard number <= count, (place + 1) * size <= bytes.count else { return nil }
        (storages[constant].base + (number - 1 - firsts[constant]) * size)
          .copyMemory(from: base + place * size, byteCount: size)
        found[number - 1] = true
      }
    }
    guard found.allSatisfy({ $0 }) else { return nil }
    return alternatives.constants.indices.map { index in
      let storage = HostStorage(
        borrowing: storages[index].base, byteCount: storages[index].byteCount, owner: storages[index])
      return HostTensor(dtype: alternatives.constants[index].dtype, shape: shapes[index], storage: storage)
    }
  }

  /// For each constant of the tactic's plan, the numbers of the elements that lie in it, from 1 on, and 0 for what fills gaps.
  private func places(_ shapes: [[Int]], _ firsts: [Int], _ count: Int) -> [Int: [Int]]? {
    var places: [Int: [Int]] = [:]
    var weight = 1
    // Element types hold few digits exactly: a number goes through in parts.
    let base = alternatives.constants.compactMap { Self.base($0.dtype) }.min() ?? 2
    while weight <= count {
      let digits = zip(alternatives.constants.indices, shapes).map { index, shape in
        let size = shape.reduce(1, *)
        let values = (0..<size).map { Double((firsts[index] + $0 + 1) / weight % base) }
        let tensor = HostTensor(alternatives.constants[index].dtype, shape, doubles: values)
        let storage = HostStorage(
          borrowing: tensor.storage.base, byteCount: tensor.byteCount, owner: tensor.storage)
        return HostTensor(dtype: tensor.dtype, shape: shape, storage: storage)
      }
      guard let plan = sketch(tactic, digits) else { return nil }
      for slot in plan.slots.indices {
        guard case .constant(let offset) = plan.slots[slot].storage, let type = plan.slots[slot].type.tensor,
          let shape = type.constantShape, Self.base(type.dtype) != nil
        else { continue }
        let tensor = HostTensor(dtype: type.dtype, shape: shape, storage: plan.constants.storage, byteOffset: offset)
        var numbers = places[slot] ?? [Int](repeating: 0, count: shape.reduce(1, *))
        for (place, digit) in tensor.doubles.enumerated() where digit != 0 {
          guard let whole = Int(exactly: digit), whole > 0, whole < base else { return nil }
          numbers[place] += whole * weight
        }
        places[slot] = numbers
      }
      weight = saturatingMultiply(weight, base)
    }
    return places
  }

  /// One more than the largest digit that elements hold exactly, with room for sums that would show.
  private static func base(_ dtype: DType) -> Int? {
    switch dtype {
    case .f64, .f32: 1 << 20
    case .f16: 1 << 10
    case .bf16: 1 << 7
    default: nil
    }
  }
}
