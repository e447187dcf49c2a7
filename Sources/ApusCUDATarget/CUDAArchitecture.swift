package import ApusCore

/// A GPU architecture that code is generated for: one that machine code is for, or a virtual one, whose assembly (PTX) newer
/// GPUs' drivers compile too.
package struct CUDAArchitecture: Sendable, Hashable {
  /// `sm_90a`, `compute_80`.
  package let name: String
  /// Compute capability, 90 for 9.0.
  package let capability: Int
  package let isVirtual: Bool

  /// Bytes of memory that the threads of a block can share, on every GPU that runs the code.
  var sharedByteCount: Int { name.hasSuffix("a") && [90, 100, 103].contains(capability) ? 227 << 10 : 99 << 10 }

  package static let names = [
    "native", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120", "compute_80", "compute_90", "compute_100",
    "compute_120",
  ]

  /// - Parameter native: what `native` stands for; nil when this machine has no GPU.
  /// - Throws: ``BuildError`` `APUS-B-0010` for a name that is not known, `APUS-B-0052` for `native` without a GPU.
  package init(name: String, native: String?) throws(BuildError) {
    if name == "native" {
      guard let native else {
        throw BuildError(
          "APUS-B-0052", "this machine has no GPU to build for", place: "--target native",
          hint: "Name the architecture: \(Self.names.dropFirst().joined(separator: ", ")).")
      }
      self = try CUDAArchitecture(name: native, native: nil)
      return
    }
    let isVirtual = name.hasPrefix("compute_")
    let digits = name.dropFirst(isVirtual ? 8 : 3).prefix { $0.isNumber }
    guard isVirtual || name.hasPrefix("sm_"), let capability = Int(digits), capability >= 80 else {
      throw BuildError(
        "APUS-B-0010", "no target is called '\(name)'", hint: "Known: \(Self.names.joined(separator: ", ")).")
    }
    self.name = name
    self.capability = capability
    self.isVirtual = isVirtual
  }
}
