/// Plans of several targets in one engine: each target has plans for the same profiles, and code of its own.
extension [Plan] {
  /// The plans of each target, in the order in which the targets first occur.
  public var byTarget: [[Plan]] {
    var targets: [Fingerprint] = []
    var groups: [[Plan]] = []
    for plan in self {
      if let index = targets.firstIndex(of: plan.fingerprint) {
        groups[index].append(plan)
      } else {
        targets.append(plan.fingerprint)
        groups.append([plan])
      }
    }
    return groups
  }

  /// What the engine was built for, in the order in which the targets first occur.
  public var targets: [Fingerprint] { byTarget.map { $0[0].fingerprint } }

  /// The plans with those of one target replaced by others of it, in their order.
  package func replacing(with plans: [Plan]) -> [Plan] {
    byTarget.flatMap { $0[0].fingerprint == plans.first?.fingerprint ? plans : $0 }
  }
}

extension [Fingerprint] {
  /// `sm_80, sm_90a`, for messages.
  package var names: String { map(\.target).joined(separator: ", ") }
}
