#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Writes text to standard error.
func printError(_ text: String, terminator: String = "\n") {
  let bytes = Array((text + terminator).utf8)
  var offset = 0
  while offset < bytes.count {
    let written = bytes.withUnsafeBytes { write(2, $0.baseAddress.map { $0 + offset }, bytes.count - offset) }
    if written <= 0 { return }
    offset += written
  }
}

/// Whether standard error is a terminal.
var isErrorTerminal: Bool { isatty(2) != 0 }
