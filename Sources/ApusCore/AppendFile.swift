#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A file that lines are added to at the end, by any number of processes at once: each piece goes there in one call of the
/// system, which puts it behind all that is there.
package final class AppendFile: Sendable {
  package let path: String
  private let descriptor: Int32

  /// Opens the file, which is made when it is not there.
  package init(path: String) throws(FileError) {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
    if descriptor < 0 { throw FileError("write", path, errno: errno) }
    self.path = path
    self.descriptor = descriptor
  }

  deinit { close(descriptor) }

  package func append(_ text: String) throws(FileError) {
    var text = text
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
}
