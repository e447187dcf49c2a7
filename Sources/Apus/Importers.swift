import ApusCore
package import ApusImport

/// The model formats that can be read: the only list of them.
package enum Importers {
  package static let all: [any Importer] = [ONNXImporter()]

  /// The importer of the file's format, by its first bytes.
  ///
  /// - Throws: ``ImportError`` `APUS-I-0001` when the file cannot be read, `APUS-I-0002` when no importer knows it.
  static func find(for path: String) throws(ImportError) -> any Importer {
    let file: MappedFile
    do { file = try MappedFile(path: path) } catch { throw ImportError("APUS-I-0001", "\(error)") }
    if let importer = all.first(where: { $0.canRead(prefix: file.bytes) }) { return importer }
    throw ImportError(
      "APUS-I-0002", file.bytes.isEmpty ? "the file is empty" : "the file is of no known model format", place: path,
      hint: "Known: \(all.map(\.format).joined(separator: ", ")).")
  }
}
