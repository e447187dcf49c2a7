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
    case .piece(let piece): [piece.plan.steps]
    case .launch, .library, .copy, .host, .bind, .define: []
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

extension Plan {
  /// The parts that were cut out, in the order in which they run.
  public var pieces: [Piece] {
    steps.compactMap { step in if case .piece(let piece) = step.action { piece } else { nil } }
  }

  /// Sets what all plans of an engine share, in the pieces too.
  package mutating func share(functions: [KernelFunction], images: [KernelImage], constants: ConstantSection) {
    self.functions = functions
    self.images = images
    self.constants = constants
    for index in steps.indices {
      guard case .piece(var piece) = steps[index].action else { continue }
      piece.plan.share(functions: functions, images: images, constants: constants)
      steps[index].action = .piece(piece)
    }
  }
}

extension ConstantSection {
  /// Where the bytes start; readable as long as the section lives.
  package var address: UnsafeRawPointer { UnsafeRawPointer(storage.base) }
}
