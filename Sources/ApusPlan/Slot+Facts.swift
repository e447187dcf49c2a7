import ApusCore

extension Slot {
  /// Whether the slot holds a host value (text, sequence, optional) and not bytes that kernels can reach.
  package var holdsObject: Bool {
    guard let tensor = type.tensor else { return true }
    return storage == .object || tensor.dtype == .string
  }

  /// The slot this one is a view of.
  package var viewed: Int? {
    if case .view(let of, _) = storage { of } else { nil }
  }
}

extension Plan {
  /// The slot whose memory `slot` lies in, through any views.
  ///
  /// The plan must be valid: views must not form a cycle.
  package func root(of slot: Int) -> Int {
    var slot = slot
    while let next = slots[slot].viewed { slot = next }
    return slot
  }
}

extension Step.Action {
  /// The step lists that the action holds.
  package var nested: [[Step]] {
    switch self {
    case .branch(_, let then, let otherwise): [then, otherwise]
    case .loop(let loop): [loop.body]
    case .launch, .copy, .host, .bind, .define: []
    }
  }
}

extension Step {
  /// Number of steps including the nested ones.
  package var stepCount: Int { action.nested.joined().reduce(1) { $0 + $1.stepCount } }
}

extension Plan {
  /// Number of steps including the nested ones.
  package var stepCount: Int { steps.reduce(0) { $0 + $1.stepCount } }
}

extension ConstantSection {
  /// Where the bytes start; readable as long as the section lives.
  package var address: UnsafeRawPointer { UnsafeRawPointer(storage.base) }
}
