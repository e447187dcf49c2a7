import ApusCore

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Runs cases in child processes, so that one that crashes, hangs or eats memory is counted as failed and the rest goes on.
package struct ConformanceSuite {
  package var folders: [String]
  package var modes: [ConformanceMode]
  /// The program that answers a case's folder with one result per mode, as JSON lines, and then an empty line.
  package var executable: String
  package var arguments: [String]
  package var workerCount: Int
  package var timeout: Duration

  package init(
    folders: [String], modes: [ConformanceMode], executable: String, arguments: [String], workerCount: Int,
    timeout: Duration
  ) {
    self.folders = folders
    self.modes = modes
    self.executable = executable
    self.arguments = arguments
    self.workerCount = workerCount
    self.timeout = timeout
  }

  /// Runs all cases; `progress` hears how many are done.
  package func run(progress: (Int) -> Void) throws(ConformanceError) -> ConformanceReport {
    signal(SIGPIPE, SIG_IGN)
    var results = [[ConformanceResult]](repeating: [], count: folders.count)
    var next = 0
    var done = 0
    var jobs: [Job] = []
    defer { for job in jobs { _ = job.worker.end(killing: true) } }
    while done < folders.count {
      while next < folders.count, jobs.count(where: { $0.index != nil }) < max(workerCount, 1) {
        let job: Job
        if let idle = jobs.first(where: { $0.index == nil }) {
          job = idle
        } else {
          job = Job(worker: try WorkerProcess(executable: executable, arguments: arguments))
          jobs.append(job)
        }
        job.start(next, folders[next], deadline: .now + timeout)
        next += 1
      }
      wait(for: jobs)
      for job in jobs {
        guard let index = job.index, let outcome = advance(job) else { continue }
        results[index] = outcome
        done += 1
        progress(done)
        job.index = nil
      }
      jobs.removeAll(where: \.isGone)
    }
    return ConformanceReport(results: Array(results.joined()))
  }

  /// A worker and the case it is busy with.
  private final class Job {
    let worker: WorkerProcess
    var index: Int?
    var isGone = false
    var deadline = ContinuousClock.now
    var results: [ConformanceResult] = []

    init(worker: WorkerProcess) { self.worker = worker }

    func start(_ index: Int, _ folder: String, deadline: ContinuousClock.Instant) {
      self.index = index
      self.deadline = deadline
      results = []
      worker.send(folder)
    }
  }

  private func wait(for jobs: [Job]) {
    var descriptors = jobs.filter { $0.index != nil }.flatMap { job in
      [job.worker.output, job.worker.errors].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
    }
    poll(&descriptors, nfds_t(descriptors.count), 200)
  }

  private func isReadable(_ descriptor: Int32) -> Bool {
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return poll(&entry, 1, 0) > 0
  }

  /// Takes in what the worker said; all results of the case once it is over.
  private func advance(_ job: Job) -> [ConformanceResult]? {
    if isReadable(job.worker.errors) { job.worker.receiveErrors() }
    if isReadable(job.worker.output) {
      guard let lines = job.worker.receive() else {
        job.isGone = true
        let end = job.worker.end(killing: false)
        while isReadable(job.worker.errors) {
          let known = job.worker.errorTail.count
          job.worker.receiveErrors()
          if job.worker.errorTail.count == known { break }
        }
        return complete(job, "the worker ended: \(end)\n" + String(decoding: job.worker.errorTail, as: UTF8.self))
      }
      for line in lines {
        if line.isEmpty { return complete(job, "the worker gave no result") }
        if let result = ConformanceResult(line: line) { job.results.append(result) }
      }
    }
    if ContinuousClock.now > job.deadline {
      job.isGone = true
      _ = job.worker.end(killing: true)
      return complete(job, "took longer than \(timeout)")
    }
    return nil
  }

  /// The results of a case; modes of which nothing was heard failed with `message`.
  private func complete(_ job: Job, _ message: String) -> [ConformanceResult] {
    guard let index = job.index else { return [] }
    let name = String(folders[index].split(separator: "/").last ?? "")
    return modes.map { mode in
      job.results.first { $0.mode == mode }
        ?? ConformanceResult(name: name, mode: mode, outcome: .failed, message: message)
    }
  }
}
