public import ApusCore
public import ApusPlan
public import ApusRuntime
import CApusHost

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The processors of this machine, with a pool of threads that launches are spread over.
public final class CPUDevice: Device {
  public let name: String
  public let identity: DeviceIdentity
  public let sharesHostMemory = true
  public let features: CPUFeatures
  public let memoryByteCount: Int
  let pool: ThreadPool

  /// Whether threads stay on processors: they do not wander then, and wait where another process takes theirs.
  public static let affinity = Knob.level(
    "APUS_AFFINITY", 0...1, default: 0,
    "1 keeps each thread of the CPU device but the caller's on a processor of its own")

  /// Starts the threads; `threads` counts the one that calls. Without a number there is one per processor.
  public init(threads: Int? = nil) {
    features = CPUFeatures()
    memoryByteCount = Int(clamping: apus_physical_memory())
    pool = ThreadPool.shared(
      threadCount: threads ?? features.processorCount, isPinned: Self.affinity.level == 1)
    name = "cpu (\(features.level), \(pool.threadCount) threads)"
    identity = DeviceIdentity(
      target: features.level, model: "\(features.model), \(pool.threadCount) threads", driver: "",
      cacheByteCount: Int(clamping: apus_cache_size()))
  }

  /// Number of threads that compute, the calling one included.
  public var threadCount: Int { pool.threadCount }
  public var scratchCount: Int { pool.threadCount }

  public func suitability(of fingerprint: Fingerprint) throws(EngineFileError) -> Int {
    if fingerprint.backend != "cpu" {
      throw EngineFileError(
        "APUS-E-0011", "the engine is for backend '\(fingerprint.backend)', this device is 'cpu'",
        place: "fingerprint", hint: "Build the engine with --backend cpu, or run it on a machine that has the device.")
    }
    guard let missing = features.missing(for: fingerprint.target) else {
      throw EngineFileError(
        "APUS-E-0012", "the engine is for target '\(fingerprint.target)', this machine is \(features.level)",
        place: "fingerprint", hint: "Build the engine with --target \(features.level).")
    }
    let lacking = missing + fingerprint.features.filter { !features.names.contains($0) && !missing.contains($0) }
    if !lacking.isEmpty {
      throw EngineFileError(
        "APUS-E-0012",
        "the engine needs \(lacking.joined(separator: ", ")), this machine (\(features.level)) has "
          + features.names.joined(separator: ", "),
        place: "fingerprint", hint: "Build the engine with --target \(features.level).")
    }
    return features.rank(of: fingerprint.target)
  }

  public func allocate(byteCount: Int) throws(DeviceError) -> DeviceBuffer {
    // Whole huge pages for what is large: fewer address translations in kernels that walk it.
    let hugePage = 2 << 20
    let isLarge = byteCount >= 2 * hugePage
    var base: UnsafeMutableRawPointer?
    let code = byteCount < 0 ? ENOMEM : posix_memalign(&base, isLarge ? hugePage : 64, max(byteCount, 64))
    guard code == 0, let base else {
      throw DeviceError(
        "APUS-D-0001", "\(byteCount) bytes cannot be allocated: \(String(cString: strerror(code)))",
        hint: "Run smaller shapes or fewer contexts.")
    }
    #if os(Linux)
      if isLarge { madvise(base, byteCount, Int32(MADV_HUGEPAGE)) }
    #endif
    return DeviceBuffer(base: base, byteCount: byteCount) { free($0) }
  }

  public func place(constants: UnsafeRawBufferPointer) throws(DeviceError) -> DeviceBuffer? { nil }

  public func load(_ image: KernelImage) throws(DeviceError) -> any DeviceImage { try CPUImage(image) }

  public func makeStream(priority: StreamPriority) throws(DeviceError) -> any DeviceStream { CPUStream(pool: pool) }
}

/// Runs launches at once, on the caller and the pool.
final class CPUStream: DeviceStream {
  private let pool: ThreadPool

  init(pool: ThreadPool) { self.pool = pool }

  func launch(_ launch: DeviceLaunch) { pool.run(launch) }

  func copy(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
    memmove(target, source, byteCount)
  }

  func fill(_ target: UnsafeMutableRawPointer, with byte: UInt8, byteCount: Int) {
    memset(target, Int32(byte), byteCount)
  }

  /// Reads, since what is written in large pieces may go past the caches.
  func occupyCaches(with memory: UnsafeMutableRawPointer, byteCount: Int) {
    ProbeLaunch(apus_find_probes().read, byteCount, source: memory).run(on: pool)
  }

  /// Gives each thread some tens of microseconds of work, in which those that sleep wake up.
  func rouse() { ProbeLaunch(apus_find_probes().multiply, 20_000).run(on: pool) }

  func synchronize() throws(DeviceError) {}
}
