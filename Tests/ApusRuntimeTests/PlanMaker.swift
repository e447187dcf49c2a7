import ApusCore
import ApusPlan
import ApusRuntime

/// Puts a plan together slot by slot.
struct PlanMaker {
  var plan = Plan(name: "test", fingerprint: Fingerprint(backend: "cpu", target: "x86-64", features: []))
  private var constantBytes: [UInt8] = []

  mutating func slot(_ name: String, _ type: ValueType, _ storage: Slot.Storage) -> Int {
    plan.slots.append(Slot(name: name, type: type, storage: storage))
    return plan.slots.count - 1
  }

  mutating func slot(_ name: String, _ dtype: DType, _ shape: Shape, _ storage: Slot.Storage = .arena) -> Int {
    slot(name, .tensor(TensorType(dtype, shape)), storage)
  }

  mutating func input(_ name: String, _ dtype: DType, _ shape: Shape) -> Int {
    input(name, .tensor(TensorType(dtype, shape)))
  }

  mutating func input(_ name: String, _ type: ValueType) -> Int {
    let slot = slot(name, type, .input(plan.inputs.count))
    plan.inputs.append(Binding(name: name, type: type, slot: slot))
    return slot
  }

  mutating func output(_ name: String, _ dtype: DType, _ shape: Shape) -> Int {
    let slot = slot(name, dtype, shape, .output(plan.outputs.count))
    plan.outputs.append(Binding(name: name, type: plan.slots[slot].type, slot: slot))
    return slot
  }

  /// Makes an existing slot an output.
  mutating func output(_ name: String, slot: Int) {
    plan.outputs.append(Binding(name: name, type: plan.slots[slot].type, slot: slot))
  }

  mutating func constant(_ name: String, _ tensor: HostTensor) -> Int {
    while constantBytes.count % 256 != 0 { constantBytes.append(0) }
    let offset = constantBytes.count
    constantBytes +=
      tensor.dtype == .string ? StringConstants.encode(tensor.strings) : tensor.withUnsafeBytes { Array($0) }
    return slot(name, .tensor(tensor.type), .constant(offset: offset))
  }

  mutating func add(_ action: Step.Action, _ name: String = "step") {
    plan.steps.append(Step(action, name: name, tactic: "test"))
  }

  mutating func host(_ operation: String, _ inputs: [Int], _ outputs: [Int], bound: [String] = []) {
    plan.steps.append(Self.hostStep(operation, inputs, outputs, bound: bound))
  }

  static func hostStep(_ operation: String, _ inputs: [Int], _ outputs: [Int], bound: [String] = []) -> Step {
    Step(
      .host(
        HostCall(operation: operation, attributes: "", inputs: inputs, outputs: outputs, boundSymbols: bound)),
      name: operation, tactic: "host")
  }

  /// The plan with constants and lifetimes in place.
  mutating func finish() -> Plan {
    let storage = HostStorage(byteCount: constantBytes.count)
    constantBytes.withUnsafeBytes { bytes in
      if let base = bytes.baseAddress { storage.base.copyMemory(from: base, byteCount: bytes.count) }
    }
    plan.constants = ConstantSection(storage: storage, byteCount: constantBytes.count)
    plan.assignLifetimes()
    return plan
  }
}

/// Host operations given as closures by name.
struct ClosureOperations: HostOperations {
  struct Unknown: Error { let name: String }
  var functions: [String: HostFunction]

  func make(
    operation: String, attributes: String, operands: [ValueType], results: [ValueType]
  ) throws -> HostFunction {
    guard let function = functions[operation] else { throw Unknown(name: operation) }
    return function
  }

  /// Operations on f32 tensors that the tests share.
  static let common = ClosureOperations(functions: [
    "add": { x, _ in
      let (a, b) = (x[0].tensor?.doubles ?? [], x[1].tensor?.doubles ?? [])
      let shape = x[0].tensor?.shape ?? []
      return [.tensor(HostTensor(x[0].tensor?.dtype ?? .f32, shape, doubles: zip(a, b).map { $0 + $1 }))]
    },
    "less": { x, _ in
      let (a, b) = (x[0].tensor?.doubles.first ?? .nan, x[1].tensor?.doubles.first ?? .nan)
      return [.tensor(HostTensor(.bool, [], doubles: [a < b ? 1 : 0]))]
    },
    "positives": { x, _ in
      let values = (x[0].tensor?.doubles ?? []).filter { $0 > 0 }
      return [.tensor(HostTensor(.f32, [values.count], doubles: values))]
    },
    "view": { x, _ in [x[0]] },
    "wrap": { x, _ in [.sequence(x, element: x[0].type)] },
    "fail": { _, _ in throw RunError("APUS-V-0042", "it cannot be") },
  ])
}

func floats(_ shape: [Int], _ values: [Float]) -> HostTensor { HostTensor(.f32, shape, elements: values) }

/// Seeded random numbers (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

/// Codes and places of the problems that `body` throws.
func problems(_ body: () throws -> Void) -> [String] {
  do {
    try body()
    return []
  } catch let error as any RoomError {
    return error.problems.map { "\($0.code) \($0.place)" }
  } catch {
    return ["\(error)"]
  }
}
