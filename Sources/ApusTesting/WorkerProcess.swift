import ApusCore

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A child process that answers lines on its standard input with lines on its standard output.
///
/// Not thread-safe: one thread polls all workers.
final class WorkerProcess {
  let processID: pid_t
  let output: Int32
  let errors: Int32
  private let input: Int32
  private var pending: [UInt8] = []
  /// The end of what the child wrote to standard error, where a crash says why.
  private(set) var errorTail: [UInt8] = []

  /// Starts `executable` with the arguments.
  init(executable: String, arguments: [String]) throws(ConformanceError) {
    let pipes = (0..<3).map { _ in Self.makePipe() }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, pipes[0].read, 0)
    posix_spawn_file_actions_adddup2(&actions, pipes[1].write, 1)
    posix_spawn_file_actions_adddup2(&actions, pipes[2].write, 2)
    let words = ([executable] + arguments).map { strdup($0) }
    defer { for word in words { free(word) } }
    var child: pid_t = 0
    let status = posix_spawn(&child, executable, &actions, nil, words + [nil], environ)
    for descriptor in [pipes[0].read, pipes[1].write, pipes[2].write] { close(descriptor) }
    input = pipes[0].write
    output = pipes[1].read
    errors = pipes[2].read
    processID = child
    if status != 0 {
      throw ConformanceError("APUS-T-0003", "cannot start '\(executable)': \(String(cString: strerror(status)))")
    }
  }

  deinit { for descriptor in [input, output, errors] { close(descriptor) } }

  /// A pipe whose ends are not inherited by other children.
  private static func makePipe() -> (read: Int32, write: Int32) {
    var ends: [Int32] = [-1, -1]
    pipe(&ends)
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    return (ends[0], ends[1])
  }

  func send(_ line: String) {
    let bytes = Array((line + "\n").utf8)
    var offset = 0
    while offset < bytes.count {
      let written = bytes.withUnsafeBytes { write(input, $0.baseAddress.map { $0 + offset }, bytes.count - offset) }
      // The child is gone: its end of output says so.
      if written <= 0 { return }
      offset += written
    }
  }

  /// Lines that have arrived; nil once the child has closed its output.
  func receive() -> [String]? {
    guard let bytes = Self.readSome(output) else { return nil }
    pending += bytes
    var lines: [String] = []
    while let end = pending.firstIndex(of: 10) {
      lines.append(String(decoding: pending[..<end], as: UTF8.self))
      pending.removeSubrange(...end)
    }
    return lines
  }

  func receiveErrors() {
    guard let bytes = Self.readSome(errors) else { return }
    errorTail = Array((errorTail + bytes).suffix(2000))
  }

  private static func readSome(_ descriptor: Int32) -> [UInt8]? {
    var buffer = [UInt8](repeating: 0, count: 65536)
    let count = read(descriptor, &buffer, buffer.count)
    return count > 0 ? Array(buffer[..<count]) : nil
  }

  /// Ends the child and says how it ended, in words.
  func end(killing: Bool) -> String {
    if killing { kill(processID, SIGKILL) }
    var status: Int32 = 0
    while waitpid(processID, &status, 0) < 0, errno == EINTR {}
    let signal = status & 0x7F
    if signal != 0 { return String(cString: strsignal(signal)) }
    return "exit code \((status >> 8) & 0xFF)"
  }
}
