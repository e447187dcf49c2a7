import ApusCore
import ApusRuntime
import CApusCUDA

/// Host memory that the GPU reads and writes by itself.
final class PinnedMemory: @unchecked Sendable {
  let base: UnsafeMutableRawPointer
  private let context: CUDAContext

  init(byteCount: Int, _ context: CUDAContext) throws(DeviceError) {
    self.context = context
    context.enter()
    var base: UnsafeMutableRawPointer?
    try CUDADriver.check(apus_cuda_host_allocate(&base, byteCount, 0), "allocating \(byteCount) pinned bytes")
    guard let base else { throw DeviceError("APUS-D-0012", "the driver gave no memory", place: "the CUDA driver") }
    self.base = base
  }

  deinit {
    context.enter()
    _ = apus_cuda_host_free(base)
  }
}

/// Memory that the GPU and the host both reach: pages move to whoever touches them.
final class ManagedMemory: @unchecked Sendable {
  let base: UnsafeMutableRawPointer
  private let context: CUDAContext
  private let byteCount: Int

  /// - Throws: ``DeviceError`` `APUS-D-0001` when the GPU has not as much free: pages that have nowhere to go would stop it.
  init(byteCount: Int, _ context: CUDAContext) throws(DeviceError) {
    self.context = context
    self.byteCount = byteCount
    context.enter()
    var (available, all) = (0, 0)
    try CUDADriver.check(apus_cuda_memory_info(&available, &all), "asking for free memory")
    if byteCount > available {
      throw DeviceError(
        "APUS-D-0001", "\(byteCount) bytes of managed memory are asked for, \(available) of the GPU's \(all) are free",
        hint: "Managed memory is kept within the GPU's: ask for less.")
    }
    var base: apus_cuda_address?
    try CUDADriver.check(
      apus_cuda_managed_allocate(&base, byteCount, UInt32(APUS_CUDA_MANAGED_GLOBAL)),
      "allocating \(byteCount) managed bytes")
    guard let base else { throw DeviceError("APUS-D-0012", "the driver gave no memory", place: "the CUDA driver") }
    self.base = base
    _ = apus_cuda_managed_advise(base, byteCount, Int32(APUS_CUDA_ADVISE_PREFERRED), context.device)
    // The host's number is −1.
    _ = apus_cuda_managed_advise(base, byteCount, Int32(APUS_CUDA_ADVISE_ACCESSED), -1)
  }

  deinit {
    context.enter()
    _ = apus_cuda_managed_free(base)
  }
}
