import ApusCore

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The data files beside a model, mapped once each.
final class ExternalData {
  /// A stretch of a mapped file.
  struct Slice {
    let file: MappedFile
    let bytes: UnsafeRawBufferPointer
  }

  private let folder: String?
  private var files: [String: MappedFile] = [:]

  /// - Parameter folder: where the model's file lies; nil when external data is not allowed.
  init(folder: String?) { self.folder = folder }

  /// The bytes that a tensor's `external_data` entries name.
  ///
  /// - Throws: ``ImportError`` `APUS-I-0021` for a location outside the model's folder, a file that cannot be read or a
  ///   range outside the file.
  func slice(_ entries: [Onnx_StringStringEntryProto], byteCount expected: Int) throws(ImportError) -> Slice {
    var location = ""
    var offset = 0
    var length: Int?
    for entry in entries {
      switch entry.key {
      case "location": location = entry.value
      case "offset": offset = try number(entry)
      case "length": length = try number(entry)
      default: break
      }
    }
    let file = try file(location)
    let count = length ?? expected
    guard offset <= file.bytes.count, count <= file.bytes.count - offset else {
      throw error(
        "bytes \(offset) ..< \(saturatingAdd(offset, count)) are outside '\(location)' of \(file.bytes.count) bytes",
        "The data file is truncated or belongs to another model.")
    }
    guard let base = file.bytes.baseAddress else {
      return Slice(file: file, bytes: UnsafeRawBufferPointer(start: nil, count: 0))
    }
    return Slice(file: file, bytes: UnsafeRawBufferPointer(start: base + offset, count: count))
  }

  private func number(_ entry: Onnx_StringStringEntryProto) throws(ImportError) -> Int {
    guard let value = Int(entry.value), value >= 0 else {
      throw error("\(entry.key) '\(entry.value)' is not a size", "")
    }
    return value
  }

  private func file(_ location: String) throws(ImportError) -> MappedFile {
    if let file = files[location] { return file }
    guard let folder else {
      throw error("the tensor's data is in '\(location)', outside this file", "Give the model's own file.")
    }
    let path = "\(folder)/\(location)"
    guard !location.isEmpty, !location.hasPrefix("/"), !location.split(separator: "/").contains(".."),
      let resolved = ExternalData.realPath(path), let root = ExternalData.realPath(folder),
      resolved.hasPrefix(root.hasSuffix("/") ? root : root + "/")
    else {
      if access(path, F_OK) != 0, !location.split(separator: "/").contains("..") {
        throw error("the data file '\(location)' is missing", "It must lie in the model's folder.")
      }
      throw error("the data file '\(location)' is outside the model's folder", "Put it beside the model.")
    }
    do {
      let file = try MappedFile(path: resolved)
      files[location] = file
      return file
    } catch { throw self.error("\(error)", "It must lie in the model's folder and be readable.") }
  }

  private func error(_ message: String, _ hint: String) -> ImportError {
    ImportError("APUS-I-0021", "external data: \(message)", hint: hint)
  }

  /// The path with links and `.` resolved; nil when it does not exist.
  private static func realPath(_ path: String) -> String? {
    guard let resolved = realpath(path, nil) else { return nil }
    defer { free(resolved) }
    return String(cString: resolved)
  }
}
