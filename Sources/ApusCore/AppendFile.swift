#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A file that lines are added to at the end, by any number of processes at once, each piece whole.
///
/// Whoever replaces the file as a whole does so within ``exclusively(_:_:)``, so that no piece goes to the old one.
package final class AppendFile: Sendable {
  package let path: String

  /// Opens the file, which is made when it is not there.
  package init(path: String) throws(FileError) {
    self.path = path
    close(try Self.open(path))
  }

  /// Adds a piece.
  ///
  /// - Parameter header: what a file that is empty begins with.
  package func append(_ text: String, header: String = "") throws(FileError) {
    let descriptor = try Self.openLocked(path)
    defer { close(descriptor) }
    let end = lseek(descriptor, 0, SEEK_END)
    var last: UInt8 = 10
    // A writer that was killed may have left half a line.
    if end > 0, pread(descriptor, &last, 1, end - 1) != 1 { last = 10 }
    var text = (end == 0 ? header : last == 10 ? "" : "\n") + text
    let code = text.withUTF8 { bytes in
      var offset = 0
      while offset < bytes.count {
        let written = write(descriptor, bytes.baseAddress.map { $0 + offset }, bytes.count - offset)
        if written > 0 { offset += written } else if errno != EINTR { return errno }
      }
      return 0
    }
    if code != 0 { throw FileError("write", path, errno: code) }
  }

  /// Does something while nobody adds to a file, which is made when it is not there.
  package static func exclusively<Failure: Error>(_ path: String, _ body: () throws(Failure) -> Void) throws {
    let descriptor = try openLocked(path)
    defer { close(descriptor) }
    try body()
  }

  private static func open(_ path: String) throws(FileError) -> Int32 {
    let descriptor = openFile(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC)
    if descriptor < 0 { throw FileError("write", path, errno: errno) }
    return descriptor
  }

  /// Opens the file of this name and waits until nobody else has it locked. Closing unlocks it.
  private static func openLocked(_ path: String) throws(FileError) -> Int32 {
    while true {
      let descriptor = try open(path)
      while flock(descriptor, LOCK_EX) != 0 {
        if errno == EINTR { continue }
        // File systems without locks keep pieces apart by themselves where they are small.
        if errno == ENOLCK || errno == EOPNOTSUPP || errno == ENOSYS { return descriptor }
        let code = errno
        close(descriptor)
        throw FileError("lock", path, errno: code)
      }
      var own = stat()
      var there = stat()
      // Another file may have taken the name while this one was waited for.
      if fstat(descriptor, &own) != 0 || stat(path, &there) == 0 && own.st_ino == there.st_ino { return descriptor }
      close(descriptor)
    }
  }
}

/// The system call under a name that ``AppendFile`` does not hide.
private func openFile(_ path: String, _ flags: Int32) -> Int32 { open(path, flags, 0o644) }
