import ApusCompiler
package import ApusCore
import CApusCUDA
import Dispatch
import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// NVIDIA's run-time compiler, opened when it is first needed. It compiles for any GPU and needs none.
package struct NVRTC: Sendable {
  /// `13.0`.
  package let version: String
  /// The library that was opened.
  let name: String

  private static let opened: Result<NVRTC, BuildError> = open()

  /// - Throws: ``BuildError`` `APUS-B-0050` when the library is not there or lacks a function.
  package static func find() throws(BuildError) -> NVRTC { try opened.get() }

  private static func open() -> Result<NVRTC, BuildError> {
    var tried: [String] = []
    var reason = ""
    while let candidate = apus_nvrtc_name(Int32(tried.count)) {
      let name = String(cString: candidate)
      tried.append(name)
      guard let library = dlopen(name, RTLD_LAZY | RTLD_LOCAL) else {
        if reason.isEmpty, let message = dlerror() { reason = String(cString: message) }
        continue
      }
      if let missing = apus_nvrtc_bind(library) {
        reason = "\(name) has no function \(String(cString: missing))"
        continue
      }
      var (major, minor): (Int32, Int32) = (0, 0)
      _ = apus_nvrtc_version(&major, &minor)
      return .success(NVRTC(version: "\(major).\(minor)", name: name))
    }
    return .failure(
      BuildError(
        "APUS-B-0050", "there is no NVRTC to compile CUDA kernels with: \(reason)",
        place: tried.joined(separator: ", "),
        hint:
          "Install the CUDA toolkit's NVRTC (the Python package nvidia-cuda-nvrtc has it too) and add its folder to "
          + "LD_LIBRARY_PATH. `apus doctor` lists what was tried."))
  }

  /// What came of compiling a source.
  package struct Compilation: Sendable {
    package let bytes: [UInt8]
    package let log: String

    /// Bytes for a thread that go to local memory for want of registers, as the log of `--ptxas-options=-v` tells.
    package var spilledByteCount: Int {
      log.matches(of: /([0-9]+) bytes spill stores/).reduce(0) { $0 + (Int($1.1) ?? 0) }
    }
  }

  /// What sources become.
  package enum Form: String, Sendable {
    case machineCode = "cubin"
    case assembly = "ptx"
  }

  /// Compiles a source.
  ///
  /// - Parameter options: as the command line takes them; they name a real or a virtual architecture, as the form needs it.
  /// - Throws: ``BuildError`` `APUS-B-0012` with the compiler's words.
  package func compile(
    _ source: String, options: [String], to form: Form = .machineCode
  ) throws(BuildError) -> Compilation {
    var program: apus_nvrtc_program?
    guard apus_nvrtc_create(&program, source, "kernel.cu", 0, nil, nil) == 0, let program else {
      throw BuildError("APUS-B-0012", "NVRTC takes no source", place: name)
    }
    defer {
      var handle: apus_nvrtc_program? = program
      _ = apus_nvrtc_destroy(&handle)
    }
    let words = options.map { strdup($0) }
    defer { for word in words { free(word) } }
    let arguments = words.map { UnsafePointer<CChar>($0) }
    let status = apus_nvrtc_compile(program, Int32(arguments.count), arguments)
    let log = String(
      decoding: Self.text(program, apus_nvrtc_log_size, apus_nvrtc_log).prefix { $0 != 0 }, as: UTF8.self)
    if status != 0 {
      throw BuildError(
        "APUS-B-0012", "NVRTC \(version) failed (\(status)): \(log.prefix(1200))",
        place: options.joined(separator: " "),
        hint: "Run with APUS_DUMP=FOLDER to see the source.")
    }
    let bytes =
      switch form {
      case .machineCode: Self.text(program, apus_nvrtc_cubin_size, apus_nvrtc_cubin)
      case .assembly: Self.text(program, apus_nvrtc_ptx_size, apus_nvrtc_ptx)
      }
    return Compilation(bytes: bytes, log: log)
  }

  private static func text(
    _ program: apus_nvrtc_program, _ size: (apus_nvrtc_program?, UnsafeMutablePointer<Int>?) -> Int32,
    _ read: (apus_nvrtc_program?, UnsafeMutablePointer<CChar>?) -> Int32
  ) -> [UInt8] {
    var count = 0
    guard size(program, &count) == 0, count > 0 else { return [] }
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      buffer.withMemoryRebound(to: CChar.self) { _ = read(program, $0.baseAddress) }
      initialized = count
    }
  }
}

/// Compiles kernels, several at once, and keeps the results by content.
struct KernelCompiler: Sendable {
  let compiler: NVRTC
  let options: [String]
  let form: NVRTC.Form
  let jobs: Int

  /// Where each source's results are kept, without the ending.
  private func places(of sources: [String]) throws(BuildError) -> [String] {
    let folder = try BuildCache.folder("cubins")
    let identity = ([compiler.version] + options).joined(separator: " ")
    return sources.map { "\(folder)/\(ContentHash.hex([$0, identity]))" }
  }

  /// Bytes for a thread that each source's kernel, compiled before, keeps in local memory for want of registers.
  func spilledByteCounts(of sources: [String]) throws(BuildError) -> [Int] {
    try places(of: sources).map { place in
      guard let file = try? MappedFile(path: place + Self.spilled) else { return 0 }
      return withExtendedLifetime(file) { Int(String(decoding: file.bytes, as: UTF8.self)) ?? 0 }
    }
  }

  /// The ending of what says how much a kernel spills; kernels that spill nothing have no such file.
  private static let spilled = ".spilled"

  /// What each source becomes, in their order.
  ///
  /// - Throws: ``BuildError`` with what failed, every source that did.
  func images(of sources: [String], progress: (Int, Int) -> Void) throws(BuildError) -> [[UInt8]] {
    let places = try places(of: sources)
    let paths = places.map { "\($0).\(form.rawValue)" }
    let missing = sources.indices.filter { access(paths[$0], R_OK) != 0 }
    var done = sources.count - missing.count
    progress(done, sources.count)
    let problems = Mutex<[(index: Int, found: [Diagnostic])]>([])
    // In portions, so that progress shows: compilers run on other threads, and this one reports.
    let portion = max(jobs, 1) * 2
    var first = 0
    while first < missing.count {
      let part = Array(missing[first..<min(first + portion, missing.count)])
      let next = Atomic<Int>(0)
      DispatchQueue.concurrentPerform(iterations: min(jobs, part.count)) { _ in
        while true {
          let position = next.wrappingAdd(1, ordering: .relaxed).oldValue
          if position >= part.count { return }
          let index = part[position]
          do throws(BuildError) { try compile(sources[index], to: places[index]) } catch {
            problems.withLock { $0.append((index, error.problems)) }
          }
        }
      }
      first += part.count
      done += part.count
      progress(done, sources.count)
    }
    let found = problems.withLock { $0 }.sorted { $0.index < $1.index }.flatMap(\.found)
    if !found.isEmpty { throw BuildError(problems: found) }
    var images: [[UInt8]] = []
    for path in paths {
      do {
        let file = try MappedFile(path: path)
        images.append(withExtendedLifetime(file) { Array(file.bytes) })
      } catch { throw BuildError("APUS-B-0032", "\(error)") }
    }
    return images
  }

  private func compile(_ source: String, to place: String) throws(BuildError) {
    let result = try compiler.compile(source, options: options, to: form)
    // The compiler serialises matrix instructions whose registers it cannot keep apart: a kernel that is much slower.
    if result.log.contains("C7510") || result.log.contains("wgmma pipeline crossing") {
      throw BuildError("APUS-B-0051", "matrix instructions are serialised: \(result.log.prefix(600))")
    }
    do {
      let spilled = result.spilledByteCount
      if spilled > 0 { try AtomicFile.write(Array(String(spilled).utf8), to: place + Self.spilled) }
      try AtomicFile.write(result.bytes, to: "\(place).\(form.rawValue)")
    } catch {
      throw BuildError("APUS-B-0013", "\(error)", hint: "APUS_CACHE names another folder.")
    }
  }
}
