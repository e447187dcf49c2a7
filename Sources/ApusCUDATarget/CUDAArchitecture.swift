package import ApusCore

/// A GPU architecture that code is generated for.
package struct CUDAArchitecture: Sendable, Hashable {
  /// `sm_90a`.
  package let name: String
  /// Compute capability, 90 for 9.0.
  package let capability: Int

  /// Bytes of memory that the threads of a block can share.
  var sharedByteCount: Int {
    switch capability {
    case 80, 87: 163 << 10
    case 90, 100, 103: 227 << 10
    default: 99 << 10
    }
  }

  package static let names = ["native", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120"]

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
    let digits = name.dropFirst(3).prefix { $0.isNumber }
    guard name.hasPrefix("sm_"), let capability = Int(digits), capability >= 80 else {
      throw BuildError(
        "APUS-B-0010", "no target is called '\(name)'", hint: "Known: \(Self.names.joined(separator: ", ")).")
    }
    self.name = name
    self.capability = capability
  }
}
