import ApusCore
import ApusPlan

extension RunState {
  /// Calls a host operation: operands are lent without copying, results are copied into their slots.
  func callHost(_ index: Int) throws(RunError) {
    let record = program.hostCalls[index]
    if !isElsewhere { try synchronize() }
    var lent: [HostStorage] = []
    var operands: [HostValue] = []
    for slot in record.call.inputs { operands.append(try lend(slot, &lent)) }
    if isElsewhere { try synchronize() }
    let results: [HostValue]
    do {
      results = try hostFunctions[index](operands) { name in
        guard let node = self.program.dims.node(ofSymbol: name) else { return nil }
        let value = self.bound.values[node]
        return value == DimProgram.unknown ? nil : value
      }
    } catch {
      throw RunError(problems: RunState.problems(error)).at(place(record))
    }
    if results.count != record.call.outputs.count {
      throw RunError(
        "APUS-R-0014", "\(results.count) results come back, \(record.call.outputs.count) are expected",
        place: place(record))
    }
    try setSymbols(record, results)
    for (slot, value) in zip(record.call.outputs, results) { try store(value, in: slot, lent, record) }
  }

  private func place(_ record: HostRecord) -> String { "step \(record.step) '\(record.call.operation)'" }

  private static func problems(_ error: any Error) -> [Diagnostic] {
    if let room = error as? any RoomError { return room.problems }
    if let problem = error as? Diagnostic { return [problem] }
    return [Diagnostic("APUS-R-0014", "\(error)")]
  }

  private func lend(_ slot: Int, _ lent: inout [HostStorage]) throws(RunError) -> HostValue {
    let record = program.slots[slot]
    if record.isObject { return try object(in: slot) }
    let bytes = try memory(of: slot)
    let shape = record.shape.map { bound.values[$0] }
    if isElsewhere {
      let copy = HostStorage(byteCount: bytes.count)
      if bytes.count > 0, let base = bytes.baseAddress {
        stream.download(from: base, to: copy.base, byteCount: bytes.count)
      }
      return .tensor(HostTensor(dtype: record.dtype, shape: shape, storage: copy))
    }
    let storage = HostStorage(
      borrowing: bytes.baseAddress ?? UnsafeMutableRawPointer(bound.values), byteCount: bytes.count, owner: self)
    lent.append(storage)
    return .tensor(HostTensor(dtype: record.dtype, shape: shape, storage: storage))
  }

  private func setSymbols(_ record: HostRecord, _ results: [HostValue]) throws(RunError) {
    var isSet = false
    for (axes, value) in zip(record.bound, results) {
      for (axis, node) in axes {
        guard let tensor = value.tensor, tensor.shape.indices.contains(axis) else {
          throw RunError("APUS-R-0014", "a result has no axis \(axis) to take a size from", place: place(record))
        }
        try set(node, to: tensor.shape[axis], step: record.step)
        isSet = true
      }
    }
    if isSet { program.dims.evaluateLate(into: bound.values) }
  }

  private func store(
    _ value: HostValue, in slot: Int, _ lent: [HostStorage], _ record: HostRecord
  ) throws(RunError) {
    let expected = program.plan.slots[slot].type
    guard value.type.hasForm(of: expected) else {
      throw RunError(
        "APUS-R-0014", "a result has type \(value.type), \(expected) is expected", place: place(record))
    }
    if program.slots[slot].isObject {
      objects[slot] = detached(value, from: lent)
      return
    }
    guard let tensor = value.tensor else { return }
    let target = try memory(of: slot)
    let sizes = program.slots[slot].shape.map { bound.values[$0] }
    if tensor.shape != sizes || tensor.byteCount != target.count {
      throw RunError(
        "APUS-R-0014", "a result has shape \(tensor.shape), \(sizes) is expected for \(expected)",
        place: place(record))
    }
    tensor.withUnsafeBytes { bytes in
      if target.count > 0, let from = bytes.baseAddress, let to = target.baseAddress, from != UnsafeRawPointer(to) {
        stream.upload(from: from, to: to, byteCount: target.count)
      }
    }
  }

  /// The value with bytes of its own where it shares those of an operand, which later steps overwrite.
  private func detached(_ value: HostValue, from lent: [HostStorage]) -> HostValue {
    switch value {
    case .tensor(let tensor):
      guard lent.contains(where: { $0 === tensor.storage }) else { return value }
      return .tensor(tensor.copied())
    case .sequence(let elements, let type):
      return .sequence(elements.map { detached($0, from: lent) }, element: type)
    case .optional(let element, let type):
      return .optional(element.map { detached($0, from: lent) }, element: type)
    }
  }
}

extension HostTensor {
  /// The same elements in memory of its own.
  func copied() -> HostTensor {
    if dtype == .string { return self }
    return withUnsafeBytes { source in HostTensor(dtype, shape) { $0.copyMemory(from: source) } }
  }
}
