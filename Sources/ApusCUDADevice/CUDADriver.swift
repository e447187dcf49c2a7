package import ApusCore
import CApusCUDA

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The CUDA driver of this machine.
package enum CUDADriver {
  /// A GPU as the driver describes it.
  package struct Processor: Sendable, Hashable {
    package let ordinal: Int
    package let name: String
    /// Compute capability.
    package let major: Int
    package let minor: Int
    package let memoryByteCount: Int
    package let multiprocessorCount: Int
    package let l2ByteCount: Int
    package let clockMegahertz: Int
  }

  /// Opened once; the driver cannot be opened again after it failed.
  private static let opened: Result<Void, DeviceError> = open()

  private static func open() -> Result<Void, DeviceError> {
    let library = CUDALibrary.driver
    let finding = library.find()
    guard let name = finding.name, let handle = dlopen(name, RTLD_LAZY | RTLD_LOCAL) else {
      return .failure(
        DeviceError(
          "APUS-D-0010", "there is no CUDA driver: \(finding.reason)", place: library.names.joined(separator: ", "),
          hint: "Install NVIDIA's driver, or add its folder to LD_LIBRARY_PATH. `apus doctor` lists what was tried."))
    }
    if let missing = apus_cuda_bind(handle) {
      return .failure(
        DeviceError(
          "APUS-D-0011", "the CUDA driver has no function \(String(cString: missing))", place: finding.path ?? name,
          hint: "Install a newer driver."))
    }
    return Result { () throws(DeviceError) in try check(apus_cuda_init(0), "starting the CUDA driver") }
  }

  /// Makes sure that the driver is there and started.
  ///
  /// - Throws: ``DeviceError`` `APUS-D-0010` without a driver, `-0011` for one that is too old, `-0012` with the driver's
  ///   own words.
  package static func require() throws(DeviceError) { try opened.get() }

  /// The newest CUDA that the driver runs: `13.0`.
  ///
  /// - Throws: ``DeviceError`` as ``require()``.
  static func version() throws(DeviceError) -> String {
    try require()
    var version: Int32 = 0
    try check(apus_cuda_driver_version(&version), "asking for the driver's version")
    return "\(version / 1000).\(version % 1000 / 10)"
  }

  /// The GPUs in the driver's order.
  ///
  /// - Throws: ``DeviceError`` as ``require()``.
  package static func processors() throws(DeviceError) -> [Processor] {
    try require()
    var count: Int32 = 0
    try check(apus_cuda_device_count(&count), "counting GPUs")
    var found: [Processor] = []
    for ordinal in 0..<max(count, 0) { found.append(try processor(ordinal)) }
    return found
  }

  private static func processor(_ ordinal: Int32) throws(DeviceError) -> Processor {
    var device: apus_cuda_device = 0
    let what = "describing GPU \(ordinal)"
    try check(apus_cuda_device_get(&device, ordinal), what)
    var name = [CChar](repeating: 0, count: 256)
    try check(apus_cuda_device_name(&name, Int32(name.count), device), what)
    var memory = 0
    try check(apus_cuda_device_memory(&memory, device), what)
    func attribute(_ attribute: Int) throws(DeviceError) -> Int {
      var value: Int32 = 0
      try check(apus_cuda_device_attribute(&value, Int32(attribute), device), what)
      return Int(value)
    }
    return Processor(
      ordinal: Int(ordinal),
      name: String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self),
      major: try attribute(APUS_CUDA_COMPUTE_CAPABILITY_MAJOR),
      minor: try attribute(APUS_CUDA_COMPUTE_CAPABILITY_MINOR),
      memoryByteCount: memory, multiprocessorCount: try attribute(APUS_CUDA_MULTIPROCESSOR_COUNT),
      l2ByteCount: try attribute(APUS_CUDA_L2_CACHE_SIZE), clockMegahertz: try attribute(APUS_CUDA_CLOCK_RATE) / 1000)
  }

  /// Turns the driver's answer into an error with its words.
  static func check(_ result: apus_cuda_result, _ what: String) throws(DeviceError) {
    if result == APUS_CUDA_SUCCESS { return }
    if fatal.contains(result) {
      throw DeviceError(
        "APUS-D-0016", "the GPU does no more work for this process: \(words(result)), found while \(what)",
        place: "the CUDA driver",
        hint: "Only another process can use this GPU. APUS_SYNC=1 names the step; compute-sanitizer finds the cause.")
    }
    throw DeviceError("APUS-D-0012", "\(what) failed: \(words(result))", place: "the CUDA driver")
  }

  /// Results after which every call gives the same: an error of memory or of the card (214, 220, 226), a lost or unavailable
  /// card (46, 999), kernels that faulted, trapped or ran too long (700, 702, 709…721).
  private static let fatal: Set<apus_cuda_result> = Set(
    [46, 214, 220, 226, 700, 702, 709, 999] + Array(710...721))

  /// What the driver says of a result.
  static func words(_ result: apus_cuda_result) -> String {
    var text: UnsafePointer<CChar>?
    _ = apus_cuda_error_text(result, &text)
    return "\(text.map { String(cString: $0) } ?? "error") (\(result))"
  }
}
