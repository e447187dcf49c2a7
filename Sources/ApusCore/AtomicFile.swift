#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A failed file operation, with the path and the system's reason.
public struct FileError: Error, Sendable, CustomStringConvertible {
  public let path: String
  public let operation: String
  public let reason: String

  init(_ operation: String, _ path: String, errno code: Int32) {
    self.path = path
    self.operation = operation
    reason = String(cString: strerror(code))
  }

  public var description: String { "cannot \(operation) '\(path)': \(reason)" }
}

/// Writes whole files so that a reader sees the old content or the new, never a part.
public enum AtomicFile {
  /// Writes the chunks to a temporary file beside `path`, syncs it and renames it into place. Nothing is left behind on
  /// failure.
  public static func write(_ chunks: [UnsafeRawBufferPointer], to path: String) throws(FileError) {
    let temporary = "\(path).\(getpid()).tmp"
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
    if descriptor < 0 { throw FileError("write", path, errno: errno) }
    for chunk in chunks {
      var offset = 0
      while offset < chunk.count {
        let written = writeBytes(descriptor, chunk.baseAddress.map { $0 + offset }, chunk.count - offset)
        if written < 0 {
          if errno == EINTR { continue }
          let code = errno
          close(descriptor)
          unlink(temporary)
          throw FileError("write", path, errno: code)
        }
        offset += written
      }
    }
    let synced = fsync(descriptor)
    let syncCode = errno
    close(descriptor)
    if synced != 0 && syncCode != EINVAL {
      unlink(temporary)
      throw FileError("write", path, errno: syncCode)
    }
    if rename(temporary, path) != 0 {
      let code = errno
      unlink(temporary)
      throw FileError("write", path, errno: code)
    }
  }

  /// Whether there is a file of this name.
  package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  public static func write(_ bytes: [UInt8], to path: String) throws(FileError) {
    let result = bytes.withUnsafeBytes { buffer -> Result<Void, FileError> in
      Result { () throws(FileError) in try write([buffer], to: path) }
    }
    try result.get()
  }
}

/// A file mapped read-only; the bytes stay valid while the value lives.
package final class MappedFile: @unchecked Sendable {
  package let bytes: UnsafeRawBufferPointer

  package init(path: String) throws(FileError) {
    let descriptor = open(path, O_RDONLY)
    if descriptor < 0 { throw FileError("read", path, errno: errno) }
    defer { close(descriptor) }
    var status = stat()
    if fstat(descriptor, &status) != 0 { throw FileError("read", path, errno: errno) }
    if status.st_mode & S_IFMT == S_IFDIR { throw FileError("read", path, errno: EISDIR) }
    let count = Int(status.st_size)
    if count == 0 {
      bytes = UnsafeRawBufferPointer(start: nil, count: 0)
      return
    }
    guard let base = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), base != MAP_FAILED else {
      throw FileError("map", path, errno: errno)
    }
    bytes = UnsafeRawBufferPointer(start: base, count: count)
  }

  deinit {
    if let base = bytes.baseAddress { munmap(UnsafeMutableRawPointer(mutating: base), bytes.count) }
  }
}

/// The system call under a name that ``AtomicFile/write(_:to:)`` does not hide.
private func writeBytes(_ descriptor: Int32, _ base: UnsafeRawPointer?, _ count: Int) -> Int {
  write(descriptor, base, count)
}
