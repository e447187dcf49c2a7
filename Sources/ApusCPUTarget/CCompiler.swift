import ApusCompiler
package import ApusCore

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Compiles C functions to one shared-object image, in parallel, with object files cached by content.
package struct CCompiler: Sendable {
  let path: String
  let target: CPUTarget
  let jobs: Int
  let cache: String
  /// How many functions are compiled at a time: one, so that each is cached by itself, or more where that is faster.
  var unitSize = 1
  var isOptimising = true
  private let identity: String

  /// Finds the compiler: `CC`, else `clang` on the search path.
  ///
  /// - Throws: ``BuildError`` `APUS-B-0011` when there is none.
  package init(target: CPUTarget, jobs: Int) throws(BuildError) {
    let wanted = getenv("CC").map { String(cString: $0) } ?? "clang"
    guard let path = Self.find(wanted) else {
      throw BuildError(
        "APUS-B-0011", "the C compiler '\(wanted)' is not on the search path",
        hint: "Install one with `apt-get install clang`, or name yours with CC=….")
    }
    self.path = path
    self.target = target
    self.jobs = max(1, jobs)
    cache = try BuildCache.folder()
    var status = stat()
    stat(path, &status)
    identity = "\(path) \(status.st_size) \(status.st_mtim.tv_sec)"
  }

  /// The absolute path of a program, searched as a shell does.
  package static func find(_ program: String) -> String? {
    if program.contains("/") { return access(program, X_OK) == 0 ? program : nil }
    let search = getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"
    for folder in search.split(separator: ":") {
      let candidate = "\(folder)/\(program)"
      if access(candidate, X_OK) == 0 { return candidate }
    }
    return nil
  }

  /// The first line of what the compiler says of its version.
  func version() throws(BuildError) -> String {
    let log = "\(cache)/version.\(getpid()).\(UInt64.random(in: 0 ... .max)).log"
    defer { unlink(log) }
    guard waitFor(try spawn([path, "--version"], log: log)), let file = try? MappedFile(path: log) else {
      return identity
    }
    let text = withExtendedLifetime(file) { String(decoding: file.bytes, as: UTF8.self) }
    return String(text.prefix { !$0.isNewline })
  }

  private var flags: [String] {
    [
      "-std=gnu11", isOptimising ? "-O3" : "-O0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast",
      "-fwrapv", "-fPIC", "-w",
    ] + target.flags
  }

  /// Compiles each source to an object and links all into an image.
  ///
  /// - Parameter progress: called with the number of objects done and of all.
  package func image(_ sources: [String], progress: (Int, Int) -> Void) throws(BuildError) -> [UInt8] {
    let objects = try BuildCache.folder("objects")
    let sources = units(sources)
    let paths = sources.map { source in
      "\(objects)/\(ContentHash.hex([source, identity, flags.joined(separator: " ")])).o"
    }
    try compileMissing(sources, paths, progress)
    return try link(paths)
  }

  /// Sources of several functions each: of those that need nothing but the prelude.
  private func units(_ sources: [String]) -> [String] {
    if unitSize == 1 { return sources }
    let prelude = KernelText.prelude
    let plain = sources.filter { $0.hasPrefix(prelude) && !$0.dropFirst(prelude.count).contains("#") }
    let functions = plain.map { String($0.dropFirst(prelude.count)) }
    let starts = stride(from: 0, to: functions.count, by: unitSize)
    let joined = starts.map { prelude + functions[$0..<min($0 + unitSize, functions.count)].joined(separator: "\n") }
    let isPlain = Set(plain)
    return joined + sources.filter { !isPlain.contains($0) }
  }

  private func compileMissing(_ sources: [String], _ paths: [String], _ progress: (Int, Int) -> Void)
    throws(BuildError)
  {
    var running: [(pid: pid_t, index: Int, log: String)] = []
    var done = 0
    var failures: [Diagnostic] = []
    // Builds at the same time, in this process or others, may compile the same source.
    let mark = "\(getpid()).\(UInt64.random(in: 0 ... .max))"
    func finish(_ job: (pid: pid_t, index: Int, log: String)) {
      let temporary = "\(paths[job.index]).\(mark).o"
      if waitFor(job.pid), rename(temporary, paths[job.index]) == 0 {
        unlink(job.log)
      } else {
        failures.append(
          Diagnostic(
            "APUS-B-0012", "the C compiler failed: \(Self.head(of: job.log))", place: job.log,
            hint: "The source is kept beside the log, ending in .c."))
      }
      done += 1
      progress(done, sources.count)
    }
    for (index, path) in paths.enumerated() {
      if access(path, R_OK) == 0 || paths[..<index].contains(path) {
        done += 1
        continue
      }
      if running.count >= jobs { finish(running.removeFirst()) }
      let source = "\(path).\(mark).c"
      let log = "\(path).\(mark).log"
      do { try AtomicFile.write(Array(sources[index].utf8), to: source) } catch {
        throw BuildError("APUS-B-0013", "\(error)", hint: "APUS_CACHE names another folder.")
      }
      let pid = try spawn([self.path] + flags + ["-c", source, "-o", "\(path).\(mark).o"], log: log)
      running.append((pid, index, log))
    }
    for job in running { finish(job) }
    if failures.isEmpty { for path in paths { unlink("\(path).\(mark).c") } }
    if !failures.isEmpty { throw BuildError(problems: failures) }
  }

  private func link(_ objects: [String]) throws(BuildError) -> [UInt8] {
    let output = "\(cache)/image.\(getpid()).\(UInt64.random(in: 0 ... .max)).so"
    let log = "\(output).log"
    defer {
      unlink(output)
      unlink(log)
    }
    // In the order of the sources: paths depend on the machine, and images shall not.
    var seen: Set<String> = []
    let unique = objects.filter { seen.insert($0).inserted }
    let pid = try spawn([path, "-shared", "-o", output] + Self.linkFlags + unique + ["-lm"], log: log)
    guard waitFor(pid) else { throw BuildError("APUS-B-0032", "linking the kernels failed: \(Self.head(of: log))") }
    do {
      let file = try MappedFile(path: output)
      return withExtendedLifetime(file) { Array(file.bytes) }
    } catch { throw BuildError("APUS-B-0032", "\(error)") }
  }

  /// What keeps names of temporary files out of the image, so that equal objects give equal bytes.
  #if os(Linux)
    private static let linkFlags = ["-Wl,-s", "-Wl,-soname,apus"]
  #else
    private static let linkFlags: [String] = []
  #endif

  private func spawn(_ arguments: [String], log: String) throws(BuildError) -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
    posix_spawn_file_actions_adddup2(&actions, 1, 2)
    var pid: pid_t = 0
    let words = arguments.map { strdup($0) }
    defer { for word in words { free(word) } }
    let status = posix_spawn(&pid, arguments[0], &actions, nil, words + [nil], environ)
    if status != 0 {
      throw BuildError("APUS-B-0015", "cannot start '\(arguments[0])': \(String(cString: strerror(status)))")
    }
    return pid
  }

  /// Whether the process ended with status 0.
  private func waitFor(_ pid: pid_t) -> Bool {
    var status: Int32 = 0
    while waitpid(pid, &status, 0) < 0 { if errno != EINTR { return false } }
    return status == 0
  }

  private static func head(of path: String) -> String {
    guard let file = try? MappedFile(path: path) else { return "(no output)" }
    return String(decoding: file.bytes.prefix(600), as: UTF8.self)
  }
}
