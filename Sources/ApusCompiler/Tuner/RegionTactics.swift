package import ApusCore
package import ApusPlan

/// The tactics that measuring chose for regions, to build by.
package struct RegionTactics: Sendable {
  /// What makes two steps' regions one.
  package struct Region: Hashable, Sendable {
    package var text: String
    package var constants: [TensorType]

    package init(_ alternatives: Alternatives) { (text, constants) = (alternatives.region, alternatives.constants) }
  }

  package var tactics: [Region: String]
  /// Names of profiles that stay as the cost model has them.
  package var keptProfiles: Set<String>

  package init(_ tactics: [Region: String], keeping profiles: Set<String>) {
    self.tactics = tactics
    keptProfiles = profiles
  }

  /// The tactics of a profile; nil where it stays as it is.
  func of(profile: String) -> RegionTactics? { keptProfiles.contains(profile) ? nil : self }

  func tactic(for alternatives: Alternatives) -> String? { tactics[Region(alternatives)] }
}
