package import ApusCore

extension Fingerprint {
  /// Version of the compiler and of the conventions its kernels are called by.
  public static let compilerVersion = "0.1.0"

  /// A fingerprint of this program's format and version.
  public init(backend: String, target: String, features: [String]) {
    self.init(
      format: EngineFile.format, compiler: Fingerprint.compilerVersion, backend: backend, target: target,
      features: features)
  }

  /// Refuses a plan that another version of the compiler wrote.
  ///
  /// - Throws: ``EngineFileError`` `APUS-E-0003` or `APUS-E-0010` with both versions.
  package func checkVersion() throws(EngineFileError) {
    if format != EngineFile.format {
      throw EngineFileError(
        "APUS-E-0003", "the engine has format \(format), this program runs format \(EngineFile.format)",
        place: "fingerprint", hint: "Build the engine again with this version of apus.")
    }
    if compiler != Fingerprint.compilerVersion {
      throw EngineFileError(
        "APUS-E-0010", "the engine was built by apus \(compiler), this is apus \(Fingerprint.compilerVersion)",
        place: "fingerprint", hint: "Build the engine again with this version of apus.")
    }
  }
}
