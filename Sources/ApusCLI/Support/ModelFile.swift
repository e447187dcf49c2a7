import ApusCore
import ApusPlan

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The file that a command is about: an engine, or a model to build one from.
enum ModelFile {
  /// Whether the file is an engine, by its first bytes.
  ///
  /// - Throws: ``UsageError`` `APUS-C-0022` when it cannot be read.
  static func isEngine(_ path: String) throws(UsageError) -> Bool {
    let file: MappedFile
    do { file = try MappedFile(path: path) } catch { throw UsageError("APUS-C-0022", error.description) }
    return withExtendedLifetime(file) { file.bytes.prefix(4).elementsEqual(Array("APUS".utf8)) }
  }
}

/// Sizes of files.
enum FileSize {
  /// Bytes of the file; 0 when there is none.
  static func of(_ path: String) -> Int {
    var status = stat()
    return stat(path, &status) == 0 ? Int(status.st_size) : 0
  }
}

extension Plan {
  /// Names and types of the inputs.
  var inputTypes: [(name: String, type: ValueType)] { inputs.map { ($0.name, $0.type) } }
}
