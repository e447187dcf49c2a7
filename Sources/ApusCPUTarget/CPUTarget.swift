package import ApusCore

/// What code is generated for: an instruction-set level, or the build machine itself.
package struct CPUTarget: Sendable, Hashable {
  /// `native`, `x86-64-v2`, `x86-64-v3`, `x86-64-v4`, `aarch64`.
  package let name: String
  /// Bytes of a vector register, which decides how weights are packed.
  package let vectorBytes: Int
  /// Features the code needs, as the device names them.
  package let features: [String]

  package static let names = ["native", "x86-64-v2", "x86-64-v3", "x86-64-v4"]

  /// - Throws: ``BuildError`` `APUS-B-0010` for a name that is not known.
  package init(name: String, machineFeatures: [String]) throws(BuildError) {
    let levels: [String: (Int, [String])] = [
      "x86-64-v2": (16, ["sse4.2", "popcnt"]),
      "x86-64-v3": (32, ["avx2", "fma", "bmi2", "f16c"]),
      "x86-64-v4": (64, ["avx512f", "avx512bw", "avx512dq", "avx512vl"]),
    ]
    #if arch(x86_64)
      let own =
        machineFeatures.contains("avx512f") && machineFeatures.contains("avx512vl")
        ? "x86-64-v4" : machineFeatures.contains("avx2") && machineFeatures.contains("fma") ? "x86-64-v3" : "x86-64-v2"
    #else
      let own = "aarch64"
    #endif
    if name == "native" || name == own {
      self.name = own
      vectorBytes = levels[own]?.0 ?? 16
      features = levels[own]?.1 ?? []
      return
    }
    guard let level = levels[name] else {
      throw BuildError(
        "APUS-B-0010", "no target is called '\(name)'", hint: "Known: \(Self.names.joined(separator: ", ")).")
    }
    self.name = name
    vectorBytes = level.0
    features = level.1
  }

  /// Compiler flags that select the instruction set.
  var flags: [String] {
    #if arch(x86_64)
      ["-march=\(name)"] + (vectorBytes == 64 ? ["-mprefer-vector-width=512"] : [])
    #else
      []
    #endif
  }
}
