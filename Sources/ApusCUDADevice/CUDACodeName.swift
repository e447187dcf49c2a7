/// A target's name taken apart: machine code `sm_90a`, or assembly `compute_80` that the driver compiles.
package struct CUDACodeName: Sendable, Hashable {
  /// Compute capability, 90 for 9.0.
  package let capability: Int
  /// Whether it is PTX.
  package let isAssembly: Bool
  /// Whether it runs on that capability only (`a`).
  package let isExact: Bool

  /// Nil for what is no target of GPUs.
  package init?(_ name: String) {
    guard let prefix = ["sm_", "compute_"].first(where: name.hasPrefix) else { return nil }
    let rest = name.dropFirst(prefix.count)
    let digits = rest.prefix { $0.isNumber }
    guard let capability = Int(digits), ["", "a"].contains(rest.dropFirst(digits.count)) else { return nil }
    self.capability = capability
    isAssembly = prefix == "compute_"
    isExact = rest.last == "a"
  }

  /// How well it suits a GPU; nil where it does not run.
  ///
  /// Machine code runs on GPUs of the same major version and no lower minor one, assembly on all that are no older, and what is
  /// exact on the very version. Machine code is preferred, then what is newer, then what is exact.
  package func suitability(major: Int, minor: Int) -> Int? {
    let own = major * 10 + minor
    if isExact ? capability != own : capability > own { return nil }
    if !isAssembly, capability / 10 != major { return nil }
    return (isAssembly ? 0 : 100_000) + 2 * capability + (isExact ? 1 : 0)
  }
}
