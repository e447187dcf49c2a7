import ApusCore

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A child process that answers a request, one line, with lines and then an empty one. It is started again when it has crashed
/// or taken too long.
package final class ModelWorker {
  private let executable: String
  private let arguments: [String]
  private let timeout: Duration
  private var process: WorkerProcess?

  package init(executable: String, arguments: [String], timeout: Duration) {
    self.executable = executable
    self.arguments = arguments
    self.timeout = timeout
  }

  deinit { _ = process?.end(killing: true) }

  package enum Answer: Equatable {
    case lines([String])
    /// The process ended in this way, and said this before.
    case ended(String, errors: String)
  }

  package func ask(_ request: String) throws(ConformanceError) -> Answer {
    signal(SIGPIPE, SIG_IGN)
    let process: WorkerProcess
    if let own = self.process {
      process = own
    } else {
      process = try WorkerProcess(executable: executable, arguments: arguments)
    }
    self.process = process
    process.send(request)
    let deadline = ContinuousClock.now + timeout
    var lines: [String] = []
    while ContinuousClock.now < deadline {
      var descriptors = [process.output, process.errors].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
      poll(&descriptors, 2, 200)
      if descriptors[1].revents != 0 { process.receiveErrors() }
      guard descriptors[0].revents != 0 else { continue }
      guard let received = process.receive() else {
        process.receiveErrors()
        return ended(process, process.end(killing: false))
      }
      for line in received {
        if line.isEmpty { return .lines(lines) }
        lines.append(line)
      }
    }
    _ = process.end(killing: true)
    return ended(process, "took longer than \(timeout)")
  }

  private func ended(_ process: WorkerProcess, _ how: String) -> Answer {
    self.process = nil
    return .ended(how, errors: String(decoding: process.errorTail, as: UTF8.self))
  }
}
